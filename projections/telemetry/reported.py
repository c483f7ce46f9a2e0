"""Decodes telemetry reports in less than half the time of `events.codec`, with the same result.

The codec parses envelopes and leaves the data to pydantic; here msgspec parses all lines at once. A record that is not
plainly a report goes to the codec, which knows older versions and names errors. So both accept and refuse the same records.
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
    """Members of the JSON document; see `events.codec.Wire`."""

    specversion: Literal["1.0"]
    id: str
    source: _Text
    type: Literal["kinolog.telemetry.reported.v1"]
    subject: _Text
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    correlationid: _Text
    causationid: None = None
    actor: str | None = None
    client: None = None
    data: Report


_read_lines = msgspec.json.Decoder(_Line).decode_lines


def read_all(records: Sequence[bytes]) -> list[Envelope[Any]]:
    """Return the envelopes of records. Their data are `Report`s, or `TelemetryReported`s if any record needs the codec.

    Raises InvalidEvent when a record cannot be decoded.
    """
    lines = b"\n".join(records)
    if b"\\" not in lines and lines.count(b"\n") == len(records) - 1:  # no escapes, so no NUL; one line per record
        try:
            found = _read_lines(lines)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return decode_all(records)
        envelopes = [
            new_tuple(
                Envelope, (line.id, line.source, line.subject, line.time, line.data, line.correlationid, None, line.actor, None)
            )
            for line in found
            if line.time.tzinfo is UTC and is_uuid(line.id)
        ]
        if len(envelopes) == len(records):
            return envelopes
    return decode_all(records)
