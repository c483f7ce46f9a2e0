"""Who may do which job: the decider. `evolve(state, fact)` and `decide(state, request, now) -> facts`, both pure of clock,
chance and I/O.

    queued --claim--> claimed --result--> completed
      ^                 |  \\--failure, expiry--> retrying --retry_at--> queued      (after the last attempt: failed)
      |                 \\--release--> queued
      \\--retry-- failed, cancelled

State is the fold of the facts in topic `jobs` and can always be read again from there. Two things live in it that are
no facts: claims that wait for a job, and renewed leases; after a restart the owner recovers both from the latest
requests (`remember`). For speed, `evolve` changes the state in place and returns nothing.
"""

import heapq
import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Literal

from events.envelope import Envelope, Event, derive
from events.jobs import (
    CancelRequested,
    Capabilities,
    ClaimRefused,
    ClaimRequested,
    ClockTicked,
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
    RequestRefused,
    Requirements,
    ResultRefused,
    ResultReported,
    RetryRequested,
)
from events.media import Failure
from events.workers import WorkerQuarantined
from processors.matching import best_job, best_pair

SOURCE = "kinolog/dispatcher"
ANSWERED_MAX = 100_000
CLAIMS_MAX = 10_000
RELEASES_FREE = 10
"""A job may be handed back this often; after that a release costs an attempt, so that nothing is bounced for ever."""
FORGET_AFTER = timedelta(days=8)
"""Ended jobs are known for longer than a request is kept on the log (7 days), so that no late repetition revives one."""
PRIORITY_LEAD = {"high": timedelta(), "normal": timedelta(minutes=10), "low": timedelta(hours=1)}
"""Ageing: a normal job overtakes high ones that are 10 minutes younger, a low job normal ones that are 50 minutes younger."""

Status = Literal["queued", "claimed", "retrying", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Times and counts by which it is decided; what-if replays try others, and may override `rank` and `backoff`."""

    lease: timedelta = timedelta(seconds=60)
    attempts_max: int = 3
    backoff_base: timedelta = timedelta(seconds=30)
    quarantine_after: int = 5
    quarantine: timedelta = timedelta(minutes=10)

    def rank(self, queued: JobQueued, queued_at: datetime) -> datetime:
        """Return the moment by which ready jobs are ordered: the earliest goes first."""
        return queued_at + PRIORITY_LEAD[queued.priority]

    def backoff(self, attempts: int) -> timedelta:
        """Return the wait after so many failed attempts, before chance is added."""
        wait: timedelta = self.backoff_base * 2 ** (attempts - 1)
        return wait


@dataclass(slots=True)
class Job:
    """One job. `attempts` counts claims that were not handed back; `epoch` every claim."""

    queued: JobQueued
    queued_at: datetime
    correlation_id: str
    status: Status = "queued"
    attempts: int = 0
    epoch: int = 0
    releases: int = 0
    worker_id: str = ""
    lease_expires_at: datetime | None = None
    retry_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A request for a job that waits."""

    request: Envelope[ClaimRequested]

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id


@dataclass
class State:
    """All jobs of the pools in one partition."""

    policy: Policy = field(default_factory=Policy)
    jobs: dict[str, Job] = field(default_factory=dict)
    ended: "OrderedDict[str, datetime]" = field(default_factory=OrderedDict)
    answered: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    failures_in_row: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, datetime] = field(default_factory=dict)
    last_video: dict[str, str] = field(default_factory=dict)
    claims: dict[tuple[str, Capabilities], "OrderedDict[str, Claim]"] = field(default_factory=dict)
    claim_groups: dict[str, tuple[str, Capabilities]] = field(default_factory=dict)
    ready: dict[tuple[str, Requirements], list[tuple[datetime, int, str]]] = field(default_factory=dict)
    alarms: list[tuple[datetime, int, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def waiting(self) -> int:
        """How many claims wait."""
        return len(self.claim_groups)


# --- evolve ---------------------------------------------------------------------------------------------------------


def evolve(state: State, fact: Envelope[Event]) -> None:
    """Apply one fact to the state, in place."""
    event = fact.data
    if fact.causationid is not None:
        _note_answer(state, fact.causationid)
    match event:
        case JobQueued():
            job = state.jobs.get(event.job_id)
            epoch = job.epoch if job else 0
            state.jobs[event.job_id] = Job(event, fact.time, fact.correlationid, epoch=epoch)
            state.ended.pop(event.job_id, None)
            _make_ready(state, event.job_id)
        case JobClaimed():
            job = state.jobs[event.job_id]
            job.status, job.worker_id, job.epoch, job.attempts = "claimed", event.worker_id, event.epoch, event.attempt
            job.lease_expires_at, job.retry_at = event.lease_expires_at, None
            state.last_video[event.worker_id] = event.video_id
            _set_alarm(state, event.lease_expires_at, event.job_id)
            _drop_claim(state, event.claim_id)
        case JobAttemptFailed():
            _wait(state, event.job_id, event.retry_at)
            if event.failure.retryable:
                _blame(state, event.worker_id, fact.time)
        case LeaseExpired():
            _wait(state, event.job_id, event.retry_at)
            _blame(state, event.worker_id, fact.time)
        case JobReleased():
            job = state.jobs[event.job_id]
            job.releases += 1
            if job.releases <= RELEASES_FREE:
                job.attempts -= 1
            _requeue(state, event.job_id)
        case JobCompleted():
            state.failures_in_row.pop(event.worker_id, None)
            _end(state, event.job_id, "completed", fact.time)
        case JobFailed():
            job = state.jobs[event.job_id]
            if event.failure.retryable and job.status == "claimed":
                _blame(state, job.worker_id, fact.time)
            _end(state, event.job_id, "failed", fact.time)
        case JobCancelled():
            _end(state, event.job_id, "cancelled", fact.time)
        case ClaimRefused():
            _drop_claim(state, event.claim_id)
        case _:
            return


def _make_ready(state: State, job_id: str) -> None:
    job = state.jobs[job_id]
    queue = state.ready.setdefault((job.queued.pool, job.queued.requirements), [])
    heapq.heappush(queue, (state.policy.rank(job.queued, job.queued_at), next(state.numbers), job_id))


def _requeue(state: State, job_id: str) -> None:
    job = state.jobs[job_id]
    job.status, job.worker_id, job.lease_expires_at, job.retry_at = "queued", "", None, None
    _make_ready(state, job_id)


def _wait(state: State, job_id: str, retry_at: datetime | None) -> None:
    job = state.jobs[job_id]
    job.status, job.lease_expires_at, job.retry_at = "retrying", None, retry_at
    if retry_at is not None:
        _set_alarm(state, retry_at, job_id)


def _end(state: State, job_id: str, status: Status, time: datetime) -> None:
    job = state.jobs[job_id]
    job.status, job.lease_expires_at, job.retry_at, job.ended_at = status, None, None, time
    state.ended[job_id] = time
    while state.ended and time - next(iter(state.ended.values())) > FORGET_AFTER:
        old, _ = state.ended.popitem(last=False)
        del state.jobs[old]


def _blame(state: State, worker_id: str, time: datetime) -> None:
    """Count a failure in a row; too many mean quarantine, and one more after it means the next."""
    policy = state.policy
    failures = state.failures_in_row.get(worker_id, 0) + 1
    if failures >= policy.quarantine_after:
        state.quarantined[worker_id] = time + policy.quarantine
        failures = policy.quarantine_after - 1
    state.failures_in_row[worker_id] = failures


def _note_answer(state: State, request_id: str) -> None:
    """Remember that a request was answered, so that its repetition is not."""
    state.answered[request_id] = None
    while len(state.answered) > ANSWERED_MAX:
        state.answered.popitem(last=False)


def _drop_claim(state: State, claim_id: str) -> None:
    """Take a claim that was answered from those that wait; what answered it may be another request, as a job's submission."""
    _note_answer(state, claim_id)
    key = state.claim_groups.pop(claim_id, None)
    if key is not None:
        del state.claims[key][claim_id]
        if not state.claims[key]:
            del state.claims[key]


def _set_alarm(state: State, moment: datetime, of: str) -> None:
    """Something may be due at a moment for a job or claim; alarms that no longer hold are dropped when they come up."""
    heapq.heappush(state.alarms, (moment, next(state.numbers), of))


# --- decide ---------------------------------------------------------------------------------------------------------


def decide(state: State, request: Envelope[Event], now: datetime) -> list[Envelope[Event]]:
    """Return the facts that follow from a request, already applied to the state. A repetition yields nothing new."""
    if request.id in state.answered:
        return []
    decision = Decision(state, request, now)
    event = request.data
    match event:
        case JobSubmitted():
            decision.submit(event)
        case ClaimRequested():
            decision.claim(request, event)
        case LeaseRenewed():
            decision.renew(event)
        case ResultReported():
            decision.report(event)
        case LeaseReleased():
            decision.release(event)
        case CancelRequested():
            decision.cancel(event)
        case RetryRequested():
            decision.retry(event)
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

    def claim(self, request: Envelope[Event], event: ClaimRequested) -> None:
        """Give the best job that fits, or let the claim wait until its deadline."""
        until = self._state.quarantined.get(event.worker_id)
        if until is not None and self._now < until:
            self._refuse_claim(event, request.id, "quarantined")
        elif self._now >= event.deadline or self._state.waiting >= CLAIMS_MAX:
            self._refuse_claim(event, request.id, "no_job")
        elif (job_id := best_job(self._state, event.pool, event.capabilities)) is not None:
            self._assign(job_id, request.id, event)
        else:
            remember(self._state, request)

    def _refuse_claim(self, event: ClaimRequested, claim_id: str, reason: Literal["no_job", "quarantined"]) -> None:
        refused = ClaimRefused(worker_id=event.worker_id, pool=event.pool, claim_id=claim_id, reason=reason)
        self._take(refused, event.pool)

    def _assign(self, job_id: str, claim_id: str, event: ClaimRequested) -> None:
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
        )
        self._take(claimed, event.pool)

    def _give(self, pool: str) -> None:
        """Hand ready jobs of a pool to claims that wait, until nothing fits."""
        while (pair := best_pair(self._state, pool, self._now)) is not None:
            job_id, claim = pair
            self._assign(job_id, claim.id, claim.request.data)

    def renew(self, event: LeaseRenewed) -> None:
        """Extend the lease of its holder; no fact. Who is not the holder is told so."""
        if self._holder_or_refuse(event) is not None:
            remember(self._state, self._request, self._now)

    def report(self, event: ResultReported) -> None:
        """Accept the result of the holder."""
        job = self._state.jobs.get(event.job_id)
        if job is not None and job.ended_at and (job.epoch, job.worker_id) == (event.epoch, event.worker_id):
            return  # said again; the first time counted
        if self._holder_or_refuse(event) is None or job is None:
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
            )
            self._take(completed, event.pool)
            return
        failure = event.failure or Failure(stage="encoding", category="unknown", code="UNKNOWN", message="No reason was given.")
        self._fail_attempt(event.job_id, failure)

    def _fail_attempt(self, job_id: str, failure: Failure) -> None:
        job = self._state.jobs[job_id]
        worker_id = job.worker_id
        if not failure.retryable or job.attempts >= self._state.policy.attempts_max:
            self._fail(job_id, failure)
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
            )
            self._take(failed, job.queued.pool)
        self._tell_quarantine(worker_id, job.queued.pool)

    def _fail(self, job_id: str, failure: Failure) -> None:
        job = self._state.jobs[job_id]
        failed = JobFailed(
            job_id=job_id,
            video_id=job.queued.video_id,
            pool=job.queued.pool,
            epoch=job.epoch,
            attempt=job.attempts,
            failure=failure,
        )
        self._take(failed, job.queued.pool)

    def _retry_at(self, job: Job) -> datetime:
        """Back-off base * 2^(n-1) +-25 %; the chance comes from the request's id, so that it is the same at every try."""
        jitter = random.Random(f"{self._request.id}/{job.queued.job_id}").uniform(0.75, 1.25)
        return self._now + self._state.policy.backoff(job.attempts) * jitter

    def _tell_quarantine(self, worker_id: str, pool: str) -> None:
        until = self._state.quarantined.get(worker_id)
        if until == self._now + self._state.policy.quarantine:
            quarantined = WorkerQuarantined(
                worker_id=worker_id,
                pool=pool,
                failures=self._state.policy.quarantine_after,
                seconds=self._state.policy.quarantine.total_seconds(),
            )
            self._take(quarantined, worker_id)

    def release(self, event: LeaseReleased) -> None:
        """Take the job back from its holder and give it to the next."""
        job = self._holder_or_refuse(event)
        if job is None:
            return
        released = JobReleased(
            job_id=event.job_id,
            video_id=job.queued.video_id,
            pool=event.pool,
            worker_id=event.worker_id,
            epoch=event.epoch,
            reason=event.reason,
        )
        self._take(released, event.pool)
        if job.attempts >= self._state.policy.attempts_max:
            bounced = "The job was handed back too often; look at the workers' logs."
            self._fail(event.job_id, Failure(stage="encoding", category="process_failure", code="BOUNCED", message=bounced))
        else:
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
        self._take(job.queued.model_copy(update={"reason": "retried"}), event.pool)
        self._give(event.pool)

    def _refuse_request(self, job_id: str, pool: str, reason: Literal["unknown_job", "already_ended", "not_ended"]) -> None:
        self._take(RequestRefused(job_id=job_id, pool=pool, reason=reason), pool)

    def tick(self, event: ClockTicked) -> None:
        """Do what is due: expire leases, end waits, refuse claims whose deadline came."""
        state = self._state
        pools = {event.pool}
        while (moment := next_wakeup(state)) is not None and moment <= self._now:
            _, _, due = heapq.heappop(state.alarms)
            if due in state.claim_groups:
                claim = state.claims[state.claim_groups[due]][due]
                self._refuse_claim(claim.request.data, claim.id, "no_job")
                continue
            job = state.jobs[due]
            pools.add(job.queued.pool)
            if job.status == "claimed":
                self._expire(due, job)
            else:
                _requeue(state, due)
        for pool in sorted(pools):
            self._give(pool)

    def _expire(self, job_id: str, job: Job) -> None:
        last = job.attempts >= self._state.policy.attempts_max
        worker_id = job.worker_id
        expired = LeaseExpired(
            job_id=job_id,
            video_id=job.queued.video_id,
            pool=job.queued.pool,
            worker_id=worker_id,
            epoch=job.epoch,
            attempt=job.attempts,
            retry_at=None if last else self._retry_at(job),
        )
        self._take(expired, job.queued.pool)
        if last:
            message = "The worker was not heard of in time, at the last attempt as well; the job may be more than it can bear."
            self._fail(job_id, Failure(stage="encoding", category="timeout", code="LEASE_EXPIRED", message=message))
        self._tell_quarantine(worker_id, job.queued.pool)

    def _holder_or_refuse(self, event: LeaseRenewed | ResultReported | LeaseReleased) -> Job | None:
        """Return the job when the sender holds it; else refuse, with the reason."""
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


def remember(state: State, request: Envelope[Event], now: datetime | None = None) -> None:
    """Keep what is no fact: a claim that waits, or (with `now`) a renewal of the holder."""
    event = request.data
    if isinstance(event, ClaimRequested) and request.id not in state.answered:
        key = (event.pool, event.capabilities)
        state.claims.setdefault(key, OrderedDict())[request.id] = Claim(request)  # type: ignore[arg-type]
        state.claim_groups[request.id] = key
        _set_alarm(state, event.deadline, request.id)
    elif isinstance(event, LeaseRenewed) and now is not None:
        job = state.jobs.get(event.job_id)
        if job is not None and refusal(job, event.worker_id, event.epoch) is None:
            job.lease_expires_at = now + state.policy.lease
            _set_alarm(state, job.lease_expires_at, event.job_id)


def next_wakeup(state: State) -> datetime | None:
    """Return the earliest moment at which a tick would change something."""
    while state.alarms:
        moment, _, of = state.alarms[0]
        job = state.jobs.get(of)
        if of in state.claim_groups or (job is not None and moment in (job.lease_expires_at, job.retry_at)):
            return moment
        heapq.heappop(state.alarms)
    return None
