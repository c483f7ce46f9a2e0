"""Announcing: the process that makes notices of the events of videos and workers; topic `notices`.

A row numbers the notices of its subject in the order of its own topic, and knows the last number that was announced. So the row
is the same in whatever order the topics are read, and a rebuild announces nothing again. Notices of a subject are announced one by
one.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never

from events.envelope import Envelope, Recorded
from events.media import Failure
from events.notices import NoticePublished, NoticeType, VideoNotice, WorkerNotice
from events.topics import NOTICES, VIDEOS, WORKERS
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
from events.workers import (
    WorkerCleared,
    WorkerDeployed,
    WorkerDrained,
    WorkerKeyEvent,
    WorkerKeyIssued,
    WorkerKeyRevoked,
    WorkerKeyRotated,
    WorkerOffline,
    WorkerQuarantined,
    WorkerRegistered,
    WorkerRequestRefused,
    WorkerRolledBack,
)
from processors.agents.process import Decision, Process, Rule, isolated
from projections.catalog import slug_for
from projections.folding.fold import Key, Projection, Table, table_row
from projections.folding.queries import load
from projections.folding.repeats import once

SOURCE = "kinolog/announcing"
OfWorkers = (
    WorkerRegistered
    | WorkerDrained
    | WorkerOffline
    | WorkerQuarantined
    | WorkerCleared
    | WorkerDeployed
    | WorkerRolledBack
    | WorkerKeyEvent
    | WorkerRequestRefused
)
OfSubjects = (
    VideoUploaded
    | VideoPlanned
    | VideoPublished
    | VideoFailed
    | VideoRetryRequested
    | VideoEdited
    | VideoArchived
    | VideoRestored
    | VideoPurged
    | WorkerRegistered
    | WorkerDrained
    | WorkerOffline
)
"""Events that a row needs."""
_SQL = load(Path(__file__).with_name("announcing.sql"))


@table_row
class Subject:
    """One video or worker.

    From its own topic: everything up to `pending`, the notices that are yet to be announced. `rounds` counts attempts at a video.
    From `notices`: `announced`, the number of the last one. `fault`: see `processors.agents.process.isolated`.
    """

    subject_id: str
    title: str = ""
    slug: str = ""
    filename: str = ""
    streaming_format: str | None = None
    state: str = ""
    archived: bool = False
    rounds: int = 0
    worker_name: str = ""
    present: bool = False
    registered_at: datetime | None = None
    numbered: int = 0
    pending: tuple[NoticePublished, ...] = ()
    announced: int = 0
    seen: tuple[str, ...] = ()
    fault: Failure | None = None


# --- the fold -------------------------------------------------------------------------------------------------------


def keys_of(recorded: Recorded[VideoEvent | OfWorkers | NoticePublished]) -> Sequence[tuple[str]]:
    """Return the key of the event's subject."""
    event = recorded.envelope.data
    match event:
        case NoticePublished():
            return ((event.subject_id,),)
        case VideoUploaded() | VideoPlanned() | VideoPublished() | VideoFailed() | VideoRetryRequested() | VideoEdited():
            return ((event.video_id,),)
        case VideoArchived() | VideoRestored() | VideoPurged():
            return ((event.video_id,),)
        case WorkerRegistered() | WorkerDrained() | WorkerOffline():
            return ((event.worker_id,),)
        case UploadStarted() | UploadAbandoned() | VideoProbed() | VideoVisibilityChanged():
            return ()
        case WorkerQuarantined() | WorkerCleared() | WorkerDeployed() | WorkerRolledBack() | WorkerRequestRefused():
            return ()
        case WorkerKeyIssued() | WorkerKeyRotated() | WorkerKeyRevoked():
            return ()
        case _:
            assert_never(event)


def evolve(row: Subject | None, recorded: Recorded[OfSubjects | NoticePublished]) -> Subject | None:
    """Fold an event; decide nothing."""
    event = recorded.envelope.data
    if isinstance(event, NoticePublished):
        row = row or Subject(event.subject_id)
        announced = max(row.announced, event.number)
        return replace(row, announced=announced, pending=tuple(notice for notice in row.pending if notice.number > announced))
    return _of_its_topic(row, recorded)  # type: ignore[arg-type]


@once
def _of_its_topic(row: Subject | None, recorded: Recorded[OfSubjects]) -> Subject | None:
    envelope = recorded.envelope
    event = envelope.data
    if isinstance(event, WorkerRegistered | WorkerDrained | WorkerOffline):
        return _of_workers(row or Subject(event.worker_id), envelope, event)
    row = row or Subject(event.video_id)
    if row.state == "purged" or (not row.state and not isinstance(event, VideoUploaded)):
        return row
    match event:
        case VideoUploaded():
            if row.state:
                return row
            row = replace(
                row, state="uploaded", title=event.title, slug=slug_for(event.title, event.video_id), filename=event.filename
            )
            return _video(row, envelope, "video.uploaded", filename=event.filename)
        case VideoEdited():
            return row if event.title is None else replace(row, title=event.title)
        case VideoPlanned():
            if row.state == "processing":
                return replace(row, streaming_format=event.plan.format)
            row = replace(row, state="processing", rounds=row.rounds + 1, streaming_format=event.plan.format)
            return _video(row, envelope, "video.processing")
        case VideoPublished():
            row = replace(row, state="ready")
            return _video(row, envelope, "video.ready", qualities=event.rungs, streaming_format=row.streaming_format)
        case VideoFailed():
            return _failed(row, envelope, event)
        case VideoRetryRequested():
            return replace(row, state="uploaded") if row.state == "failed" else row
        case VideoArchived():
            return row if row.archived else _video(replace(row, archived=True), envelope, "video.deleted", permanent=False)
        case VideoRestored():
            return _video(replace(row, archived=False), envelope, "video.restored") if row.archived else row
        case VideoPurged():
            return _video(replace(row, state="purged"), envelope, "video.purged", permanent=True)
        case _:
            assert_never(event)


def _failed(row: Subject, envelope: Envelope[Any], event: VideoFailed) -> Subject:
    if row.state in ("ready", "failed"):
        return row
    rounds = row.rounds if row.state == "processing" else row.rounds + 1
    row = replace(row, state="failed", rounds=rounds)
    return _video(row, envelope, "video.failed", error=event.failure.message, attempt_number=rounds, max_attempts=rounds)


def _video(row: Subject, envelope: Envelope[Any], event_type: NoticeType, **more: Any) -> Subject:
    about = VideoNotice(video_id=row.subject_id, slug=row.slug, title=row.title, **more)
    return _numbered(row, envelope, event_type, about)


def _of_workers(row: Subject, envelope: Envelope[Any], event: WorkerRegistered | WorkerDrained | WorkerOffline) -> Subject:
    match event:
        case WorkerRegistered():
            row = replace(row, worker_name=event.name, present=True, registered_at=envelope.time)
            kind = "gpu" if event.capabilities.gpu else "cpu"
            return _worker(row, envelope, "worker.connected", worker_type=kind, capabilities=event.capabilities.encoders)
        case WorkerDrained():
            return _left(row, envelope, event.reason)
        case WorkerOffline():
            return _left(row, envelope, "it was silent for too long")
        case _:
            assert_never(event)


def _left(row: Subject, envelope: Envelope[Any], reason: str) -> Subject:
    if not row.present:
        return row
    return _worker(replace(row, present=False), envelope, "worker.disconnected", reason=reason)


def _worker(row: Subject, envelope: Envelope[Any], event_type: NoticeType, **more: Any) -> Subject:
    about = WorkerNotice(worker_id=row.subject_id, worker_name=row.worker_name, registered_at=row.registered_at, **more)
    return _numbered(row, envelope, event_type, about)


def _numbered(row: Subject, envelope: Envelope[Any], event_type: NoticeType, about: VideoNotice | WorkerNotice) -> Subject:
    """Return the row with one more notice, which is pending unless it was announced."""
    number = row.numbered + 1
    if number <= row.announced:
        return replace(row, numbered=number)
    notice = NoticePublished(
        subject_id=row.subject_id,
        number=number,
        event_id=envelope.id,
        event_type=event_type,
        occurred_at=envelope.time,
        about=about,
    )
    return replace(row, numbered=number, pending=(*row.pending, notice))


def noted(key: Key, row: Subject | None, failure: Failure) -> Subject:
    """Return the row with the fault of an event that could not be folded; later events are announced all the same."""
    return replace(row or Subject(str(key[0])), fault=failure)


# --- decisions ------------------------------------------------------------------------------------------------------


def decide(row: Subject, now: datetime) -> Decision | None:
    """Return the announcement of the first pending notice."""
    if not row.pending:
        return None
    return Decision(str(row.pending[0].number), facts=((row.pending[0], row.subject_id),))


PROJECTION = Projection(
    "announcing",
    (VIDEOS, WORKERS, NOTICES),
    (Table("subjects", Subject, ("subject_id",), keys_of, isolated("announcing", keys_of, evolve, noted)),),
    _SQL["create"],
)
PROCESS = Process(PROJECTION, SOURCE, (Rule(PROJECTION.tables[0], decide, undecided=_SQL["undecided"]),))
