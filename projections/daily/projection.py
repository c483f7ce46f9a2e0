"""Daily figures beside those of streams: what came into the library and left it, what failed, and days as they were closed.

Topics `videos`, `jobs` and `days` fill tables of their own. Days are those of the zone in the rules of viewing.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import KW_ONLY, replace
from datetime import date, datetime
from functools import cache, partial
from pathlib import Path
from typing import assert_never

from events.days import DayClosed, DayFigures
from events.envelope import Recorded
from events.jobs import JobFact, JobFailed
from events.topics import DAYS, JOBS, VIDEOS
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoEvent,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
    VideoVisibilityChanged,
)
from projections.folding.fold import Projection, Rules, Table, table_row
from projections.folding.queries import load
from projections.folding.sums import sums
from projections.streams.rules import day_of

SIZE_MAX = 2**50
"""Bytes of a video that count at most: sums of any number of them can be stored."""
_SQL = load(Path(__file__).with_name("projection.sql"))


@table_row
class Item:
    """A video of the library, from its upload until it is purged. `shard` is its partition.

    A video that was purged before its upload has no day on which it came: it never was in the library.
    """

    video_id: str
    shard: int
    size_bytes: int
    added_on: date | None
    gone_on: date | None = None


@table_row
class LibraryDay:
    """The videos and bytes that came and went on a day, of one partition."""

    _: KW_ONLY
    day: date
    shard: int
    added: int = 0
    removed: int = 0
    bytes_added: int = 0
    bytes_removed: int = 0


@table_row
class Failed:
    """A transcode that failed for good. A job that was retried by a person may fail again, under a higher epoch."""

    job_id: str
    epoch: int
    shard: int
    day: date


@table_row
class FailedDay:
    """Transcodes that failed on a day, of one partition."""

    _: KW_ONLY
    day: date
    shard: int
    failures: int = 0


@table_row
class Closing:
    """A day as it was closed, first and last, with the positions of the figures. They differ when late events were counted."""

    day: date
    zone: str
    closed_at: datetime
    figures: DayFigures
    positions: Mapping[str, str]
    last_closed_at: datetime
    last_figures: DayFigures
    last_positions: Mapping[str, str]


def item_keys(recorded: Recorded[VideoEvent | JobFact | DayClosed]) -> Collection[tuple[str]]:
    """Return the key of a video that came or went."""
    event = recorded.envelope.data
    if recorded.topic != VIDEOS.name:
        return ()
    return ((event.video_id,),) if isinstance(event, VideoUploaded | VideoPurged) else ()


def evolve_item(row: Item | None, recorded: Recorded[VideoEvent], zone: str) -> Item | None:
    """Note the days on which a video came and went, each once."""
    event, day = recorded.envelope.data, day_of(recorded.envelope.time, zone)
    match event:
        case VideoUploaded():
            return row or Item(event.video_id, recorded.partition, min(max(event.size_bytes, 0), SIZE_MAX), day)
        case VideoPurged():
            row = row or Item(event.video_id, recorded.partition, 0, None)
            return row if row.gone_on is not None else replace(row, gone_on=day)
        case (
            UploadStarted()
            | UploadAbandoned()
            | VideoProbed()
            | VideoPlanned()
            | VideoPublished()
            | VideoFailed()
            | VideoRetryRequested()
            | VideoEdited()
            | VideoVisibilityChanged()
            | VideoArchived()
            | VideoRestored()
        ):
            return row
        case _:
            assert_never(event)


def library_days(row: Item) -> Iterator[LibraryDay]:
    """Yield the shares of a video in the days of the library."""
    if row.added_on is None:
        return
    came = LibraryDay(day=row.added_on, shard=row.shard, added=1, bytes_added=row.size_bytes)
    if row.gone_on == row.added_on:
        yield replace(came, removed=1, bytes_removed=row.size_bytes)
        return
    yield came
    if row.gone_on is not None:
        yield LibraryDay(day=row.gone_on, shard=row.shard, removed=1, bytes_removed=row.size_bytes)


def failed_keys(recorded: Recorded[VideoEvent | JobFact | DayClosed]) -> Collection[tuple[str, int]]:
    """Return the key of a failed transcode. Events from before they named their kind count as well."""
    event = recorded.envelope.data
    return ((event.job_id, event.epoch),) if isinstance(event, JobFailed) and event.kind in ("encode", None) else ()


def evolve_failed(row: Failed | None, recorded: Recorded[JobFailed], zone: str) -> Failed:
    """Note the day of a failure, once."""
    event, time = recorded.envelope.data, recorded.envelope.time
    return row or Failed(event.job_id, event.epoch, recorded.partition, day_of(time, zone))


def failed_days(row: Failed) -> Iterator[FailedDay]:
    """Yield the share of a failure in its day."""
    yield FailedDay(day=row.day, shard=row.shard, failures=1)


def closing_keys(recorded: Recorded[VideoEvent | JobFact | DayClosed]) -> Collection[tuple[date]]:
    """Return the key of a closed day; none for one that no calendar has."""
    event = recorded.envelope.data
    if not isinstance(event, DayClosed):
        return ()
    try:
        return ((date.fromisoformat(event.day),),)
    except ValueError:
        return ()


def evolve_closing(row: Closing | None, recorded: Recorded[DayClosed]) -> Closing:
    """Keep the first closing in the zone of now, and the last one whose figures are others; a repetition changes nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    day, positions = date.fromisoformat(event.day), {one.projection: one.position for one in event.positions}
    if row is not None and time <= row.last_closed_at:
        return row
    if row is None or row.zone != event.zone:
        return Closing(day, event.zone, time, event.figures, positions, time, event.figures, positions)
    if event.figures == row.last_figures:
        return row
    return replace(row, last_closed_at=time, last_figures=event.figures, last_positions=positions)


@cache
def daily(zone: str) -> Projection:
    """Return the projection with days of this zone."""
    return Projection(
        "daily",
        (VIDEOS, JOBS, DAYS),
        (
            Table("items", Item, ("video_id",), item_keys, partial(evolve_item, zone=zone)),
            sums("library_days", LibraryDay, ("day", "shard"), "items", library_days),
            Table("failed", Failed, ("job_id", "epoch"), failed_keys, partial(evolve_failed, zone=zone)),
            sums("failed_days", FailedDay, ("day", "shard"), "failed", failed_days),
            Table("closings", Closing, ("day",), closing_keys, evolve_closing),
        ),
        _SQL["create"],
        partitioned=True,
        rules=(("zone", zone),),
        under=_under,
    )


def _under(rules: Rules) -> Projection:
    return daily(str(dict(rules).get("zone", "UTC")))


PROJECTION = daily("UTC")
