"""Reports of nodes, from the bytes of a request to the bytes on the log, in a few microseconds.

The fields are those of `events.telemetry.TelemetryReported`, and the bytes equal those of `events.codec.encode`; tests
hold both. Everything here is pure.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from events import telemetry
from events.actors import NODE
from events.envelope import Record
from events.errors import InvalidRequest
from events.faults import words_of_type
from events.telemetry import TelemetryReported
from producers.anonymity import Refused, check_again, check_id

SOURCE = "kinolog/telemetry"
"""The same for every event, so that the source never reveals a report's origin."""
SPEED_MAX = 1_000_000

_is_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_MISSING = re.compile(r"Object missing required field `(\w+)`").match


class NotJson(InvalidRequest):
    """The body is not a JSON document."""


class Report(telemetry.Report, gc=False, omit_defaults=True, kw_only=True):
    """A report as a client sends it; fields of newer clients are ignored. `event_id` is for the envelope."""

    speed_factor: Annotated[float, msgspec.Meta(ge=0, le=SPEED_MAX)] | None = None
    event_id: str | None = None


class _Line(msgspec.Struct, gc=False, kw_only=True):
    """The envelope; see `events.codec`."""

    specversion: str = "1.0"
    id: str
    source: str = SOURCE
    type: str = TelemetryReported.TYPE
    subject: str
    time: datetime
    correlationid: str
    actor: str = NODE
    data: Report


_decode = msgspec.json.Decoder(Report).decode
_decode_lines = msgspec.json.Decoder(Report).decode_lines
_encode = msgspec.json.Encoder().encode


def read(body: bytes) -> Report:
    """Return the report in a body, checked by `producers.anonymity`.

    Raises NotJson. Raises Refused, which names the field, for a wrong type, a missing field or a forbidden value.
    """
    try:
        report = _decode(body)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(_words(error)) from None
    check_report(report)
    return report


def read_lines(lines: bytes) -> list[Report] | None:
    """Return the reports in the lines when all are valid; None when one is not: then the caller reads each line by itself."""
    try:
        reports = _decode_lines(lines)
        for report in reports:
            check_report(report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused):
        return None
    return reports


def check_report(report: Report) -> None:
    """Raise Refused for a forbidden value; make `event_id` lower case."""
    check_again(
        report.app_version,
        report.event_type,
        report.status,
        report.failure_reason,
        report.hardware_model,
        report.encoder,
        report.video_codec,
        report.resolution,
    )
    if (event_id := report.event_id) is not None:
        if not _is_uuid(event_id):
            raise Refused("event_id", "is not a UUID such as 0190a000-0000-7000-8000-000000000001")
        if event_id[14] in "126":
            check_id(UUID(event_id))
        report.event_id = event_id.lower()


class Second(NamedTuple):
    """A whole second, in both forms that a record contains."""

    time: datetime
    timestamp_ms: int


def second_of(seconds: float) -> Second:
    """Return the whole second of a time in seconds since 1970."""
    whole = int(seconds)
    return Second(datetime.fromtimestamp(whole, UTC), whole * 1000)


def records_of(reports: Iterable[Report], now: Second, new_id: Callable[[], str], actor: str = NODE) -> list[Record]:
    """Return the records for the log, signed by `actor`. Their ids are the reports' own, or new ones; their time is `now`.

    Removes the `event_id` from the reports.
    """
    time, timestamp_ms = now
    records = []
    for report in reports:
        id_ = report.event_id or new_id()
        report.event_id = None
        line = _Line(id=id_, subject=id_, time=time, correlationid=id_, actor=actor, data=report)
        records.append((id_.encode(), _encode(line), timestamp_ms))
    return records


def _refusal(message: str) -> Refused:
    """Return a refusal that names the field in msgspec's message; such a message has the types it saw, never a value."""
    what, _, path = message.partition(" - at `$")
    if missing := _MISSING(what):
        return Refused(missing[1], "is missing")
    return Refused(path.strip("`.") or "body", words_of_type(what))


def _words(error: Exception) -> str:
    """Return the fault of the JSON without any text of the body: msgspec reports the position, not the contents."""
    if isinstance(error, msgspec.DecodeError):
        return str(error)
    return "nested too deeply" if isinstance(error, RecursionError) else "not UTF-8"
