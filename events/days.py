"""Days that were closed: their figures as they were known then, and how far the log was read; topic `days`, key = day."""

from typing import Annotated, Literal

from pydantic import Field

from events.envelope import Event, Value


class DayFigures(Value):
    """Figures of a local day. A play counts on the day on which it began; minutes are whole ones.

    `library_size_total` videos and `storage_used_bytes` of their sources are those at the end of the day.
    """

    total_plays: int
    unique_users: int
    total_watch_minutes: int
    total_bytes_served: int
    transcodes: int
    direct_plays: int
    direct_streams: int
    transcode_failures: int
    new_media_added: int
    library_size_total: int
    storage_used_bytes: int


class Covered(Value):
    """Position up to which a projection had folded the log, as `X-Log-Position` has it."""

    projection: Annotated[str, Field(max_length=100)]
    position: Annotated[str, Field(max_length=4096)]


class DayClosed(Event, type="kinolog.day.closed.v1"):
    """A local day is over: its figures, from the log before `positions`, which are those of each projection that they are from.

    `day` is as 2026-03-14. A timer closes a day after its midnight; a person may have it counted again.
    """

    day: Annotated[str, Field(max_length=10)]
    zone: Annotated[str, Field(max_length=64)]
    figures: DayFigures
    positions: Annotated[tuple[Covered, ...], Field(max_length=16)]
    why: Literal["midnight", "asked"] = "midnight"


DayEvent = DayClosed
