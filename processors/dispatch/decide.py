r"""The dispatcher's decider: `decide(state, request, now) -> facts`, pure of clock, chance and I/O.

    queued --claim--> claimed --result--> completed
      ^                 |  \--failure, expiry--> retrying --retry_at--> queued      (after the last attempt: failed)
      |                 \--release, requeue--> queued
      \--retry-- failed, cancelled

Its state is the fold of its own facts (`processors.dispatch.state`). Every fact has the `reason` of its decision.
"""

import heapq
from collections import OrderedDict
from datetime import datetime
from typing import Literal, assert_never

from events.envelope import Envelope, Event
from events.jobs import (
    CancelRequested,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
    DispatchPaused,
    DispatchResumed,
    JobCancelled,
    JobCompleted,
    JobQueued,
    JobRequest,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    PartAccepted,
    PartReported,
    PauseRequested,
    RequestRefused,
    RequeueRequested,
    ResultReported,
    ResumeRequested,
    RetryRequested,
)
from events.kinds import KINDS, JobResult, foreign
from events.media import Failure, FailureStage, Rendition
from events.objects import attempt_prefix, objects_in
from processors.dispatch.decision import SOURCE, Decision, refusal
from processors.dispatch.matching import best_job
from processors.dispatch.state import (
    Claim,
    Decided,
    Job,
    State,
    bar,
    next_wakeup,
    note_gpu,
    note_process,
    requeue,
    set_alarm,
    set_alarms_for_claims,
)

__all__ = ["SOURCE", "decide", "refusal", "remember"]
CLAIMS_MAX = 10_000
NOTE_MAX = 2000
"""Maximum characters of a person's reason in a fact that repeats the job."""


def decide(
    state: State, request: Envelope[JobRequest], now: datetime, *, too_large: bool = False, replayed: bool = False
) -> list[Envelope[Decided]]:
    """Return the facts that follow from a request, already applied to the state. A repeated request yields none.

    `too_large`: a fact that repeats the request would not fit on the log; a fact says so instead. `replayed`: a what-if run
    repeats a result that was judged when it was recorded; its objects are those of the recorded attempt.
    """
    if request.id in state.answered:
        return []
    decision = Answer(state, request, now, fenced=not replayed)
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
            assert_never(event)
    return decision.facts


class Answer(Decision):
    """Decisions by kind of request. `fenced`: results must name only their own attempt's objects."""

    def __init__(self, state: State, request: Envelope[JobRequest], now: datetime, *, fenced: bool) -> None:
        super().__init__(state, request, now)
        self._fenced = fenced

    def submit(self, event: JobSubmitted) -> None:
        """Queue a new job; ignore a known one, which was submitted before."""
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
        """Fail a job or an attempt whose request is too large for the log."""
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
        """Give the best job that fits, or let the claim wait until its deadline, even if the worker gets no jobs for now.

        The first claim of a worker's new process frees the jobs of the one before. That process may be frozen instead of dead:
        epochs fence its jobs, and its next claim is refused with `draining`.
        """
        if event.process_id in self._state.superseded:
            self._refuse_claim(event, request.id, "draining")
            return
        started = self._take_over(event)
        note_gpu(self._state, event, self._now)
        barred = bar(self._state, event.pool, event.worker_id, self._now)
        if barred == "draining" or self._now >= event.deadline or self._state.waiting >= CLAIMS_MAX:
            self._refuse_claim(event, request.id)
        elif barred is None and (job_id := best_job(self._state, event, self._now)) is not None:
            self._assign(job_id, request.id, event, "best_job")
            if event.capabilities.gpu:
                self._give(event.pool)  # nobody waits for this one any longer
        else:
            _line_up(self._state, request, event)
        if started:
            self._give(event.pool)

    def withdraw(self, event: ClaimWithdrawn) -> None:
        """Drop the claim of a leaving worker. If it was given a job meanwhile, it hands the job back itself."""
        key = self._state.claim_groups.get(event.claim_id)
        if key is None:
            return
        claim = self._state.claims[key][event.claim_id].request.data
        if claim.worker_id == event.worker_id:
            self._refuse_claim(claim, event.claim_id)
            self._state.gpus.pop(event.worker_id, None)
            self._give(event.pool)

    def renew(self, event: LeaseRenewed) -> None:
        """Extend the holder's lease, without a fact; refuse any other sender.

        A renewal that arrives after its holder's own result is ignored.
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
            return  # a repetition; the first one counted
        if self._holder_or_refuse(event) is None or job is None:
            return
        if event.result is not None and (fault := self._not_its_own(job, event.job_id, event.result)) is not None:
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

    def _not_its_own(self, job: Job, job_id: str, made: JobResult | tuple[Rendition, ...]) -> Failure | None:
        """Return the failure of an attempt whose result, or part, is of another kind or names another attempt's objects."""
        kind = KINDS[job.queued.spec.kind]
        attempt = attempt_prefix(job.queued.video_id, job_id, job.epoch)
        fits = kind.in_parts if isinstance(made, tuple) else isinstance(made, kind.result)
        if not self._fenced or (fits and not foreign(kind, objects_in(made), video_id=job.queued.video_id, attempt=attempt)):
            return None
        sentence = "The worker's report names what its attempt did not make."
        return Failure(stage=kind.stage, category="validation", code="RESULT_NOT_ITS_OWN", message=sentence)

    def part(self, event: PartReported) -> None:
        """Record a part of the holder's result for the completed job."""
        if (job := self._holder_or_refuse(event)) is None:
            return
        if (fault := self._not_its_own(job, event.job_id, event.renditions)) is not None:
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

    def release(self, event: LeaseReleased) -> None:
        """Take the job back from its holder and queue it again."""
        job = self._holder_or_refuse(event)
        if job is None:
            return
        self._hand_back(event.job_id, job, event.reason)
        self._give(event.pool)

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
        """Queue a job again that has not ended, also one that a worker holds."""
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
        """Give no more jobs to a worker or pool. A draining worker's claim is refused at once; others wait to be resumed."""
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

    def tick(self, event: ClockTicked) -> None:
        """Act on passed times: expire leases, end waits and quarantines, refuse claims past their deadline."""
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


def _too_large(stage: FailureStage, code: str, sentence: str) -> Failure:
    return Failure(stage=stage, category="size_limits", code=code, message=sentence, retryable=False)


def _line_up(state: State, request: Envelope[Event], event: ClaimRequested) -> None:
    """Let a claim wait for a job."""
    if not state.claim_groups:
        set_alarms_for_claims(state, request.time)
    key = (event.pool, event.capabilities)
    state.claims.setdefault(key, OrderedDict())[request.id] = Claim(request)  # type: ignore[arg-type]
    state.claim_groups[request.id] = key
    set_alarm(state, event.deadline, "claim", request.id)


def remember(state: State, request: Envelope[Event], now: datetime | None = None) -> None:
    """Restore state that is no fact: a waiting claim, or (with `now`) the holder's renewal."""
    event = request.data
    if isinstance(event, ClaimRequested) and request.id not in state.answered:
        if event.worker_id not in state.processes:  # else facts are newer: the claim may be of an earlier process
            note_process(state, event.worker_id, event.process_id)
        _line_up(state, request, event)
    elif isinstance(event, LeaseRenewed) and now is not None:
        job = state.jobs.get(event.job_id)
        if job is not None and refusal(job, event.worker_id, event.epoch) is None:
            job.lease_expires_at = now + state.policy.lease
            set_alarm(state, job.lease_expires_at, "job", event.job_id)
