"""Failures: every failed attempt and its outcome; tables `failures`, `successes`, `resolutions`, `reruns`.

A person (FailureResolved) or a later success resolves an attempt: a success of its own job, of its stage (another analysis
of the video), or of the whole video (its verification). Each topic has its own tables, because topics have no common order;
readers join them. `projections.failures.report` summarises them and recommends actions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, assert_never

from psycopg import AsyncConnection
from pydantic import BaseModel, Field, TypeAdapter

from events.envelope import Envelope, Event, Recorded
from events.failures import FailureEvent, FailureRerun, FailureResolved, failure_id
from events.jobs import (
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
from events.kinds import KINDS, AnalyseResult, ExtrasResult, JobKind, JobResult, MakingResult, MediaResult, VerifyResult
from events.media import Failure, FailureStage
from events.topics import FAILURES, JOBS
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load
from projections.short_ids import whole_id

FailedFact = JobAttemptFailed | LeaseExpired | JobFailed
EPOCHS_MAX = 256
"""Number of claims before a success whose attempts it resolves; no job is claimed more often."""
PAGE_MAX = 500
WORD_MAX = 100
"""Maximum characters of a category or code in a column; `failure` holds the whole text."""
FILTERS = ("stage", "category", "code", "video_id", "job_id")
_SQL = load(Path(__file__).with_name("projection.sql"))


@table_row
class FailedAttempt:
    """One failed attempt. `final`: it was the last; `succeeded_at`: when a later attempt completed the job.

    `event_id` is the id of the first fact that reported it.
    """

    failure_id: str
    job_id: str
    epoch: int
    attempt: int
    video_id: str
    pool: str
    worker_id: str | None
    kind: JobKind | None
    stage: str
    category: str
    code: str
    failure: Failure
    final: bool
    failed_at: datetime
    succeeded_at: datetime | None
    event_id: str


@table_row
class Success:
    """The latest success of a stage of a video, for stages that consist of one job."""

    video_id: str
    stage: str
    succeeded_at: datetime


@table_row
class Resolution:
    """A person's first resolution of a failure."""

    failure_id: str
    resolved_at: datetime
    reason: str


@table_row
class Rerun:
    """One rerun of a failed attempt; see `events.failures.FailureRerun`."""

    rerun_id: str
    failure_id: str
    verdict: Literal["reproduced", "not_reproduced"]
    worker: str
    seconds: float
    failure: Failure | None
    rerun_at: datetime


# --- folds ----------------------------------------------------------------------------------------------------------


def failure_keys(recorded: Recorded[JobFact | FailureEvent]) -> Collection[tuple[str]]:
    """Return the key of the failed attempt; for a success, those of all earlier attempts at the job."""
    event = recorded.envelope.data
    if isinstance(event, FailedFact):
        # A rerun is not an attempt at making a video; its verdict records how it ended.
        return () if event.kind == "rerun" else ((failure_id(event.job_id, event.epoch),),)
    if isinstance(event, JobCompleted):
        return [(failure_id(event.job_id, epoch),) for epoch in range(max(1, event.epoch - EPOCHS_MAX), event.epoch)]
    if isinstance(event, (JobQueued, JobClaimed, JobReleased, JobCancelled, PartAccepted, Refusal, PoolFact, FailureEvent)):
        return ()
    assert_never(event)


def failure_of(event: FailedFact) -> Failure:
    """Return the reason an attempt failed."""
    if not isinstance(event, LeaseExpired):
        return event.failure
    stage = KINDS[event.kind].stage if event.kind else "encoding"
    return Failure(stage=stage, category="timeout", code="LEASE_EXPIRED", message="The worker was not heard of in time.")


def evolve_failure(row: FailedAttempt | None, recorded: Recorded[FailedFact | JobCompleted]) -> FailedAttempt | None:
    """Fold the facts about one attempt: the first reports the failure, JobFailed that the attempt was the last."""
    event, time = recorded.envelope.data, recorded.envelope.time
    match event:
        case JobAttemptFailed() | LeaseExpired():
            return row or _failed(event, recorded.envelope)
        case JobFailed():
            if row is not None and row.final:
                return row
            last = _failed(event, recorded.envelope)
            if row is None:
                return last
            return replace(row, failure=last.failure, stage=last.stage, category=last.category, code=last.code, final=True)
        case JobCompleted():
            return row if row is None or row.succeeded_at is not None else replace(row, succeeded_at=time)
        case _:
            assert_never(event)


def _failed(event: FailedFact, envelope: Envelope[Event]) -> FailedAttempt:
    failure = failure_of(event)
    return FailedAttempt(
        failure_id(event.job_id, event.epoch),
        event.job_id,
        event.epoch,
        event.attempt,
        event.video_id,
        event.pool,
        event.worker_id,
        event.kind,
        failure.stage,
        failure.category[:WORD_MAX],
        failure.code[:WORD_MAX],
        failure,
        isinstance(event, JobFailed),
        envelope.time,
        None,
        envelope.id,
    )


def success_keys(recorded: Recorded[JobFact | FailureEvent]) -> Collection[tuple[str, str]]:
    """Return the key of the stage that succeeded, for stages that consist of one job."""
    event = recorded.envelope.data
    if isinstance(event, JobCompleted):
        stage = _whole_stage(event.result)
        return ((event.video_id, stage),) if stage is not None else ()
    if isinstance(event, (JobStep, PartAccepted, Refusal, PoolFact, FailureEvent)):
        return ()
    assert_never(event)


def _whole_stage(result: JobResult) -> FailureStage | None:
    """Return the stage that a result completes; None when other jobs may belong to it, or the result makes no video."""
    if not isinstance(result, MakingResult):
        return None
    match result:
        case AnalyseResult():
            return KINDS["analyse"].stage
        case VerifyResult():
            return KINDS["verify"].stage
        case MediaResult() | ExtrasResult():
            return None
        case _:
            assert_never(result)


def evolve_success(row: Success | None, recorded: Recorded[JobCompleted]) -> Success | None:
    """Keep the latest success."""
    event, time = recorded.envelope.data, recorded.envelope.time
    video_id, stage = event.video_id, _whole_stage(event.result)
    assert stage is not None, "success_keys leaves others out"
    return row if row is not None and row.succeeded_at >= time else Success(video_id, stage, time)


def resolution_keys(recorded: Recorded[JobFact | FailureEvent]) -> Collection[tuple[str]]:
    """Return the key of the resolved failure."""
    event = recorded.envelope.data
    if isinstance(event, FailureResolved):
        return ((event.failure_id,),)
    if isinstance(event, (JobFact, FailureRerun)):
        return ()
    assert_never(event)


def evolve_resolution(row: Resolution | None, recorded: Recorded[FailureResolved]) -> Resolution | None:
    """Keep the first resolution."""
    event = recorded.envelope.data
    return row or Resolution(event.failure_id, recorded.envelope.time, event.reason)


def rerun_keys(recorded: Recorded[JobFact | FailureEvent]) -> Collection[tuple[str]]:
    """Return the key of the rerun."""
    event = recorded.envelope.data
    if isinstance(event, FailureRerun):
        return ((recorded.envelope.id,),)
    if isinstance(event, (JobFact, FailureResolved)):
        return ()
    assert_never(event)


def evolve_rerun(row: Rerun | None, recorded: Recorded[FailureRerun]) -> Rerun | None:
    """Record the verdict."""
    event, envelope = recorded.envelope.data, recorded.envelope
    return row or Rerun(envelope.id, event.failure_id, event.verdict, event.worker, event.seconds, event.failure, envelope.time)


PROJECTION = Projection(
    "failures",
    (JOBS, FAILURES),
    (
        Table("failures", FailedAttempt, ("failure_id",), failure_keys, evolve_failure),
        Table("successes", Success, ("video_id", "stage"), success_keys, evolve_success),
        Table("resolutions", Resolution, ("failure_id",), resolution_keys, evolve_resolution),
        Table("reruns", Rerun, ("rerun_id",), rerun_keys, evolve_rerun),
    ),
    _SQL["create"],
)

# --- readers --------------------------------------------------------------------------------------------------------


class FailureShown(BaseModel):
    """A failed attempt and its outcome. `retry_count` is the number of earlier attempts."""

    failure_id: str = Field(examples=["f6c1070f-269c-5077-ada5-69a29a7c5990:1"])
    job_id: str
    epoch: int
    attempt: int
    retry_count: int
    video_id: str
    pool: str
    worker_id: str | None
    kind: JobKind | None
    stage: str
    category: str
    code: str
    failure: Failure
    final: bool
    failed_at: datetime
    resolved_at: datetime | None
    resolved_by: Literal["person", "success"] | None
    reason: str | None
    event_id: str


class Pattern(BaseModel):
    """Similar unresolved failures of all time; `sample_message` holds at most three of their sentences."""

    stage: str
    category: str
    code: str
    occurrences: int
    latest_occurrence: datetime
    sample_message: str


class Count(BaseModel):
    """Numbers of failed and of resolved attempts at a stage in a category."""

    stage: str
    category: str
    total: int
    resolved: int


_RERUN = TypeAdapter(Rerun)


async def listing(
    connection: AsyncConnection[Any],
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    since: datetime | None = None,
    resolved: bool | None = None,
    only: Mapping[str, str | None] = MappingProxyType({}),
) -> Sequence[FailureShown]:
    """Return failed attempts, newest first; `only` filters by stage, category, code, video_id and job_id."""
    values = {
        **dict.fromkeys(FILTERS),
        **only,
        "limit": min(limit, PAGE_MAX),
        "after_time": after[0] if after else None,
        "after_id": after[1] if after else None,
        "since": since,
        "resolved": resolved,
    }
    cursor = await connection.execute(_SQL["attempts"] + _SQL["listing"], values, prepare=False)
    return [FailureShown.model_validate_json(text) for (text,) in await cursor.fetchall()]


async def id_of(connection: AsyncConnection[Any], which: str) -> str:
    """Return the id of the failure `which`, whose job id may be shortened. Raises InvalidRequest for an ambiguous part."""
    return await whole_id(connection, _SQL["by_part"], which)


async def by_id(connection: AsyncConnection[Any], which: str) -> FailureShown | None:
    """Return one failed attempt."""
    cursor = await connection.execute(_SQL["attempts"] + _SQL["by_id"], {"failure_id": which})
    found = await cursor.fetchone()
    return FailureShown.model_validate_json(found[0]) if found else None


async def reruns_of(connection: AsyncConnection[Any], which: str) -> Sequence[Rerun]:
    """Return the reruns of a failed attempt, first to last."""
    cursor = await connection.execute(_SQL["reruns"], {"failure_id": which})
    return [_RERUN.validate_json(text) for (text,) in await cursor.fetchall()]


async def counts(connection: AsyncConnection[Any], since: datetime) -> Sequence[Count]:
    """Return the numbers of attempts that failed since a moment, by stage and category."""
    cursor = await connection.execute(_SQL["attempts"] + _SQL["counts"], {"since": since})
    return [Count.model_validate_json(text) for (text,) in await cursor.fetchall()]


async def patterns(connection: AsyncConnection[Any], limit: int) -> Sequence[Pattern]:
    """Return groups of similar unresolved failures, the most frequent first."""
    cursor = await connection.execute(_SQL["attempts"] + _SQL["patterns"], {"limit": limit})
    return [Pattern.model_validate_json(text) for (text,) in await cursor.fetchall()]
