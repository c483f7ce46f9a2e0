"""Assignment of work: requests on topic `job-requests`, decided facts on topic `jobs`; the key of both is the pool.

A job is one unit of work of some kind (`events.kinds`). Requests are wishes. Only the dispatcher turns them into facts,
and only facts are true.
"""

from typing import Literal, TypeGuard

from pydantic import AwareDatetime, Field

from events.envelope import Envelope, Event
from events.kinds import Capabilities, JobKind, JobResult, JobSpec, Requirements
from events.kinds import EncodeSpec as EncodeSpec  # for one version: what-if files import it from here
from events.media import Failure, Rendition
from events.text import MachineLine

Priority = Literal["high", "normal", "low"]

# --- requests: topic job-requests -----------------------------------------------------------------------------------


class JobSubmitted(Event, type="kinolog.job.submitted.v1"):
    """A new job for the pool."""

    job_id: str
    video_id: str
    pool: str
    spec: JobSpec
    requirements: Requirements
    priority: Priority = "normal"


class ClaimRequested(Event, type="kinolog.job.claim-requested.v1"):
    """A worker has a free slot. The answer, JobClaimed or ClaimRefused, names this event's id and comes before `deadline`.

    `process_id` distinguishes successive processes of one `worker_id`. The first claim of a new process means that the
    previous process is gone and that its jobs are free.
    """

    worker_id: str
    pool: str
    capabilities: Capabilities
    deadline: AwareDatetime
    process_id: str | None = None


class ClaimWithdrawn(Event, type="kinolog.job.claim-withdrawn.v1"):
    """The worker is leaving and no longer waits for the answer to its claim request."""

    worker_id: str
    pool: str
    claim_id: str


class LeaseRenewed(Event, type="kinolog.job.lease-renewed.v1"):
    """The worker is alive and still works on the job."""

    job_id: str
    pool: str
    worker_id: str
    epoch: int


class ResultReported(Event, type="kinolog.job.result-reported.v1"):
    """The attempt ended with a failure, or with a result whose objects the reporter has checked."""

    job_id: str
    pool: str
    worker_id: str
    epoch: int
    result: JobResult | None = None
    failure: Failure | None = None


class PartReported(Event, type="kinolog.job.part-reported.v1"):
    """Part of an attempt's output, reported before its result: one record cannot hold all segments of a long video.

    Parts count from 0; each rendition's segments continue in the next part. The reporter has checked who owns the objects.
    """

    job_id: str
    pool: str
    worker_id: str
    epoch: int
    part: int = Field(ge=0)
    renditions: tuple[Rendition, ...]


class LeaseReleased(Event, type="kinolog.job.lease-released.v1"):
    """The worker shuts down and hands the job back unfinished; this costs no attempt."""

    job_id: str
    pool: str
    worker_id: str
    epoch: int
    reason: MachineLine


class CancelRequested(Event, type="kinolog.job.cancel-requested.v1"):
    """Nobody needs the job any more."""

    job_id: str
    pool: str
    reason: str


class RetryRequested(Event, type="kinolog.job.retry-requested.v1"):
    """Try a failed or cancelled job again, with a fresh count of attempts."""

    job_id: str
    pool: str
    reason: str


class RequeueRequested(Event, type="kinolog.job.requeue-requested.v1"):
    """Put an unfinished job back into the queue at once, with a fresh count of attempts, perhaps at another priority.

    A worker that runs the job must stop. A job that waits for its next attempt waits no longer.
    """

    job_id: str
    pool: str
    reason: str
    priority: Priority | None = None


class PauseRequested(Event, type="kinolog.dispatch.pause-requested.v1"):
    """Give no more jobs to a worker, or to any worker of the pool when `worker_id` is None; running jobs continue.

    With `drain`, a worker whose claim is refused for this reason stops when its jobs are done.
    """

    pool: str
    worker_id: str | None = None
    drain: bool = False
    reason: str


class ResumeRequested(Event, type="kinolog.dispatch.resume-requested.v1"):
    """Give jobs to the worker, or the pool, again. This also ends a worker's quarantine."""

    pool: str
    worker_id: str | None = None
    reason: str


class ClockTicked(Event, type="kinolog.job.clock-ticked.v1"):
    """Time has passed; written only when something is due."""

    pool: str
    now: AwareDatetime


JobRequest = (
    JobSubmitted
    | ClaimRequested
    | ClaimWithdrawn
    | LeaseRenewed
    | ResultReported
    | PartReported
    | LeaseReleased
    | CancelRequested
    | RetryRequested
    | RequeueRequested
    | PauseRequested
    | ResumeRequested
    | ClockTicked
)

# --- facts: topic jobs ----------------------------------------------------------------------------------------------


class JobQueued(Event, type="kinolog.job.queued.v1"):
    """The job exists and waits. Recorded again, with attempts reset to zero, when a person retries or requeues the job.

    `note` is that person's reason.
    """

    job_id: str
    video_id: str
    pool: str
    spec: JobSpec
    requirements: Requirements
    priority: Priority
    reason: Literal["submitted", "retried", "requeued"] = "submitted"
    note: str | None = None


class JobClaimed(Event, type="kinolog.job.claimed.v1"):
    """One worker may do the job until `lease_expires_at`. `epoch` grows with every claim and fences off older holders.

    `reason` explains the choice. `best_job`: the best of the jobs that waited when the worker asked. The other reasons choose
    among the workers that waited when the job came: the `first_waiting`, one that has the source of the `same_video`, or a
    GPU worker before others (`gpu_first`). `probation`: the worker's one job after a quarantine.
    """

    job_id: str
    video_id: str
    pool: str
    worker_id: str
    claim_id: str
    epoch: int
    attempt: int
    lease_expires_at: AwareDatetime
    spec: JobSpec
    reason: Literal["best_job", "first_waiting", "same_video", "gpu_first", "probation"] | None = None
    process_id: str | None = None


class JobAttemptFailed(Event, type="kinolog.job.attempt-failed.v1"):
    """An attempt failed; the job waits until `retry_at`."""

    job_id: str
    video_id: str
    pool: str
    worker_id: str
    epoch: int
    attempt: int
    failure: Failure
    retry_at: AwareDatetime
    reason: Literal["retryable_failure"] | None = None
    kind: JobKind | None = None


class LeaseExpired(Event, type="kinolog.job.lease-expired.v1"):
    """The worker did not renew its lease in time and lost the attempt. `retry_at` is None after the last one: JobFailed follows."""

    job_id: str
    video_id: str
    pool: str
    worker_id: str
    epoch: int
    attempt: int
    retry_at: AwareDatetime | None = None
    reason: Literal["not_renewed"] | None = None
    kind: JobKind | None = None


class JobReleased(Event, type="kinolog.job.released.v1"):
    """The worker handed the job back, or a person took it away. The job waits again, and the attempt does not count.

    `abandoned`: the worker's process ended without a report, and another process has replaced it.
    """

    job_id: str
    video_id: str
    pool: str
    worker_id: str
    epoch: int
    reason: str
    abandoned: bool | None = None


class JobCompleted(Event, type="kinolog.job.completed.v1"):
    """The one accepted result of the job."""

    job_id: str
    video_id: str
    pool: str
    worker_id: str
    epoch: int
    attempt: int
    result: JobResult
    reason: Literal["reported"] | None = None


class PartAccepted(Event, type="kinolog.job.part-accepted.v1"):
    """Part of a running attempt's output. It counts only when the job is completed in the same epoch."""

    job_id: str
    video_id: str
    pool: str
    worker_id: str
    epoch: int
    part: int
    renditions: tuple[Rendition, ...]


class JobFailed(Event, type="kinolog.job.failed.v1"):
    """The last attempt failed, or another attempt would not help. A person can retry the job."""

    job_id: str
    video_id: str
    pool: str
    epoch: int
    attempt: int
    failure: Failure
    reason: Literal["attempts_used_up", "not_retryable", "lease_expired", "released_too_often"] | None = None
    worker_id: str | None = None
    kind: JobKind | None = None


class JobCancelled(Event, type="kinolog.job.cancelled.v1"):
    """Nobody needs the job any more; a worker that runs it stops."""

    job_id: str
    video_id: str
    pool: str
    epoch: int
    reason: str


class ClaimRefused(Event, type="kinolog.job.claim-refused.v1"):
    """A claim request ended without a job. A worker that receives `draining` stops; a process that was replaced receives it too."""

    worker_id: str
    pool: str
    claim_id: str
    reason: Literal["no_job", "quarantined", "unknown_pool", "paused", "draining"]


class ResultRefused(Event, type="kinolog.job.result-refused.v1"):
    """A renewal, result or release was refused, and why. The worker stops, and its output is deleted."""

    job_id: str
    pool: str
    worker_id: str
    epoch: int
    reason: Literal["unknown_job", "stale_epoch", "not_holder", "already_ended", "not_running"]


class RequestRefused(Event, type="kinolog.job.request-refused.v1"):
    """A person's or planner's request was refused, and why.

    A job refused as `too_large` will never exist; `failure` reports this to its video.
    """

    job_id: str
    pool: str
    reason: Literal["unknown_job", "already_ended", "not_ended", "unknown_pool", "too_large"]
    video_id: str | None = None
    failure: Failure | None = None


class DispatchPaused(Event, type="kinolog.dispatch.paused.v1"):
    """A worker, or the whole pool when `worker_id` is None, gets no more jobs."""

    pool: str
    worker_id: str | None = None
    drain: bool
    reason: str


class DispatchResumed(Event, type="kinolog.dispatch.resumed.v1"):
    """A worker, or the pool, gets jobs again."""

    pool: str
    worker_id: str | None = None
    reason: str


JobStep = JobQueued | JobClaimed | JobCompleted | JobAttemptFailed | LeaseExpired | JobReleased | JobFailed | JobCancelled
"""Transitions of a job from one state to another."""
AttemptEnd = JobCompleted | JobAttemptFailed | LeaseExpired | JobReleased | JobFailed | JobCancelled
"""Ends of an attempt. When no attempt is running, JobFailed and JobCancelled end only the job."""
Refusal = ClaimRefused | ResultRefused | RequestRefused
PoolFact = DispatchPaused | DispatchResumed
JobFact = JobStep | PartAccepted | Refusal | PoolFact


def is_request(envelope: Envelope[Event]) -> TypeGuard[Envelope[JobRequest]]:
    """Return whether an event may be on topic `job-requests`."""
    return isinstance(envelope.data, JobRequest)


def is_fact(envelope: Envelope[Event]) -> TypeGuard[Envelope[JobFact]]:
    """Return whether an event may be on topic `jobs`."""
    return isinstance(envelope.data, JobFact)
