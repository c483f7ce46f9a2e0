"""A decision about one request: facts, each applied as soon as it is taken, and steps that requests share. Pure."""

import random
from datetime import datetime
from typing import Literal

from events.envelope import Envelope, derive
from events.jobs import (
    ClaimRefused,
    ClaimRequested,
    JobAttemptFailed,
    JobClaimed,
    JobFailed,
    JobReleased,
    JobRequest,
    LeaseExpired,
    LeaseReleased,
    LeaseRenewed,
    PartReported,
    RequestRefused,
    ResultRefused,
    ResultReported,
)
from events.kinds import KINDS
from events.media import Failure
from events.workers import WorkerCleared, WorkerQuarantined
from processors.dispatch.matching import Why, best_pair
from processors.dispatch.state import (
    Decided,
    Job,
    State,
    bar,
    evolve,
    note_process,
)

SOURCE = "kinolog/dispatcher"


class Decision:
    """Collects the facts of one request."""

    def __init__(self, state: State, request: Envelope[JobRequest], now: datetime) -> None:
        self._state = state
        self._request = request
        self._now = now
        self.facts: list[Envelope[Decided]] = []

    def _take(self, event: Decided, subject: str) -> None:
        """Derive a fact from the request and apply it. A job's facts keep the correlation of its submission."""
        fact = derive(self._request, len(self.facts), data=event, subject=subject, source=SOURCE, time=self._now)
        job = self._state.jobs.get(getattr(event, "job_id", ""))
        if job is not None:
            fact = fact._replace(correlationid=job.correlation_id)
        self.facts.append(fact)
        evolve(self._state, fact)

    def _take_over(self, event: ClaimRequested) -> bool:
        """Free the jobs of a worker's earlier processes if this one is new; return whether it is."""
        if not note_process(self._state, event.worker_id, event.process_id):
            return False
        if event.worker_id in self._state.held:
            for job_id, job in list(self._state.jobs.items()):
                if job.status == "claimed" and job.worker_id == event.worker_id and job.process_id != event.process_id:
                    self._hand_back(job_id, job, "the worker has started again", abandoned=True)
        return True

    def _refuse_claim(self, event: ClaimRequested, claim_id: str, given: Literal["draining"] | None = None) -> None:
        reason = given or bar(self._state, event.pool, event.worker_id, self._now) or "no_job"
        refused = ClaimRefused(worker_id=event.worker_id, pool=event.pool, claim_id=claim_id, reason=reason)
        self._take(refused, event.pool)

    def _assign(self, job_id: str, claim_id: str, event: ClaimRequested, why: Why) -> None:
        self._take_over(event)  # its claim may have waited while this dispatcher restarted
        job = self._state.jobs[job_id]
        claimed = JobClaimed(
            job_id=job_id,
            video_id=job.queued.video_id,
            pool=event.pool,
            worker_id=event.worker_id,
            claim_id=claim_id,
            epoch=job.epoch + 1,
            attempt=job.attempts + 1,
            lease_expires_at=self._now + self._state.policy.lease,
            spec=job.queued.spec,
            reason="probation" if event.worker_id in self._state.quarantined else why,
            process_id=event.process_id,
        )
        self._take(claimed, event.pool)

    def _give(self, pool: str) -> None:
        """Give a pool's ready jobs to waiting claims until none fits."""
        while (pair := best_pair(self._state, pool, self._now)) is not None:
            job_id, claim, why = pair
            self._assign(job_id, claim.id, claim.request.data, why)

    def _fail_attempt(self, job_id: str, failure: Failure) -> None:
        job = self._state.jobs[job_id]
        worker_id = job.worker_id
        times = self._quarantines(worker_id)
        if not failure.retryable:
            self._fail(job_id, failure, "not_retryable")
        elif job.attempts >= self._state.policy.attempts_max:
            self._fail(job_id, failure, "attempts_used_up")
        else:
            failed = JobAttemptFailed(
                job_id=job_id,
                video_id=job.queued.video_id,
                pool=job.queued.pool,
                worker_id=worker_id,
                epoch=job.epoch,
                attempt=job.attempts,
                failure=failure,
                retry_at=self._retry_at(job),
                reason="retryable_failure",
                kind=job.queued.spec.kind,
            )
            self._take(failed, job.queued.pool)
        self._record_quarantine(worker_id, job.queued.pool, times)

    def _fail(
        self,
        job_id: str,
        failure: Failure,
        reason: Literal["attempts_used_up", "not_retryable", "lease_expired", "released_too_often"],
    ) -> None:
        job = self._state.jobs[job_id]
        failed = JobFailed(
            job_id=job_id,
            video_id=job.queued.video_id,
            pool=job.queued.pool,
            epoch=job.epoch,
            attempt=job.attempts,
            failure=failure,
            reason=reason,
            worker_id=job.worker_id or None,
            kind=job.queued.spec.kind,
        )
        self._take(failed, job.queued.pool)

    def _retry_at(self, job: Job) -> datetime:
        """Return the back-off base * 2^(n-1) ± 25 %. The jitter derives from the request's id, so that a replay gives the same."""
        jitter = random.Random(f"{self._request.id}/{job.queued.job_id}").uniform(0.75, 1.25)
        return self._now + self._state.policy.backoff(job.attempts) * jitter

    def _quarantines(self, worker_id: str) -> int:
        """Return how many quarantines in a row a worker has had, this one included."""
        quarantine = self._state.quarantined.get(worker_id)
        return quarantine.times if quarantine is not None else 0

    def _record_quarantine(self, worker_id: str, pool: str, before: int) -> None:
        """Record the quarantine that a failure led to."""
        if (times := self._quarantines(worker_id)) > before:
            quarantined = WorkerQuarantined(
                worker_id=worker_id,
                pool=pool,
                failures=1 if before else self._state.policy.quarantine_after,
                seconds=(self._state.quarantined[worker_id].until - self._now).total_seconds(),
                times=times,
                reason="probation_failed" if before else "failures_in_row",
            )
            self._take(quarantined, worker_id)

    def _clear(self, worker_id: str, pool: str, reason: Literal["probation_passed", "resumed"]) -> None:
        self._take(WorkerCleared(worker_id=worker_id, pool=pool, reason=reason), worker_id)

    def _hand_back(self, job_id: str, job: Job, reason: str, *, abandoned: bool = False) -> None:
        """Queue a job again, unless it was handed back too often."""
        self._release(job_id, job, reason, abandoned=abandoned)
        if job.attempts >= self._state.policy.attempts_max:
            bounced = "The job was handed back too often; look at the workers' logs."
            stage = KINDS[job.queued.spec.kind].stage
            failure = Failure(stage=stage, category="process_failure", code="BOUNCED", message=bounced)
            self._fail(job_id, failure, "released_too_often")

    def _release(self, job_id: str, job: Job, reason: str, *, abandoned: bool = False) -> None:
        released = JobReleased(
            job_id=job_id,
            video_id=job.queued.video_id,
            pool=job.queued.pool,
            worker_id=job.worker_id,
            epoch=job.epoch,
            reason=reason,
            abandoned=abandoned or None,
        )
        self._take(released, job.queued.pool)

    def _refuse_request(self, job_id: str, pool: str, reason: Literal["unknown_job", "already_ended", "not_ended"]) -> None:
        self._take(RequestRefused(job_id=job_id, pool=pool, reason=reason), pool)

    def _expire(self, job_id: str, job: Job) -> None:
        last = job.attempts >= self._state.policy.attempts_max
        worker_id = job.worker_id
        times = self._quarantines(worker_id)
        expired = LeaseExpired(
            job_id=job_id,
            video_id=job.queued.video_id,
            pool=job.queued.pool,
            worker_id=worker_id,
            epoch=job.epoch,
            attempt=job.attempts,
            retry_at=None if last else self._retry_at(job),
            reason="not_renewed",
            kind=job.queued.spec.kind,
        )
        self._take(expired, job.queued.pool)
        if last:
            message = "The worker was not heard of in time, at the last attempt as well; the job may be more than it can bear."
            stage = KINDS[job.queued.spec.kind].stage
            failure = Failure(stage=stage, category="timeout", code="LEASE_EXPIRED", message=message)
            self._fail(job_id, failure, "lease_expired")
        self._record_quarantine(worker_id, job.queued.pool, times)

    def _holder_or_refuse(self, event: LeaseRenewed | ResultReported | PartReported | LeaseReleased) -> Job | None:
        """Return the job if the sender holds it; else refuse with a reason and return None."""
        job = self._state.jobs.get(event.job_id)
        reason = refusal(job, event.worker_id, event.epoch)
        if reason is None:
            return job
        refused = ResultRefused(job_id=event.job_id, pool=event.pool, worker_id=event.worker_id, epoch=event.epoch, reason=reason)
        self._take(refused, event.pool)
        return None


def refusal(
    job: Job | None, worker_id: str, epoch: int
) -> Literal["unknown_job", "stale_epoch", "not_holder", "already_ended", "not_running"] | None:
    """Return why (worker, epoch) may not speak for the job; None when it holds it. This is the fence."""
    if job is None:
        return "unknown_job"
    if epoch != job.epoch:
        return "stale_epoch"
    if job.ended_at is not None:
        return "already_ended"
    if job.status != "claimed":
        return "not_running"
    if worker_id != job.worker_id:
        return "not_holder"
    return None
