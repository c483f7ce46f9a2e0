"""Who may do which job: the decider, `decide(state, request, now) -> facts`, pure of clock, chance and I/O.

    queued --claim--> claimed --result--> completed
      ^                 |  \\--failure, expiry--> retrying --retry_at--> queued      (after the last attempt: failed)
      |                 \\--release, requeue--> queued
      \\--retry-- failed, cancelled

Its state is the fold of its own facts (`processors.dispatch.state`). Every fact says why it was decided (`reason`).
"""

import heapq
import random
from collections import OrderedDict
from datetime import datetime
from typing import Literal

from events.envelope import Envelope, Event, derive
from events.jobs import (
    CancelRequested,
    ClaimRefused,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
    DispatchPaused,
    DispatchResumed,
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobReleased,
    JobSubmitted,
    LeaseExpired,
    LeaseReleased,
    LeaseRenewed,
    PartAccepted,
    PartReported,
    PauseRequested,
    RequestRefused,
    RequeueRequested,
    ResultRefused,
    ResultReported,
    ResumeRequested,
    RetryRequested,
)
from events.kinds import KINDS, JobResult, foreign
from events.media import Failure, FailureStage, Rendition
from events.objects import attempt_prefix, objects_in
from events.workers import WorkerCleared, WorkerQuarantined
from processors.dispatch.matching import Why, best_job, best_pair
from processors.dispatch.state import (
    Claim,
    Gpu,
    Job,
    State,
    bar,
    evolve,
    hear,
    next_wakeup,
    note_process,
    requeue,
    set_alarm,
    set_alarms_for_claims,
)

SOURCE = "kinolog/dispatcher"
CLAIMS_MAX = 10_000
NOTE_MAX = 2000
"""Characters of what a person said that stand in a fact beside the job."""


def decide(state: State, request: Envelope[Event], now: datetime, *, too_large: bool = False) -> list[Envelope[Event]]:
    """Return the facts that follow from a request, already applied to the state. A repetition yields nothing new.

    A request is `too_large` when a fact that repeats it would not fit on the log: then the fact says that instead.
    """
    if request.id in state.answered:
        return []
    decision = Decision(state, request, now)
    event = request.data
    match event:
        case JobSubmitted() | ResultReported() | PartReported() if too_large:
            decision.refuse_size(event)
        case JobSubmitted():
            decision.submit(event)
        case ClaimRequested():
            decision.claim(request, event)
        case ClaimWithdrawn():
            decision.withdraw(event)
        case LeaseRenewed():
            decision.renew(event)
        case ResultReported():
            decision.report(event)
        case PartReported():
            decision.part(event)
        case LeaseReleased():
            decision.release(event)
        case CancelRequested():
            decision.cancel(event)
        case RetryRequested():
            decision.retry(event)
        case RequeueRequested():
            decision.requeue(event)
        case PauseRequested():
            decision.pause(event)
        case ResumeRequested():
            decision.resume(event)
        case ClockTicked():
            decision.tick(event)
        case _:
            return []
    return decision.facts


class Decision:
    """One request being decided: collects facts, each applied as soon as it is taken."""

    def __init__(self, state: State, request: Envelope[Event], now: datetime) -> None:
        self._state = state
        self._request = request
        self._now = now
        self.facts: list[Envelope[Event]] = []

    def _take(self, event: Event, subject: str) -> None:
        """Derive a fact from the request and apply it. A job's facts stay in the correlation in which it was submitted."""
        fact = derive(self._request, len(self.facts), data=event, subject=subject, source=SOURCE, time=self._now)
        job = self._state.jobs.get(getattr(event, "job_id", ""))
        if job is not None:
            fact = fact._replace(correlationid=job.correlation_id)
        self.facts.append(fact)
        evolve(self._state, fact)

    def submit(self, event: JobSubmitted) -> None:
        """Queue a job that is new; one that is known was submitted before."""
        if event.job_id in self._state.jobs:
            return
        queued = JobQueued(
            job_id=event.job_id,
            video_id=event.video_id,
            pool=event.pool,
            spec=event.spec,
            requirements=event.requirements,
            priority=event.priority,
        )
        self._take(queued, event.pool)
        self._give(event.pool)

    def refuse_size(self, event: JobSubmitted | ResultReported | PartReported) -> None:
        """Say that a job cannot be queued, or that an attempt has failed, because there is too much to say of it."""
        if isinstance(event, JobSubmitted):
            if event.job_id not in self._state.jobs:
                sentence = "The job that was planned is too large to be written down: the file has too many parts."
                failure = _too_large(KINDS[event.spec.kind].stage, "JOB_TOO_LARGE", sentence)
                refused = RequestRefused(
                    job_id=event.job_id, pool=event.pool, reason="too_large", video_id=event.video_id, failure=failure
                )
                self._take(refused, event.pool)
            return
        if (job := self._holder_or_refuse(event)) is None:
            return
        sentence = "The worker's report is too large to be written down."
        failure = _too_large(KINDS[job.queued.spec.kind].stage, "RESULT_TOO_LARGE", sentence)
        if isinstance(event, ResultReported) and event.failure is not None:
            failure = event.failure.model_copy(update={"detail": None, "context": None})
        self._fail_attempt(event.job_id, failure)

    def claim(self, request: Envelope[Event], event: ClaimRequested) -> None:
        """Give the best job that fits, or let the claim wait until its deadline: also one that gets no job for now.

        The first claim of a worker's new process frees what the one before held. That one may still be there, frozen for a
        while: its jobs are lost to it by their epochs, and when it asks for others it is told to stop.
        """
        if event.process_id in self._state.superseded:
            self._refuse_claim(event, request.id, "draining")
            return
        started = self._take_over(event)
        if event.capabilities.gpu:
            self._state.gpus[event.worker_id] = Gpu(event.pool, event.capabilities, self._now)
            hear(self._state, event.worker_id, self._now)
        barred = bar(self._state, event.pool, event.worker_id, self._now)
        if barred == "draining" or self._now >= event.deadline or self._state.waiting >= CLAIMS_MAX:
            self._refuse_claim(event, request.id)
        elif barred is None and (job_id := best_job(self._state, event, self._now)) is not None:
            self._assign(job_id, request.id, event, "best_job")
            if event.capabilities.gpu:
                self._give(event.pool)  # nobody needs to wait for this one any longer
        else:
            _line_up(self._state, request, event)
        if started:
            self._give(event.pool)

    def _take_over(self, event: ClaimRequested) -> bool:
        """Free what earlier processes of a worker held, if this one is new. Their claims get nothing any more (`matching`)."""
        if not note_process(self._state, event.worker_id, event.process_id):
            return False
        if event.worker_id in self._state.held:
            for job_id, job in list(self._state.jobs.items()):
                if job.status == "claimed" and job.worker_id == event.worker_id and job.process_id != event.process_id:
                    self._hand_back(job_id, job, "the worker has started again", abandoned=True)
        return True

    def withdraw(self, event: ClaimWithdrawn) -> None:
        """Let nobody wait for a worker that is leaving. One that was given a job meanwhile hands it back itself."""
        key = self._state.claim_groups.get(event.claim_id)
        if key is None:
            return
        claim = self._state.claims[key][event.claim_id].request.data
        if claim.worker_id == event.worker_id:
            self._refuse_claim(claim, event.claim_id)
            self._state.gpus.pop(event.worker_id, None)
            self._give(event.pool)

    def _refuse_claim(self, event: ClaimRequested, claim_id: str, told: Literal["draining"] | None = None) -> None:
        reason = told or bar(self._state, event.pool, event.worker_id, self._now) or "no_job"
        refused = ClaimRefused(worker_id=event.worker_id, pool=event.pool, claim_id=claim_id, reason=reason)
        self._take(refused, event.pool)
        hear(self._state, event.worker_id, self._now)

    def _assign(self, job_id: str, claim_id: str, event: ClaimRequested, why: Why) -> None:
        self._take_over(event)  # its claim may have waited while this dispatcher was started again
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
        """Hand ready jobs of a pool to claims that wait, until nothing fits."""
        while (pair := best_pair(self._state, pool, self._now)) is not None:
            job_id, claim, why = pair
            self._assign(job_id, claim.id, claim.request.data, why)

    def renew(self, event: LeaseRenewed) -> None:
        """Extend the lease of its holder; no fact. A sender that is not the holder is refused.

        A renewal that crosses its holder's own result on the way is no offence.
        """
        job = self._state.jobs.get(event.job_id)
        if job is not None and job.ended_at is not None and (job.epoch, job.worker_id) == (event.epoch, event.worker_id):
            return
        if self._holder_or_refuse(event) is not None:
            remember(self._state, self._request, self._now)

    def report(self, event: ResultReported) -> None:
        """Accept the result of the holder."""
        job = self._state.jobs.get(event.job_id)
        said = "failed" if event.result is None else "completed"
        if job is not None and job.status == said and (job.epoch, job.worker_id) == (event.epoch, event.worker_id):
            return  # said again; the first time counted
        if self._holder_or_refuse(event) is None or job is None:
            return
        if event.result is not None and (fault := _not_its_own(job, event.job_id, event.result)) is not None:
            self._fail_attempt(event.job_id, fault)
            return
        if event.result is not None:
            completed = JobCompleted(
                job_id=event.job_id,
                video_id=job.queued.video_id,
                pool=event.pool,
                worker_id=event.worker_id,
                epoch=event.epoch,
                attempt=job.attempts,
                result=event.result,
                reason="reported",
            )
            probation = event.worker_id in self._state.quarantined
            self._take(completed, event.pool)
            if probation and event.worker_id not in self._state.quarantined:
                self._clear(event.worker_id, event.pool, "probation_passed")
            return
        failure = event.failure or Failure(stage="encoding", category="unknown", code="UNKNOWN", message="No reason was given.")
        self._fail_attempt(event.job_id, failure)

    def part(self, event: PartReported) -> None:
        """Take a part of the holder's result, for when the job is completed."""
        if (job := self._holder_or_refuse(event)) is None:
            return
        if (fault := _not_its_own(job, event.job_id, event.renditions)) is not None:
            self._fail_attempt(event.job_id, fault)
            return
        accepted = PartAccepted(
            job_id=event.job_id,
            video_id=job.queued.video_id,
            pool=event.pool,
            worker_id=event.worker_id,
            epoch=event.epoch,
            part=event.part,
            renditions=event.renditions,
        )
        self._take(accepted, event.pool)

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
        self._tell_quarantine(worker_id, job.queued.pool, times)

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
        """Back-off base * 2^(n-1) +-25 %; the chance comes from the request's id, so that it is the same at every try."""
        jitter = random.Random(f"{self._request.id}/{job.queued.job_id}").uniform(0.75, 1.25)
        return self._now + self._state.policy.backoff(job.attempts) * jitter

    def _quarantines(self, worker_id: str) -> int:
        """Return how many quarantines in a row a worker has had, this one included."""
        quarantine = self._state.quarantined.get(worker_id)
        return quarantine.times if quarantine is not None else 0

    def _tell_quarantine(self, worker_id: str, pool: str, before: int) -> None:
        """Announce the quarantine that a failure led to."""
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

    def release(self, event: LeaseReleased) -> None:
        """Take the job back from its holder and give it to the next."""
        job = self._holder_or_refuse(event)
        if job is None:
            return
        self._hand_back(event.job_id, job, event.reason)
        self._give(event.pool)

    def _hand_back(self, job_id: str, job: Job, reason: str, *, abandoned: bool = False) -> None:
        """Let a job wait again, unless it was handed back too often."""
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

    def cancel(self, event: CancelRequested) -> None:
        """End a job that nobody needs."""
        job = self._state.jobs.get(event.job_id)
        if job is None or job.ended_at is not None:
            self._refuse_request(event.job_id, event.pool, "already_ended" if job else "unknown_job")
            return
        cancelled = JobCancelled(
            job_id=event.job_id, video_id=job.queued.video_id, pool=event.pool, epoch=job.epoch, reason=event.reason
        )
        self._take(cancelled, event.pool)

    def retry(self, event: RetryRequested) -> None:
        """Queue a failed or cancelled job again; its epoch goes on counting."""
        job = self._state.jobs.get(event.job_id)
        if job is None or job.status not in ("failed", "cancelled"):
            reason: Literal["unknown_job", "already_ended", "not_ended"] = "unknown_job"
            if job is not None:
                reason = "already_ended" if job.status == "completed" else "not_ended"
            self._refuse_request(event.job_id, event.pool, reason)
            return
        self._take(job.queued.model_copy(update={"reason": "retried", "note": event.reason[:NOTE_MAX]}), event.pool)
        self._give(event.pool)

    def requeue(self, event: RequeueRequested) -> None:
        """Let a job that has not ended wait for a worker again, whoever had it."""
        job = self._state.jobs.get(event.job_id)
        if job is None or job.ended_at is not None:
            self._refuse_request(event.job_id, event.pool, "already_ended" if job else "unknown_job")
            return
        if job.status == "claimed":
            self._release(event.job_id, job, event.reason)
        priority = event.priority or job.queued.priority
        again = job.queued.model_copy(update={"reason": "requeued", "note": event.reason[:NOTE_MAX], "priority": priority})
        self._take(again, event.pool)
        self._give(event.pool)

    def pause(self, event: PauseRequested) -> None:
        """Give no more jobs to a worker or pool. Who is to drain is told at once; others go on waiting, to be resumed."""
        if self._state.paused.get((event.pool, event.worker_id or "")) == event.drain:
            return
        paused = DispatchPaused(pool=event.pool, worker_id=event.worker_id, drain=event.drain, reason=event.reason)
        self._take(paused, event.pool)
        if event.drain:
            claims = [claim for (pool, _), group in self._state.claims.items() if pool == event.pool for claim in group.values()]
            for claim in claims:
                if event.worker_id in (None, claim.request.data.worker_id):
                    self._refuse_claim(claim.request.data, claim.id)

    def resume(self, event: ResumeRequested) -> None:
        """Give jobs to a worker or pool again."""
        quarantined = event.worker_id is not None and event.worker_id in self._state.quarantined
        if (event.pool, event.worker_id or "") not in self._state.paused and not quarantined:
            return
        self._take(DispatchResumed(pool=event.pool, worker_id=event.worker_id, reason=event.reason), event.pool)
        if quarantined and event.worker_id is not None:
            self._clear(event.worker_id, event.pool, "resumed")
        self._give(event.pool)

    def _refuse_request(self, job_id: str, pool: str, reason: Literal["unknown_job", "already_ended", "not_ended"]) -> None:
        self._take(RequestRefused(job_id=job_id, pool=pool, reason=reason), pool)

    def tick(self, event: ClockTicked) -> None:
        """Do what is due: expire leases, end waits and quarantines, refuse claims whose deadline came."""
        state = self._state
        pools = {event.pool}
        while (moment := next_wakeup(state)) is not None and moment <= self._now:
            _, _, due, of = heapq.heappop(state.alarms)
            match due:
                case "claim":
                    claim = state.claims[state.claim_groups[of]][of]
                    self._refuse_claim(claim.request.data, claim.id)
                case "job":
                    job = state.jobs[of]
                    pools.add(job.queued.pool)
                    if job.status == "claimed":
                        self._expire(of, job)
                    else:
                        requeue(state, of)
                case "quarantine":
                    pools.add(state.quarantined[of].pool)
                case "gpu":
                    pools.add(state.gpus.pop(of).pool)
        for pool in sorted(pools):
            self._give(pool)

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
        self._tell_quarantine(worker_id, job.queued.pool, times)

    def _holder_or_refuse(self, event: LeaseRenewed | ResultReported | PartReported | LeaseReleased) -> Job | None:
        """Return the job when the sender holds it; else refuse, with the reason."""
        job = self._state.jobs.get(event.job_id)
        reason = refusal(job, event.worker_id, event.epoch)
        if reason is None:
            return job
        refused = ResultRefused(job_id=event.job_id, pool=event.pool, worker_id=event.worker_id, epoch=event.epoch, reason=reason)
        self._take(refused, event.pool)
        return None


def _not_its_own(job: Job, job_id: str, made: JobResult | tuple[Rendition, ...]) -> Failure | None:
    """Return the failure of an attempt that reports a result, or a part of one, which is not of its kind or not its own."""
    kind = KINDS[job.queued.spec.kind]
    attempt = attempt_prefix(job.queued.video_id, job_id, job.epoch)
    fits = kind.in_parts if isinstance(made, tuple) else isinstance(made, kind.result)
    if fits and not foreign(kind, objects_in(made), video_id=job.queued.video_id, attempt=attempt):
        return None
    sentence = "The worker's report names what its attempt did not make."
    return Failure(stage=kind.stage, category="validation", code="RESULT_NOT_ITS_OWN", message=sentence)


def _too_large(stage: FailureStage, code: str, sentence: str) -> Failure:
    return Failure(stage=stage, category="size_limits", code=code, message=sentence, retryable=False)


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


def _line_up(state: State, request: Envelope[Event], event: ClaimRequested) -> None:
    """Let a claim wait for a job."""
    if not state.claim_groups:
        set_alarms_for_claims(state, request.time)
    key = (event.pool, event.capabilities)
    state.claims.setdefault(key, OrderedDict())[request.id] = Claim(request)  # type: ignore[arg-type]
    state.claim_groups[request.id] = key
    set_alarm(state, event.deadline, "claim", request.id)


def remember(state: State, request: Envelope[Event], now: datetime | None = None) -> None:
    """Keep what is no fact: a claim that waits, or (with `now`) a renewal of the holder."""
    event = request.data
    if isinstance(event, ClaimRequested) and request.id not in state.answered:
        if event.worker_id not in state.processes:  # else the facts know better: this may be one of an earlier process
            note_process(state, event.worker_id, event.process_id)
        _line_up(state, request, event)
    elif isinstance(event, LeaseRenewed) and now is not None:
        job = state.jobs.get(event.job_id)
        if job is not None and refusal(job, event.worker_id, event.epoch) is None:
            job.lease_expires_at = now + state.policy.lease
            set_alarm(state, job.lease_expires_at, "job", event.job_id)
