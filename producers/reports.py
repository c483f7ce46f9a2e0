"""What a node reports, from the bytes of its request to the bytes on the log, in a few microseconds.

The same fields as `events.telemetry.TelemetryReported`, and the same bytes that `events.codec.encode` would make of it;
tests hold both. Everything here is pure.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from events import telemetry
from events.envelope import Record
from events.errors import InvalidRequest
from events.faults import words_of_type
from events.telemetry import TelemetryReported
from producers.anonymity import Refused, check_again, check_id

SOURCE = "kinolog/telemetry"
"""The same for every event: where it came in says nothing about where it came from."""
SPEED_MAX = 1_000_000

_is_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_MISSING = re.compile(r"Object missing required field `(\w+)`").match


class NotJson(InvalidRequest):
    """The body is not a JSON document."""


class Report(telemetry.Report, gc=False, omit_defaults=True, kw_only=True):
    """A report as it is sent; fields of newer clients are ignored. `event_id` is for the envelope."""

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
    data: Report


_decode = msgspec.json.Decoder(Report).decode
_decode_lines = msgspec.json.Decoder(Report).decode_lines
_encode = msgspec.json.Encoder().encode


def read(body: bytes) -> Report:
    """Return the report in a body, which may be said.

    Raises NotJson; Refused, naming the field, for a wrong type, a missing field, or what `producers.anonymity` refuses.
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
    """Return the reports in lines of which none is wrong; None when one is, and each has to be read by itself."""
    try:
        reports = _decode_lines(lines)
        for report in reports:
            check_report(report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused):
        return None
    return reports


def check_report(report: Report) -> None:
    """Raise Refused for a value that may not be said; make `event_id` lower case."""
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
    """A whole second, as both of the forms that a record has it in."""

    time: datetime
    timestamp_ms: int


def second_of(seconds: float) -> Second:
    """Return the second of a moment in seconds since 1970."""
    whole = int(seconds)
    return Second(datetime.fromtimestamp(whole, UTC), whole * 1000)


def records_of(reports: Iterable[Report], now: Second, new_id: Callable[[], str]) -> list[Record]:
    """Return the events on the log: under the reports' own ids, else new ones; their time is `now`.

    Takes the `event_id` out of the reports.
    """
    time, timestamp_ms = now
    records = []
    for report in reports:
        id_ = report.event_id or new_id()
        report.event_id = None
        line = _Line(id=id_, subject=id_, time=time, correlationid=id_, data=report)
        records.append((id_.encode(), _encode(line), timestamp_ms))
    return records


def _refusal(message: str) -> Refused:
    """Name the field that msgspec complains of; its words have the types that it saw, and never a value."""
    what, _, path = message.partition(" - at `$")
    if missing := _MISSING(what):
        return Refused(missing[1], "is missing")
    return Refused(path.strip("`.") or "body", words_of_type(what))


def _words(error: Exception) -> str:
    """Return what is wrong with the JSON. Nothing of the body is in it: msgspec tells a place, not what is there."""
    if isinstance(error, msgspec.DecodeError):
        return str(error)
    return "nested too deeply" if isinstance(error, RecursionError) else "not UTF-8"
