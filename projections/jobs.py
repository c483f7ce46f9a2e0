"""Jobs: where each one is, and every attempt at it; tables `jobs` and `attempts`, folded from the topic jobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.envelope import Event, Recorded
from events.jobs import (
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobReleased,
    JobSpec,
    LeaseExpired,
)
from events.media import Failure
from events.topics import JOBS
from projections.fold import Projection, Table
from projections.queries import load

Status = Literal["queued", "claimed", "retrying", "completed", "failed", "cancelled"]
Outcome = Literal["running", "completed", "failed", "expired", "released", "cancelled"]
_SQL = load(Path(__file__).with_name("jobs.sql"))


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `what` says it for a person: `chunk 3`, `audio track 1`."""

    job_id: str
    video_id: str
    pool: str
    kind: str
    what: str
    priority: str
    status: Status
    worker_id: str | None = None
    epoch: int = 0
    attempt: int = 0
    queued_at: datetime | None = None
    claimed_at: datetime | None = None
    retry_at: datetime | None = None
    lease_expires_at: datetime | None = None
    ended_at: datetime | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
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


def describe(spec: JobSpec) -> str:
    """Return what the job is, in words."""
    match spec.kind:
        case "analyse":
            return "analysis"
        case "encode":
            return f"chunk {spec.chunk.index}"
        case "audio":
            return f"audio track {spec.renditions[0].track}" if spec.renditions else "audio"
        case "extras":
            return "thumbnail and subtitles"
        case "verify":
            return "verification"


# --- folds ----------------------------------------------------------------------------------------------------------


def job_keys(recorded: Recorded[Event]) -> Iterable[tuple[str]]:
    """Return the job that the fact is about."""
    event = recorded.envelope.data
    match event:
        case (
            JobQueued()
            | JobClaimed()
            | JobAttemptFailed()
            | LeaseExpired()
            | JobReleased()
            | JobCompleted()
            | JobFailed()
            | JobCancelled()
        ):
            return ((event.job_id,),)
        case _:
            return ()


def evolve_job(job: Job | None, recorded: Recorded[Event]) -> Job | None:
    """Fold the facts, which come in the order of their decision."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if isinstance(event, JobQueued):
        if job is None:
            spec = event.spec
            return Job(
                event.job_id, event.video_id, event.pool, spec.kind, describe(spec), event.priority, "queued", queued_at=time
            )
        if event.reason == "retried" and job.status in ("failed", "cancelled"):
            return replace(job, status="queued", attempt=0, ended_at=None, failure=None, retry_at=None)
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
            return replace(job, status="completed", ended_at=time, failure=None, lease_expires_at=None)
        case JobFailed():
            return replace(job, status="failed", ended_at=time, failure=event.failure, retry_at=None, lease_expires_at=None)
        case JobCancelled():
            return replace(job, status="cancelled", ended_at=time, retry_at=None, lease_expires_at=None)
        case _:
            return job


def attempt_keys(recorded: Recorded[Event]) -> Iterable[tuple[str, int]]:
    """Return the attempt that the fact is about."""
    event = recorded.envelope.data
    match event:
        case JobClaimed() | JobAttemptFailed() | LeaseExpired() | JobReleased() | JobCompleted() | JobFailed() | JobCancelled():
            return ((event.job_id, event.epoch),)
        case _:
            return ()


def evolve_attempt(attempt: Attempt | None, recorded: Recorded[Event]) -> Attempt | None:
    """Fold the facts of one claim; the first end of it counts."""
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
            return attempt


PROJECTION = Projection(
    "jobs",
    (JOBS,),
    (
        Table("jobs", Job, ("job_id",), job_keys, evolve_job),
        Table("attempts", Attempt, ("job_id", "epoch"), attempt_keys, evolve_attempt),
    ),
    _SQL["create"],
)

# --- readers --------------------------------------------------------------------------------------------------------

_JOB = TypeAdapter(Job)
_ATTEMPT = TypeAdapter(Attempt)


async def listing(
    connection: AsyncConnection[Any],
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    status: Status | None = None,
    video_id: str | None = None,
    kind: str | None = None,
) -> Sequence[Job]:
    """Return jobs, newest first."""
    values = {
        "limit": min(limit, 500),
        "status": status,
        "video_id": video_id,
        "kind": kind,
        "after_time": after[0] if after else None,
        "after_id": after[1] if after else None,
    }
    cursor = await connection.execute(_SQL["listing"], values)
    return [_JOB.validate_json(text) for (text,) in await cursor.fetchall()]


async def of_video(connection: AsyncConnection[Any], video_id: str) -> Sequence[Job]:
    """Return a video's jobs, oldest first."""
    cursor = await connection.execute(_SQL["of_video"], {"video_id": video_id})
    return [_JOB.validate_json(text) for (text,) in await cursor.fetchall()]


async def by_id(connection: AsyncConnection[Any], job_id: str) -> Job | None:
    """Return one job."""
    cursor = await connection.execute(_SQL["by_id"], {"job_id": job_id})
    found = await cursor.fetchone()
    return _JOB.validate_json(found[0]) if found else None


async def attempts_at(connection: AsyncConnection[Any], job_id: str) -> Sequence[Attempt]:
    """Return every attempt at a job, first to last."""
    cursor = await connection.execute(_SQL["attempts"], {"job_id": job_id})
    return [_ATTEMPT.validate_json(text) for (text,) in await cursor.fetchall()]


async def counts(connection: AsyncConnection[Any]) -> dict[str, int]:
    """Return how many jobs are in each state."""
    cursor = await connection.execute(_SQL["counts"])
    return dict(await cursor.fetchall())
