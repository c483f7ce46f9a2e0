"""Jobs: their states, attempts and paused workers; tables `jobs`, `attempts` and `pauses`, folded from topic `jobs`."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_never

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.envelope import Recorded, Value
from events.jobs import (
    AttemptEnd,
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
    JobStep,
    LeaseExpired,
    PartAccepted,
    PoolFact,
    Refusal,
)
from events.kinds import AnalyseResult, Earlier, ExtrasResult, JobResult, MakingResult, MediaResult, VerifyResult
from events.media import Failure
from events.topics import JOBS
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load
from projections.folding.repeats import once
from projections.short_ids import whole_id

Status = Literal["queued", "claimed", "retrying", "completed", "failed", "cancelled"]
Outcome = Literal["running", "completed", "failed", "expired", "released", "cancelled"]
PAGE_MAX = 500
_SQL = load(Path(__file__).with_name("jobs.sql"))


class Made(Value):
    """Counts of a completed job's output, and the `encoder` it used."""

    segments: int = 0
    size_bytes: int = 0
    encoder: str = ""


@table_row
class Job:
    """One job. `what` describes it for people: `chunk 3`, `audio track 1`; `chunk` is the chunk's index.

    `renditions` names its output. `seen`: see `projections.folding.repeats`.
    """

    job_id: str
    video_id: str
    pool: str
    kind: str
    what: str
    priority: str
    status: Status
    chunk: int | None = None
    renditions: tuple[str, ...] = ()
    worker_id: str | None = None
    epoch: int = 0
    attempt: int = 0
    queued_at: datetime | None = None
    claimed_at: datetime | None = None
    retry_at: datetime | None = None
    lease_expires_at: datetime | None = None
    ended_at: datetime | None = None
    failure: Failure | None = None
    made: Made | None = None
    seen: tuple[str, ...] = ()


@table_row
class Attempt:
    """One claim of a job and how it ended."""

    job_id: str
    epoch: int
    attempt: int
    video_id: str
    worker_id: str
    started_at: datetime | None
    ended_at: datetime | None = None
    outcome: Outcome = "running"
    failure: Failure | None = None


@table_row
class Pause:
    """The pause of a worker, or of a whole pool if `worker_id` is empty: no jobs since `paused_at`. With `drain`, workers stop.

    Without `paused_at` the pause is over. `seen`: see `projections.folding.repeats`.
    """

    pool: str
    worker_id: str
    drain: bool = False
    reason: str = ""
    paused_at: datetime | None = None
    seen: tuple[str, ...] = ()


_NOTHING = Earlier(parts=1, segments=0, size_bytes=0)


def made_by(result: JobResult) -> Made:
    """Count the parts of a result."""
    if not isinstance(result, MakingResult):
        return Made()
    match result:
        case MediaResult():
            sizes = [segment.object.size_bytes for rendition in result.renditions for segment in rendition.segments]
            before = result.earlier or _NOTHING
            made, size_bytes = before.segments + len(sizes), before.size_bytes + sum(sizes)
            return Made(segments=made, size_bytes=size_bytes, encoder=result.encoder)
        case ExtrasResult():
            objects = [subtitle.object for subtitle in result.subtitles]
            if result.thumbnail is not None:
                objects.append(result.thumbnail)
            return Made(size_bytes=sum(item.size_bytes for item in objects))
        case AnalyseResult() | VerifyResult():
            return Made()
        case _:
            assert_never(result)


# --- folds ----------------------------------------------------------------------------------------------------------


def job_keys(recorded: Recorded[JobFact]) -> Collection[tuple[str]]:
    """Return the key of the fact's job."""
    event = recorded.envelope.data
    if isinstance(event, JobStep):
        return ((event.job_id,),)
    if isinstance(event, (PartAccepted, Refusal, PoolFact)):
        return ()
    assert_never(event)


@once
def evolve_job(job: Job | None, recorded: Recorded[JobStep]) -> Job | None:
    """Fold the facts, in the order of the dispatcher's decisions."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if isinstance(event, JobQueued):
        if job is None:
            return _queued(event, time)
        if event.reason == "retried" and job.status in ("failed", "cancelled"):
            return replace(job, status="queued", attempt=0, ended_at=None, failure=None, retry_at=None)
        if event.reason == "requeued" and job.status in ("queued", "retrying"):
            return replace(job, status="queued", attempt=0, retry_at=None, priority=event.priority)
        return job
    if job is None:
        return None
    match event:
        case JobClaimed():
            return replace(
                job,
                status="claimed",
                worker_id=event.worker_id,
                epoch=event.epoch,
                attempt=event.attempt,
                claimed_at=time,
                retry_at=None,
                lease_expires_at=event.lease_expires_at,
            )
        case JobAttemptFailed():
            return replace(job, status="retrying", retry_at=event.retry_at, failure=event.failure, lease_expires_at=None)
        case LeaseExpired():
            return replace(job, status="retrying", retry_at=event.retry_at, lease_expires_at=None)
        case JobReleased():
            return replace(job, status="queued", worker_id=None, lease_expires_at=None)
        case JobCompleted():
            made = made_by(event.result)
            return replace(job, status="completed", ended_at=time, failure=None, lease_expires_at=None, made=made)
        case JobFailed():
            return replace(job, status="failed", ended_at=time, failure=event.failure, retry_at=None, lease_expires_at=None)
        case JobCancelled():
            return replace(job, status="cancelled", ended_at=time, retry_at=None, lease_expires_at=None)
        case _:
            assert_never(event)


def _queued(event: JobQueued, time: datetime) -> Job:
    spec = event.spec
    return Job(
        event.job_id,
        event.video_id,
        event.pool,
        spec.kind,
        spec.words(),
        event.priority,
        "queued",
        chunk=spec.chunk.index if spec.kind == "encode" else None,
        renditions=spec.renditions_made(),
        queued_at=time,
    )


def attempt_keys(recorded: Recorded[JobFact]) -> Collection[tuple[str, int]]:
    """Return the key of the fact's attempt."""
    event = recorded.envelope.data
    if isinstance(event, (JobClaimed, AttemptEnd)):
        return ((event.job_id, event.epoch),)
    if isinstance(event, (JobQueued, PartAccepted, Refusal, PoolFact)):
        return ()
    assert_never(event)


def evolve_attempt(attempt: Attempt | None, recorded: Recorded[JobClaimed | AttemptEnd]) -> Attempt | None:
    """Fold the facts of one claim; its first end counts."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if isinstance(event, JobClaimed):
        return attempt or Attempt(event.job_id, event.epoch, event.attempt, event.video_id, event.worker_id, time)
    if attempt is None or attempt.outcome != "running":
        return attempt
    match event:
        case JobAttemptFailed():
            return replace(attempt, outcome="failed", ended_at=time, failure=event.failure)
        case JobFailed():
            return replace(attempt, outcome="failed", ended_at=time, failure=event.failure)
        case LeaseExpired():
            return replace(attempt, outcome="expired", ended_at=time)
        case JobReleased():
            return replace(attempt, outcome="released", ended_at=time)
        case JobCompleted():
            return replace(attempt, outcome="completed", ended_at=time)
        case JobCancelled():
            return replace(attempt, outcome="cancelled", ended_at=time)
        case _:
            assert_never(event)


def pause_keys(recorded: Recorded[JobFact]) -> Collection[tuple[str, str]]:
    """Return the key of the fact's pool and, if any, worker."""
    event = recorded.envelope.data
    if isinstance(event, PoolFact):
        return ((event.pool, event.worker_id or ""),)
    if isinstance(event, (JobStep, PartAccepted, Refusal)):
        return ()
    assert_never(event)


@once
def evolve_pause(pause: Pause | None, recorded: Recorded[PoolFact]) -> Pause | None:
    """Fold the facts."""
    event = recorded.envelope.data
    match event:
        case DispatchPaused():
            return Pause(event.pool, event.worker_id or "", event.drain, event.reason, recorded.envelope.time, _seen(pause))
        case DispatchResumed():
            return Pause(event.pool, event.worker_id or "", seen=_seen(pause))
        case _:
            assert_never(event)


def _seen(pause: Pause | None) -> tuple[str, ...]:
    return () if pause is None else pause.seen


PROJECTION = Projection(
    "jobs",
    (JOBS,),
    (
        Table("jobs", Job, ("job_id",), job_keys, evolve_job),
        Table("attempts", Attempt, ("job_id", "epoch"), attempt_keys, evolve_attempt),
        Table("pauses", Pause, ("pool", "worker_id"), pause_keys, evolve_pause),
    ),
    _SQL["create"],
    partitioned=True,  # all facts about a job are in its pool's partition
)

# --- readers --------------------------------------------------------------------------------------------------------

_JOB = TypeAdapter(Job)
_ATTEMPT = TypeAdapter(Attempt)
_PAUSE = TypeAdapter(Pause)


async def listing(
    connection: AsyncConnection[Any],
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    status: Status | None = None,
    video_id: str | None = None,
    kind: str | None = None,
    pool: str | None = None,
    chunk: int | None = None,
    rendition: str | None = None,
    code: str | None = None,
) -> Sequence[Job]:
    """Return jobs, newest first. `rendition` selects jobs that make it, `code` jobs that failed with it."""
    values = {
        "limit": min(limit, PAGE_MAX),
        "status": status,
        "video_id": video_id,
        "kind": kind,
        "pool": pool,
        "chunk": chunk,
        "rendition": rendition,
        "code": code,
        "after_time": after[0] if after else None,
        "after_id": after[1] if after else None,
    }
    cursor = await connection.execute(_SQL["listing"], values, prepare=False)
    return [_JOB.validate_json(text) for (text,) in await cursor.fetchall()]


async def pauses(connection: AsyncConnection[Any]) -> Sequence[Pause]:
    """Return the pauses in force."""
    cursor = await connection.execute(_SQL["pauses"])
    return [_PAUSE.validate_json(text) for (text,) in await cursor.fetchall()]


async def of_video(connection: AsyncConnection[Any], video_id: str) -> Sequence[Job]:
    """Return a video's jobs, oldest first."""
    cursor = await connection.execute(_SQL["of_video"], {"video_id": video_id})
    return [_JOB.validate_json(text) for (text,) in await cursor.fetchall()]


async def id_of(connection: AsyncConnection[Any], which: str) -> str:
    """Return the id of the job `which`, an id or part of one. Raises InvalidRequest for an ambiguous part."""
    return await whole_id(connection, _SQL["by_part"], which)


async def by_id(connection: AsyncConnection[Any], job_id: str) -> Job | None:
    """Return one job."""
    cursor = await connection.execute(_SQL["by_id"], {"job_id": job_id})
    found = await cursor.fetchone()
    return _JOB.validate_json(found[0]) if found else None


async def attempts_at(connection: AsyncConnection[Any], job_id: str) -> Sequence[Attempt]:
    """Return every attempt at a job, first to last."""
    cursor = await connection.execute(_SQL["attempts"], {"job_id": job_id})
    return [_ATTEMPT.validate_json(text) for (text,) in await cursor.fetchall()]


async def unaccepted(connection: AsyncConnection[Any], since: datetime, before: datetime) -> Sequence[tuple[Attempt, Job]]:
    """Return attempts (with their jobs) that ended between two moments without an accepted result, oldest first."""
    cursor = await connection.execute(_SQL["unaccepted"], {"since": since, "before": before})
    return [(_ATTEMPT.validate_json(attempt), _JOB.validate_json(job)) for attempt, job in await cursor.fetchall()]


async def transcoding(connection: AsyncConnection[Any]) -> int:
    """Return the number of encodes that workers do now."""
    found = await (await connection.execute(_SQL["transcoding"])).fetchone()
    return int(found[0]) if found else 0


async def counts(connection: AsyncConnection[Any]) -> dict[str, int]:
    """Return the number of jobs by state."""
    cursor = await connection.execute(_SQL["counts"])
    return dict(await cursor.fetchall())
