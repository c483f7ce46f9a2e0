"""One input never stops the others: whatever stands on the log, every feed goes on, or says where it stands and why."""

import json
import random
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from events.codec import encode
from events.envelope import Event, Recorded
from events.topics import TOPIC_OF, Topic, partition_for
from infra.runtime import postgres
from infra.runtime.settings import Settings
from processors import files, planning
from projections.fold import Projection
from projections.log import decoded
from projections.registry import PROJECTIONS
from projections.runner import Batch, Slice, install
from tests.support.folding import gather
from tests.support.strategies import EVENT_TYPES, envelopes

EXAMPLES = 12
"""Of each event."""
NASTY = st.text(st.characters(), max_size=40) | st.text(st.sampled_from("\0\ud800\udfff\x07\x1b\n'\"\\\u2028\U0001f600"), max_size=9)
LONG = st.integers(0, 2**32).map(lambda seed: "".join(map(chr, random.Random(seed).choices(range(0x100, 0xD7FF), k=30_000))))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all texts in a JSON document."""
    if isinstance(value, str):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(inner, (*path, key))


@st.composite
def records(draw: st.DrawFn, event: type[Event]) -> tuple[Topic, bytes]:
    """A record as somebody who writes to the log himself might write it: one text of an event is anything at all."""
    document = json.loads(encode(draw(envelopes(event))))
    place = draw(st.sampled_from([path for path in leaves(document) if path[0] in ("data", "subject", "source")]))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = draw(NASTY | LONG)
    return TOPIC_OF[event.TYPE], json.dumps(document).encode()


def examples(event: type[Event]) -> list[tuple[Topic, bytes]]:
    """Draw some."""
    found: list[tuple[Topic, bytes]] = []

    @bounds(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(records(event))
    def draw(record: tuple[Topic, bytes]) -> None:
        found.append(record)

    draw()
    return found


async def test_no_text_on_the_log_stops_a_fold(settings: Settings) -> None:
    """What cannot be read becomes a dead letter; everything else is folded and stored, however odd."""
    told = [record for event in EVENT_TYPES for record in examples(event)]
    pool = await postgres.open_pool(settings)
    complaints: list[str] = []
    async with pool.connection() as connection:
        runners = [await install(connection, projection) for projection in (*PROJECTIONS.values(), planning.PROJECTION, files.PROJECTION)]
        for runner in runners:
            positions = await runner.positions(connection)
            for topic, value in told:
                if topic not in runner.projection.topics:
                    continue
                place = (topic.name, partition_for("x", topic.partitions))
                readable, _dead = decoded(*place, [(positions[place], value)])
                try:
                    await runner.apply(connection, batch(runner.projection, place, positions[place], readable))
                except Exception as error:
                    complaints.append(f"{runner.projection.name}: {type(error).__name__}: {error} of {value[:60]!r}")
                    continue
                positions[place] += 1
    await pool.close()
    assert not complaints, f"{len(complaints)} events stop a projection:\n" + "\n".join(complaints[:60])


def batch(projection: Projection, place: tuple[str, int], start: int, readable: list[Recorded[Event]]) -> Batch:
    """One record as its reader offers it."""
    return Batch((Slice(*place, start, start + 1, 1, None),), readable, gather(projection, readable))


