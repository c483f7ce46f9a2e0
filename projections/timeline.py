"""Timeline: the events of a video in order, each with its position on the log; table `entries`.

The index has a row for each position. Where an event is on the log twice, readers show the first.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.envelope import Event, Recorded
from events.jobs import (
    ClaimRefused,
    DispatchPaused,
    DispatchResumed,
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFact,
    JobFailed,
    JobQueued,
    JobReleased,
    LeaseExpired,
    PartAccepted,
    RequestRefused,
    ResultRefused,
)
from events.topics import JOBS, VIDEOS
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
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load

SUMMARY_MAX = 500
Shown = VideoEvent | JobFact
_SQL = load(Path(__file__).with_name("timeline.sql"))


@table_row
class Entry:
    """One event about a video or a job. `causationid` is the id of the event that caused it."""

    topic: str
    partition: int
    offset: int
    video_id: str | None
    job_id: str | None
    id: str
    type: str
    time: datetime
    source: str
    correlationid: str
    causationid: str | None
    summary: str


def evolve(entry: Entry | None, recorded: Recorded[Shown]) -> Entry | None:
    """Index the event: one row per position."""
    return entry or entry_of(recorded, summary(recorded.envelope.data))


def entry_of(recorded: Recorded[Event], summary: str) -> Entry:
    """Return the row of an event."""
    envelope = recorded.envelope
    event = envelope.data
    return Entry(
        recorded.topic,
        recorded.partition,
        recorded.offset,
        getattr(event, "video_id", None),
        getattr(event, "job_id", None),
        envelope.id,
        event.TYPE,
        envelope.time,
        envelope.source,
        envelope.correlationid,
        envelope.causationid,
        summary,
    )


def keys_of(recorded: Recorded[Shown]) -> Collection[tuple[str, int, int]]:
    """Return the event's own position as key, when it is about a video or a job."""
    event = recorded.envelope.data
    if getattr(event, "video_id", None) is None and getattr(event, "job_id", None) is None:
        return ()
    return ((recorded.topic, recorded.partition, recorded.offset),)


def summary(event: Shown) -> str:
    """Return the event in a few words, on one line."""
    return " ".join(_words(event).split())[:SUMMARY_MAX]


def _words(event: Shown) -> str:
    match event:
        case VideoUploaded():
            return f"{event.filename}, {event.size_bytes:,} bytes"
        case VideoProbed(probe=probe):
            size = f"{probe.video.width}x{probe.video.height} {probe.video.codec}" if probe.video else "no video"
            return f"{probe.container}, {probe.duration_ms / 1000:.1f} s, {size}"
        case VideoPlanned(plan=plan):
            rungs = ", ".join(rung.name for rung in plan.video.rungs) if plan.video else "audio only"
            return f"{len(event.job_ids)} jobs: {rungs}"
        case VideoPublished():
            return ", ".join(event.rungs) or "audio only"
        case VideoFailed() | JobFailed() | JobAttemptFailed():
            return f"{event.failure.code}: {event.failure.message}"
        case JobQueued():
            return event.spec.words()
        case JobClaimed():
            return f"{event.spec.words()}, epoch {event.epoch}, attempt {event.attempt}, worker {event.worker_id[-8:]}"
        case JobCompleted():
            return f"{event.result.kind}, epoch {event.epoch}"
        case (
            UploadAbandoned()
            | VideoRetryRequested()
            | LeaseExpired()
            | JobReleased()
            | JobCancelled()
            | ClaimRefused()
            | ResultRefused()
            | RequestRefused()
            | DispatchPaused()
            | DispatchResumed()
        ):
            return event.reason or ""
        case VideoVisibilityChanged():
            return event.visibility
        case UploadStarted() | VideoEdited() | VideoArchived() | VideoRestored() | VideoPurged() | PartAccepted():
            return ""
        case _:
            assert_never(event)


PROJECTION = Projection(
    "timeline",
    (VIDEOS, JOBS),
    (Table("entries", Entry, ("topic", "partition", "offset"), keys_of, evolve),),
    _SQL["create"],
    partitioned=True,
)

# --- readers --------------------------------------------------------------------------------------------------------

_ENTRY = TypeAdapter(Entry)
LIMIT = 5000


async def of_video(connection: AsyncConnection[Any], video_id: str, limit: int = LIMIT) -> Sequence[Entry]:
    """Return all events of a video, in causal order."""
    cursor = await connection.execute(_SQL["of_video"], {"subject": video_id, "limit": limit})
    return causal([_ENTRY.validate_json(text) for (text,) in await cursor.fetchall()])


async def of_job(connection: AsyncConnection[Any], job_id: str, limit: int = LIMIT) -> Sequence[Entry]:
    """Return all events of a job, in causal order."""
    cursor = await connection.execute(_SQL["of_job"], {"subject": job_id, "limit": limit})
    return causal([_ENTRY.validate_json(text) for (text,) in await cursor.fetchall()])


def causal(entries: Sequence[Entry]) -> list[Entry]:
    """Return each event once, ordered by time, but never before its cause or its predecessor in the partition. Pure.

    Machines' clocks differ by milliseconds: ordering by time alone would sometimes put an effect before its cause.
    """
    by_time = sorted(
        entries, key=lambda entry: (entry.time, entry.topic != VIDEOS.name, entry.topic, entry.partition, entry.offset)
    )
    first: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.topic, entry.partition, entry.offset)):
        first.setdefault(entry.id, entry)
    lanes: dict[tuple[str, int], Entry] = {}
    before: dict[str, list[str]] = {}
    for entry in sorted(first.values(), key=lambda entry: entry.offset):
        lane = entry.topic, entry.partition
        before[entry.id] = [lanes[lane].id] if lane in lanes else []
        lanes[lane] = entry
        if entry.causationid in first:
            before[entry.id].append(entry.causationid)
    ordered: dict[str, Entry] = {}
    for entry in by_time:
        _add(entry.id, first, before, ordered)
    return list(ordered.values())


def _add(event_id: str, first: dict[str, Entry], before: dict[str, list[str]], ordered: dict[str, Entry]) -> None:
    """Add the event to `ordered` after all its predecessors. Events that claim to cause each other keep their order."""
    pending, entered = [event_id], set[str]()
    while pending:
        current = pending[-1]
        open_ = [] if current in entered else [id_ for id_ in before[current] if id_ not in ordered and id_ not in entered]
        entered.add(current)
        if open_:
            pending += open_
        else:
            ordered.setdefault(current, first[current])
            pending.pop()
