"""Anonymous reports of nodes about their transcodes: topic `telemetry`, key = the event's own id. Kept for ever.

Nothing here identifies the node: no address, no name of a file, title, machine or person, no id that recurs.
`producers.anonymity` refuses values that look like one before they reach the log. The envelope's id is the client's
`event_id` when it sent one: a repeat with the same id is the same event. The time is the server's, in whole seconds; the
source is the same for all.
"""

from typing import Annotated

import msgspec
from pydantic import Field

from events.envelope import Event

WHOLE_MAX = 2**63 - 1


class TelemetryReported(Event, type="kinolog.telemetry.reported.v1"):
    """A node reports the start or end of a job.

    `event_type` is usually `job_started` or `job_finished`, `status` is `success` or `failure`; other words are kept
    unchanged. `speed_factor` is seconds of source per second. `resolution` is the output's, such as `1080p`.
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
    """The fields of `TelemetryReported`, as a fast struct for code that reads and writes thousands of them."""

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
