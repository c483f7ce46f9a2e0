"""Days that were closed: their figures as they were known then, and how far the log was read; topic `days`, key = day."""

from typing import Annotated, Literal

from pydantic import Field

from events.envelope import Event, Value

Day = Annotated[str, Field(max_length=10, pattern=r"^\d{4}-\d\d-\d\d$")]


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


class DayClosed(Event, type="kinolog.day.closed.v1"):
    """A local day is over: its figures, from the log before `positions`, which are those of each projection that they are from.

    A timer closes a day after its midnight; a person may have it counted again.
    """

    day: Day
    zone: Annotated[str, Field(max_length=64)]
    figures: DayFigures
    positions: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=4096)]]
    why: Literal["midnight", "asked"] = "midnight"


DayEvent = DayClosed
