"""Verdicts of reruns, in which another worker repeats a failed attempt. Pure; a table of planning."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from events.envelope import Recorded
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
from events.kinds import RerunResult, RerunSpec
from events.media import Failure
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
from processors.agents.process import Decision
from producers.failures import verdict
from projections.folding.fold import Table, table_row


@table_row
class Rerun:
    """A rerun. `epoch` is the claim in which it ended, 0 before; the other fields describe the end. Its verdict is on `failures`,
    which planning does not fold: it decides when the end comes, and at no other time.
    """

    job_id: str
    spec: RerunSpec
    epoch: int = 0
    worker_id: str | None = None
    seconds: float | None = None
    failure: Failure | None = None


def keys_of(recorded: Recorded[VideoEvent | JobFact]) -> Collection[tuple[str]]:
    """Return the key of the event's rerun."""
    event = recorded.envelope.data
    match event:
        case JobQueued():
            return ((event.job_id,),) if isinstance(event.spec, RerunSpec) else ()
        case JobCompleted():
            return ((event.job_id,),) if isinstance(event.result, RerunResult) else ()
        case JobFailed():
            return ((event.job_id,),) if event.kind in ("rerun", None) else ()
        case JobClaimed() | JobAttemptFailed() | LeaseExpired() | JobReleased() | JobCancelled() | PartAccepted():
            return ()
        case ClaimRefused() | ResultRefused() | RequestRefused() | DispatchPaused() | DispatchResumed():
            return ()
        case UploadStarted() | UploadAbandoned() | VideoUploaded() | VideoProbed() | VideoPlanned() | VideoPublished():
            return ()
        case VideoFailed() | VideoRetryRequested() | VideoEdited() | VideoVisibilityChanged() | VideoArchived():
            return ()
        case VideoRestored() | VideoPurged():
            return ()
        case _:
            assert_never(event)


def evolve(row: Rerun | None, recorded: Recorded[JobQueued | JobCompleted | JobFailed]) -> Rerun | None:
    """Fold the submission and the ends of a rerun; the latest claim counts."""
    event = recorded.envelope.data
    if isinstance(event, JobQueued):
        return Rerun(event.job_id, event.spec) if row is None and isinstance(event.spec, RerunSpec) else row
    if row is None or event.epoch <= row.epoch:
        return row
    match event:
        case JobCompleted(result=RerunResult() as result):
            again, seconds, worker_id = result.failure, result.seconds, event.worker_id
        case JobCompleted():
            return row
        case JobFailed():  # it ended its workers, as the attempt may have
            again, seconds = event.failure.model_copy(update={"stage": row.spec.failed.stage}), 0.0
            worker_id = event.worker_id or "unknown"
        case _:
            assert_never(event)
    return replace(row, epoch=event.epoch, worker_id=worker_id, seconds=seconds, failure=again)


def decide(row: Rerun, now: datetime) -> Decision | None:
    """Return the verdict of an ended rerun."""
    if row.worker_id is None:
        return None
    spec = row.spec
    fact = verdict(spec.failure_id, failed=spec.failed, again=row.failure, worker=row.worker_id, seconds=row.seconds or 0.0)
    return Decision(f"verdict/{row.epoch}", facts=((fact, spec.failure_id),))


TABLE = Table("reruns", Rerun, ("job_id",), keys_of, evolve)
