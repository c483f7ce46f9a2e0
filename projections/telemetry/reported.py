"""Reads telemetry reports from the log in less than half the time that `events.codec` takes, and means the same by them.

The codec reads envelopes and leaves the data to pydantic; here msgspec reads all lines at once. Whatever is not plainly
a report goes the codec's way, which knows older versions and says what is wrong: so both accept and refuse the same.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from events.codec import decode_all, is_uuid
from events.envelope import Envelope, new_tuple
from events.telemetry import Report

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Line(msgspec.Struct, gc=False, kw_only=True):
    """The members of the JSON document; see `events.codec.Wire`."""

    specversion: Literal["1.0"]
    id: str
    source: _Text
    type: Literal["kinolog.telemetry.reported.v1"]
    subject: _Text
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    correlationid: _Text
    causationid: None = None
    data: Report


_read_lines = msgspec.json.Decoder(_Line).decode_lines


def read_all(records: Sequence[bytes]) -> list[Envelope[Any]]:
    """Return the events of records, their data `Report`s, or `TelemetryReported`s where one is not plain.

    Raises InvalidEvent when one of them cannot be read.
    """
    lines = b"\n".join(records)
    if b"\\" not in lines and lines.count(b"\n") == len(records) - 1:  # a NUL would be escaped; a record is one line
        try:
            found = _read_lines(lines)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return decode_all(records)
        envelopes = [
            new_tuple(Envelope, (line.id, line.source, line.subject, line.time, line.data, line.correlationid, None))
            for line in found
            if line.time.tzinfo is UTC and is_uuid(line.id)
        ]
        if len(envelopes) == len(records):
            return envelopes
    return decode_all(records)
