"""Streams: one viewer watches one video; topic `streams`, key = viewer_id.

All of a viewer is in one partition, so that folds see their sessions in order. `viewer_id` is a keyed hash whose key lies outside
the log: without it nobody can find a person's events. Counters are totals since the session began, so a repeated or lost event
changes nothing; times are those of the events. Positions and lengths are milliseconds of the video.
"""

from typing import Annotated, Literal

from pydantic import Field

from events.envelope import Event
from events.text import MachineLine

Playback = Literal["direct_play", "direct_stream", "transcode"]
PlayState = Literal["playing", "paused", "seeking", "stalled"]
WhyEnded = Literal["client", "expired"]
WEEK_MS = 7 * 24 * 3600 * 1000
Moment = Annotated[int, Field(ge=0, le=WEEK_MS)]
"""A position, length or total of time, at most a week."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Size = Annotated[int, Field(ge=0, le=2**50)]
Word = Annotated[MachineLine, Field(max_length=64)]
Id = Annotated[str, Field(max_length=200)]


class StreamStarted(Event, type="kinolog.stream.started.v1"):
    """A viewer begins to watch a video. `media_ms` is its length; `client` the player or browser."""

    viewer_id: str
    session_id: Id
    video_id: Id
    playback: Playback = "direct_play"
    position_ms: Moment = 0
    media_ms: Moment | None = None
    quality: Word | None = None
    codec: Word | None = None
    resolution: Word | None = None
    container: Word | None = None
    client: Word | None = None


class StreamTicked(Event, type="kinolog.stream.ticked.v1"):
    """A sign of life of a stream, every 30 s and at each change: where it is, and how it goes.

    `state` holds from here on; `rate` is the speed of playback. `start_up_ms` is the time from the click to the first picture;
    `stalled_ms`, `switches` (of quality) and `errors` are totals.
    """

    viewer_id: str
    session_id: Id
    position_ms: Moment
    state: PlayState = "playing"
    rate: float = Field(1.0, gt=0, le=16)
    quality: Word | None = None
    start_up_ms: Moment | None = None
    stalled_ms: Moment = 0
    switches: Count = 0
    errors: Count = 0


class StreamServed(Event, type="kinolog.stream.served.v1"):
    """A server has sent media to a stream: `bytes_served` since it began to count under the name `server`.

    `exact` bytes were sent by us; others were redirected to a store, which may have sent less.
    """

    viewer_id: str
    session_id: Id
    server: Id
    bytes_served: Size
    exact: bool = True


class StreamEnded(Event, type="kinolog.stream.ended.v1"):
    """A stream is over. Without this event it ends when no sign of life comes."""

    viewer_id: str
    session_id: Id
    position_ms: Moment | None = None
    why: WhyEnded = "client"


class StreamFailed(Event, type="kinolog.stream.failed.v1"):
    """A stream ended by a fault, as its client reports it."""

    viewer_id: str
    session_id: Id
    position_ms: Moment | None = None
    fault: Annotated[MachineLine, Field(max_length=200)]


StreamEvent = StreamStarted | StreamTicked | StreamServed | StreamEnded | StreamFailed
