"""Import of past reports onto the log, from the predecessor's table or from lines of JSON. Pure.

The rules for new reports hold here too: only known fields, nothing that leads to a person. A value that the predecessor
accepted and Kinolog does not is adapted where this keeps its meaning, and refused otherwise.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec

from events.actors import COMMAND_LINE
from events.envelope import Record
from producers.anonymity import Refused
from producers.reports import SPEED_MAX, Report, check_report, records_of, second_of

NAMESPACE = UUID("6f0e5f0a-4d0c-5d7e-9d59-0b6a3f0b9c11")
"""Namespace of the ids of imported reports."""


def row_id(row: Mapping[str, Any], *, number: int, origin: str, line: str) -> str:
    """Return the id of a row, the same at every import.

    The id is the row's `event_id`. Without one it is made of the row's `id` in the predecessor's table. Without that it is
    made of the line's number and text in a file, identified by `origin`: a file that has grown keeps the ids of its old lines.
    """
    if isinstance(event_id := row.get("event_id"), str):
        return event_id
    if (known := row.get("id")) is not None:
        return str(uuid5(NAMESPACE, f"row {known}"))
    return str(uuid5(uuid5(NAMESPACE, origin), f"{number} {line}"))


def record_of(row: Mapping[str, Any], event_id: str, now: datetime) -> Record:
    """Return the row as a record of the command line, with the time `created_at`, or `now` when that is missing or later than now.

    Raises Refused, which names the field, for a wrong type, a missing field, or a value that `producers.anonymity` refuses.
    """
    known = {name: row[name] for name in Report.__struct_fields__ if row.get(name) is not None}
    if "speed_factor" in known:
        known["speed_factor"] = _held(known["speed_factor"])
    try:
        report = msgspec.convert({**known, "event_id": event_id}, Report)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise Refused(path.strip("`.") or "row", what) from None
    check_report(report)
    time = min(_moment(row.get("created_at"), now), now)
    (record,) = records_of([report], second_of(time.timestamp()), lambda: event_id, COMMAND_LINE)
    return record


def _held(speed: object) -> float | None:
    """Clamp a speed to 0..SPEED_MAX; a value that is no number becomes None."""
    if not isinstance(speed, int | float) or math.isnan(speed):
        return None
    return min(max(float(speed), 0.0), float(SPEED_MAX))


def _moment(created_at: object, now: datetime) -> datetime:
    """Read seconds since 1970, or a time in SQLite's or ISO 8601 form, in UTC unless it has a zone. Raises Refused."""
    try:
        match created_at:
            case None:
                return now
            case int() | float():
                return datetime.fromtimestamp(created_at, UTC)
            case str():
                time = datetime.fromisoformat(created_at.removesuffix(" UTC"))
                return time if time.tzinfo else time.replace(tzinfo=UTC)
            case _:
                raise Refused("created_at", "is no time")
    except (ValueError, OverflowError, OSError):
        raise Refused("created_at", "is no time") from None
