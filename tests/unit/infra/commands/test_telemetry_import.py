"""History as it goes onto the log: the same id at every import, the time of then, nothing that may not be said."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from events.codec import decode
from infra.commands.support.exits import UsageFault
from infra.commands.telemetry import Imported, Lines, Table, _judge
from producers.anonymity import Refused
from producers.imports import record_of, row_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0190a000-0000-7000-8000-000000000001"
ROW = {
    "id": "01HXYZ0000000000000000000A",
    "created_at": "2026-01-02 03:04:05",
    "app_version": "1.0.0",
    "event_type": "job_finished",
    "status": "success",
    "failure_reason": None,
    "hardware_model": "Nvidia",
    "encoder": "av1_nvenc",
    "video_codec": "av1",
    "resolution": "1080p",
    "duration_ms": 2500,
    "input_size_bytes": 1024000,
    "output_size_bytes": 600100,
    "speed_factor": 2.65,
}
SCHEMA = f"CREATE TABLE raw_events ({', '.join(ROW)})"


def database(path: Path, *rows: dict[str, Any]) -> Path:
    """Write rows into a table as the predecessor has it, beside another table."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS leaderboard (id, encoder)")
        connection.execute(SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS"))
        marks = ", ".join("?" * len(ROW))
        connection.executemany(f"INSERT INTO raw_events VALUES ({marks})", [tuple(row.values()) for row in rows])
    connection.close()
    return path


def event(**changes: Any) -> Any:
    """The event that a row becomes."""
    key, value, timestamp_ms = record_of(ROW | changes, ID, NOW)
    envelope = decode(value)
    assert key.decode() == envelope.id == envelope.subject == ID
    assert timestamp_ms == envelope.time.timestamp() * 1000
    return envelope


def test_a_row_keeps_what_it_said_and_when() -> None:
    envelope = event()
    assert envelope.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert envelope.actor == "system:cli", "whose node it was is not known any more"
    assert envelope.data.model_dump(exclude_none=True) == {
        name: value for name, value in ROW.items() if name not in ("id", "created_at") and value is not None
    }


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T05:04:05.9+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05 UTC", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1_767_323_045, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (None, NOW),
        ("2999-01-01", NOW),
    ],
)
def test_times_are_read_as_they_were_written_and_never_lie_in_the_future(created_at: object, expected: datetime) -> None:
    assert event(created_at=created_at).time == expected


@pytest.mark.parametrize(
    ("speed", "held"),
    [(-3, 0.0), (5e9, 1e6), (float("inf"), 1e6), (float("nan"), None), ("fast", None), (2, 2.0), (None, None)],
)
def test_speeds_are_held_to_their_range(speed: object, held: float | None) -> None:
    assert event(speed_factor=speed).data.speed_factor == held


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"app_version": None}, "row"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"input_size_bytes": "many"}, "input_size_bytes"),
        ({"hardware_model": "/home/ann/film.mkv"}, "hardware_model"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": [1]}, "created_at"),
        ({"created_at": 1e300}, "created_at"),
    ],
)
def test_what_may_not_be_said_is_refused_by_the_name_of_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        event(**changes)
    assert refused.value.field == field
    assert "ann" not in str(refused.value)


def test_ids_are_the_same_at_every_import_and_those_of_different_rows_differ() -> None:
    origin = {"number": 1, "origin": "a file", "line": "{}"}
    ids = [
        row_id({"event_id": ID}, **origin),  # type: ignore[arg-type]
        row_id({"id": "A"}, **origin),  # type: ignore[arg-type]
        row_id({"id": "B"}, **origin),  # type: ignore[arg-type]
        row_id({}, **origin),  # type: ignore[arg-type]
        row_id({}, **origin | {"number": 2}),  # type: ignore[arg-type]
        row_id({}, **origin | {"origin": "another"}),  # type: ignore[arg-type]
        row_id({}, **origin | {"line": "{ }"}),  # type: ignore[arg-type]
    ]
    assert ids[0] == ID and len(set(ids)) == len(ids)
    assert all(str(UUID(id_)) == id_ for id_ in ids)
    assert row_id({"id": "A"}, number=9, origin="elsewhere", line="x") == ids[1]


def test_a_database_is_read_row_by_row_from_anywhere(tmp_path: Path) -> None:
    source = Table(database(tmp_path / "alembic.db", *(ROW | {"id": f"id {n}"} for n in range(5))))
    rows = list(source.rows(0, 0))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5] and source.end() == rows[-1].next
    assert list(source.rows(rows[2].next, rows[2].number)) == rows[3:]
    records, refused = _judge(rows, source.origin, NOW)
    assert len({key for key, _, _ in records}) == 5 and not refused
    origin = source.origin
    database(source.path, ROW | {"id": "id 5"})
    assert source.origin == origin and [row.number for row in source.rows(rows[-1].next, 5)] == [6]


def test_what_is_no_such_database_is_a_fault_of_usage(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at" * 100)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE films (id)")
    connection.close()
    for name in ("text.db", "other.db"):
        with pytest.raises(UsageFault):
            Table(tmp_path / name).end()


def test_lines_are_read_from_anywhere_and_keep_their_ids_when_the_file_grows(tmp_path: Path) -> None:
    least = {"app_version": "1", "event_type": "job_started"}
    path = tmp_path / "history.ndjson"
    path.write_text("".join(f"{json.dumps(least)}\n" for _ in range(3)) + "\nnot json\n[1]\n")
    source = Lines(path)
    rows = list(source.rows(0, 0))
    records, refused = _judge(rows, source.origin, NOW)
    assert (len({key for key, _, _ in records}), refused) == (3, {"line": 2})
    assert [row.number for row in source.rows(rows[0].next, rows[0].number)] == [2, 3, 5, 6]
    with path.open("a") as file:
        file.write(json.dumps(least) + "\n")
    more, _ = _judge(list(source.rows(0, 0)), source.origin, NOW)
    assert more[:3] == records and len(more) == 4
    assert len(list(source.rows(rows[-1].next, rows[-1].number))) == 1


def test_how_far_an_import_came_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "imports" / "one.json"
    assert Imported.load(kept) == Imported()
    done = Imported(10, 2, 1)
    done.refused["encoder"] += 1
    done.save(kept)
    assert Imported.load(kept) == done
