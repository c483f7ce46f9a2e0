"""A topic with events of version 1 and 2 replays as if all had been of version 2, from the log and from files."""

from collections.abc import Collection, Iterator
from typing import Any

import msgspec
import pytest

from events.envelope import REGISTRY, Event, Recorded
from events.topics import VIDEOS
from events.upcasters import UPCASTERS, Data, upcasts
from infra.runtime.clock import new_id
from projections.folding.fold import Table, table_row
from projections.folding.log import decoded
from projections.history.parquet import NO_LINK, Record, parsed, read_batches, write_segment
from projections.history.replay import InMemory, View

OLD, NEW = "kinolog.test.counted.v1", "kinolog.test.counted.v2"


@table_row
class Total:
    """Milliseconds of a video."""

    video_id: str
    ms: int = 0


def keys_of(recorded: Recorded[Event]) -> Collection[tuple[str]]:
    return ((recorded.envelope.data.video_id,),)  # type: ignore[attr-defined]


def evolve(total: Total | None, recorded: Recorded[Event]) -> Total:
    event: Any = recorded.envelope.data
    return Total(event.video_id, (total.ms if total else 0) + event.ms)


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    """An event that had seconds and has milliseconds."""

    class Counted(Event, type=NEW):
        video_id: str
        ms: int

    @upcasts(OLD, to=NEW)
    def to_milliseconds(data: Data) -> Data:
        return {"video_id": data["video_id"], "ms": round(data["seconds"] * 1000)}

    yield
    del REGISTRY[NEW], UPCASTERS[OLD]


def line(type_: str, **data: object) -> bytes:
    known = {"specversion": "1.0", "source": "test", "subject": "a", "time": "2026-03-01T12:00:00Z", "correlationid": "a"}
    return msgspec.json.encode({**known, "id": new_id(), "type": type_, "data": {"video_id": "a", **data}})


def totals(batches: Iterator[list[Record]]) -> dict[Any, Any]:
    state = InMemory(View(Table("totals", Total, ("video_id",), keys_of, evolve), (VIDEOS,)))
    for batch in batches:
        records, dead = decoded(VIDEOS.name, 0, batch)
        assert not dead
        state.apply(records)
    return state.rows


def test_both_versions_replay_as_one() -> None:
    lines = [line(OLD, seconds=n) if n % 3 else line(NEW, ms=1000 * n) for n in range(50)]
    records = list(enumerate(lines))
    file, _ = write_segment(VIDEOS.name, 0, parsed(records), NO_LINK)
    wanted = {("a",): Total("a", 1000 * sum(range(50)))}
    assert totals(iter([records])) == totals(read_batches(file, 7)) == wanted
