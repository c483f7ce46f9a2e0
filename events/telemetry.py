"""What nodes tell about their transcodes, anonymously: topic `telemetry`, key = the event's own id. Kept for ever.

Nothing here says whose node it was: no address, no name of a file, a title, a machine or a person, no id that comes
twice. `producers.anonymity` refuses what looks like one before it is on the log. The envelope's id is the client's
`event_id` when it sent one: what comes again with the same id is the same event. Its time is the server's, in whole
seconds; its source is the same for all.
"""

from typing import Annotated

import msgspec
from pydantic import Field

from events.envelope import Event

WHOLE_MAX = 2**63 - 1


class TelemetryReported(Event, type="kinolog.telemetry.reported.v1"):
    """A node reports a job that began or ended.

    `event_type` is usually `job_started` or `job_finished`, `status` is `success` or `failure`; other words are kept as
    they came. `speed_factor` is seconds of source per second. `resolution` is that of the output, as `1080p`.
    """

    app_version: str
    event_type: str
    status: str | None = None
    failure_reason: str | None = None
    hardware_model: str | None = None
    encoder: str | None = None
    video_codec: str | None = None
    resolution: str | None = None
    duration_ms: int | None = Field(None, ge=0, le=WHOLE_MAX)
    input_size_bytes: int | None = Field(None, ge=0, le=WHOLE_MAX)
    output_size_bytes: int | None = Field(None, ge=0, le=WHOLE_MAX)
    speed_factor: float | None = None


_Whole = Annotated[int, msgspec.Meta(ge=0, le=WHOLE_MAX)]


class Report(msgspec.Struct, gc=False, kw_only=True):
    """The fields of `TelemetryReported`, for who reads and writes them by the thousand."""

    app_version: str
    event_type: str
    status: str | None = None
    failure_reason: str | None = None
    hardware_model: str | None = None
    encoder: str | None = None
    video_codec: str | None = None
    resolution: str | None = None
    duration_ms: _Whole | None = None
    input_size_bytes: _Whole | None = None
    output_size_bytes: _Whole | None = None
    speed_factor: float | None = None


TelemetryEvent = TelemetryReported
