"""The dispatcher's state: the fold of the facts in topic `jobs`, `evolve(state, fact)`; pure of clock, chance and I/O.

Three parts of the state are no facts: waiting claims, renewed leases, and when a GPU worker was last seen. After a restart the
owner restores the first two from the latest requests (`decide.remember`); losing the third does no harm.
For speed, `evolve` changes the state itself and returns nothing.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Literal, assert_never

from events.envelope import Envelope, Event
from events.jobs import (
    ClaimRefused,
    ClaimRequested,
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
from events.kinds import Capabilities, Requirements
from events.workers import WorkerCleared, WorkerQuarantined

ANSWERED_MAX = 100_000
WORKERS_MAX = 10_000
RELEASES_FREE = 10
"""Maximum releases of a job that cost no attempt, so that no job is handed back for ever."""
ABANDONED_WEIGHT = 4
"""Releases for which a worker's death counts: the job may be what kills it."""
FORGET_AFTER = timedelta(days=8)
"""Time for which ended jobs are known: longer than the log keeps a request (7 days), so that no repetition revives one."""
PRIORITY_LEAD = {"high": timedelta(), "normal": timedelta(minutes=10), "low": timedelta(hours=1)}
"""Ageing: a normal job overtakes high ones that are 10 minutes younger, a low job normal ones that are 50 minutes younger."""
QUARANTINE_DOUBLINGS_MAX = 6
"""A quarantine lasts at most 64 times as long as the first."""

Decided = JobFact | WorkerQuarantined | WorkerCleared
"""Facts of a decision."""
Status = Literal["queued", "claimed", "retrying", "completed", "failed", "cancelled"]
Bar = Literal["draining", "paused", "quarantined"]
Due = Literal["job", "claim", "quarantine", "gpu"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Times and counts of the policy. For `gpu_patience` other workers wait for a GPU worker that was just idle.

    What-if replays try other values, and may override `rank` and `backoff`.
    """

    lease: timedelta = timedelta(seconds=60)
    attempts_max: int = 3
    backoff_base: timedelta = timedelta(seconds=30)
    quarantine_after: int = 5
    quarantine: timedelta = timedelta(minutes=10)
    gpu_patience: timedelta = timedelta(seconds=20)

    def rank(self, queued: JobQueued, queued_at: datetime) -> datetime:
        """Return the moment by which ready jobs are ordered: the earliest goes first."""
        return queued_at + PRIORITY_LEAD[queued.priority]

    def backoff(self, attempts: int) -> timedelta:
        """Return the wait after so many failed attempts, before chance is added."""
        wait: timedelta = self.backoff_base * 2 ** (attempts - 1)
        return wait


@dataclass(slots=True)
class Job:
    """One job. `attempts` counts claims that were not handed back; `epoch` every claim; `place` is that in the queue."""

    queued: JobQueued
    queued_at: datetime
    correlation_id: str
    status: Status = "queued"
    attempts: int = 0
    epoch: int = 0
    releases: int = 0
    place: int = -1
    worker_id: str = ""
    process_id: str | None = None
    lease_expires_at: datetime | None = None
    retry_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(slots=True)
class Quarantine:
    """A worker that failed too often. From `until` on it is on probation with a single job, `job_id` while it runs."""

    pool: str
    until: datetime
    times: int = 1
    job_id: str = ""


@dataclass(slots=True)
class Gpu:
    """A GPU worker, and when it was last seen without a job."""

    pool: str
    capabilities: Capabilities
    heard_at: datetime


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
    """All jobs of the pools in one partition. `held` counts a worker's claims; `paused` maps (pool, worker or "") to `drain`.

    `processes` has the current process of each worker, `superseded` its earlier ones, the latest last.
    """

    policy: Policy = field(default_factory=Policy)
    jobs: dict[str, Job] = field(default_factory=dict)
    ended: "OrderedDict[str, datetime]" = field(default_factory=OrderedDict)
    answered: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    failures_in_row: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, Quarantine] = field(default_factory=dict)
    paused: dict[tuple[str, str], bool] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    last_video: dict[str, str] = field(default_factory=dict)
    processes: dict[str, str] = field(default_factory=dict)
    superseded: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    claims: dict[tuple[str, Capabilities], "OrderedDict[str, Claim]"] = field(default_factory=dict)
    claim_groups: dict[str, tuple[str, Capabilities]] = field(default_factory=dict)
    gpus: dict[str, Gpu] = field(default_factory=dict)
    ready: dict[tuple[str, Requirements], list[tuple[datetime, int, str]]] = field(default_factory=dict)
    places: int = 0
    alarms: list[tuple[datetime, int, Due, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def waiting(self) -> int:
        """Number of waiting claims."""
        return len(self.claim_groups)


def evolve(state: State, fact: Envelope[Decided]) -> None:
    """Apply one fact: change the state itself."""
    event = fact.data
    if fact.causationid is not None and not (isinstance(event, JobReleased) and event.abandoned):  # the claim still waits
        _note_answer(state, fact.causationid)
    match event:
        case JobQueued():
            _queue(state, event, fact)
        case JobClaimed():
            _claim(state, event)
        case JobAttemptFailed():
            _leave(state, event.job_id, event.failure.retryable, fact.time)
            _wait(state, event.job_id, event.retry_at)
        case LeaseExpired():
            _leave(state, event.job_id, True, fact.time)
            state.gpus.pop(event.worker_id, None)
            _wait(state, event.job_id, event.retry_at)
        case JobReleased():
            _leave(state, event.job_id, False, fact.time)
            job = state.jobs[event.job_id]
            job.releases += ABANDONED_WEIGHT if event.abandoned else 1
            if job.releases <= RELEASES_FREE:
                job.attempts -= 1
            requeue(state, event.job_id)
        case JobCompleted():
            state.failures_in_row.pop(event.worker_id, None)
            if (quarantine := state.quarantined.get(event.worker_id)) is not None and quarantine.job_id == event.job_id:
                del state.quarantined[event.worker_id]
            _leave(state, event.job_id, False, fact.time)
            _end(state, event.job_id, "completed", fact.time)
        case JobFailed():
            _leave(state, event.job_id, event.failure.retryable, fact.time)
            _end(state, event.job_id, "failed", fact.time)
        case JobCancelled():
            _leave(state, event.job_id, False, fact.time)
            _end(state, event.job_id, "cancelled", fact.time)
        case ClaimRefused():
            _drop_claim(state, event.claim_id)
            hear(state, event.worker_id, fact.time)
        case DispatchPaused():
            state.paused[event.pool, event.worker_id or ""] = event.drain
        case DispatchResumed():
            state.paused.pop((event.pool, event.worker_id or ""), None)
            if event.worker_id is not None:
                state.quarantined.pop(event.worker_id, None)
                state.failures_in_row.pop(event.worker_id, None)
        case PartAccepted() | ResultRefused() | RequestRefused() | WorkerQuarantined() | WorkerCleared():
            return  # they follow from folded facts
        case _:
            assert_never(event)


def note_process(state: State, worker_id: str, process_id: str | None) -> bool:
    """Note the current process of a worker; return whether it is new. A superseded one never is again."""
    if process_id is None or process_id in state.superseded or state.processes.get(worker_id) == process_id:
        return False
    if (before := state.processes.pop(worker_id, None)) is not None:
        state.superseded[before] = None
    state.processes[worker_id] = process_id
    if len(state.processes) > WORKERS_MAX:
        del state.processes[next(iter(state.processes))]
    if len(state.superseded) > WORKERS_MAX:
        state.superseded.popitem(last=False)
    return True


def bar(state: State, pool: str, worker_id: str, now: datetime) -> Bar | None:
    """Return why a worker gets no job now, None when it may have one."""
    if state.paused:
        drains = [state.paused[key] for key in ((pool, ""), (pool, worker_id)) if key in state.paused]
        if drains:
            return "draining" if any(drains) else "paused"
    quarantine = state.quarantined.get(worker_id)
    if quarantine is not None and (now < quarantine.until or quarantine.job_id):
        return "quarantined"
    return None


def requeue(state: State, job_id: str) -> None:
    """Queue a job."""
    job = state.jobs[job_id]
    job.status, job.worker_id, job.lease_expires_at, job.retry_at = "queued", "", None, None
    job.place = state.places
    state.places += 1
    put_in_line(state, job_id)


def put_in_line(state: State, job_id: str) -> None:
    """Add a queued job to the ready ones, by rank."""
    job = state.jobs[job_id]
    line = state.ready.setdefault((job.queued.pool, job.queued.requirements), [])
    heapq.heappush(line, (state.policy.rank(job.queued, job.queued_at), job.place, job_id))


def set_alarm(state: State, moment: datetime, due: Due, of: str) -> None:
    """Set an alarm: something may be due at a moment. An outdated alarm is dropped when it is due."""
    heapq.heappush(state.alarms, (moment, next(state.numbers), due, of))


def set_alarms_for_claims(state: State, now: datetime) -> None:
    """Set an alarm that counts only while a claim waits; else it is dropped when it is due."""
    for worker_id, quarantine in state.quarantined.items():
        if quarantine.until > now:
            set_alarm(state, quarantine.until, "quarantine", worker_id)
    for worker_id, gpu in state.gpus.items():
        if (moment := gpu.heard_at + state.policy.gpu_patience) > now:
            set_alarm(state, moment, "gpu", worker_id)


def note_gpu(state: State, claim: ClaimRequested, now: datetime) -> None:
    """Note the claim of a GPU worker: it is idle."""
    if claim.capabilities.gpu:
        state.gpus[claim.worker_id] = Gpu(claim.pool, claim.capabilities, now)
        hear(state, claim.worker_id, now)


def hear(state: State, worker_id: str, now: datetime) -> None:
    """Note an idle GPU worker, and set an alarm for the end of the others' wait."""
    gpu = state.gpus.get(worker_id)
    if gpu is not None:
        gpu.heard_at = now
        set_alarm(state, now + state.policy.gpu_patience, "gpu", worker_id)


def next_wakeup(state: State) -> datetime | None:
    """Return the earliest moment at which a tick would change something."""
    while state.alarms:
        moment, _, due, of = state.alarms[0]
        if _holds(state, moment, due, of):
            return moment
        heapq.heappop(state.alarms)
    return None


def _holds(state: State, moment: datetime, due: Due, of: str) -> bool:
    match due:
        case "job":
            job = state.jobs.get(of)
            return job is not None and moment in (job.lease_expires_at, job.retry_at)
        case "claim":
            return of in state.claim_groups
        case "quarantine":
            return of in state.quarantined and state.quarantined[of].until == moment and bool(state.claim_groups)
        case "gpu":
            return of in state.gpus and state.gpus[of].heard_at + state.policy.gpu_patience == moment and bool(state.claim_groups)


# --- steps ----------------------------------------------------------------------------------------------------------


def _queue(state: State, event: JobQueued, fact: Envelope[Event]) -> None:
    """Add a job. A requeued one keeps its age, and so its rank."""
    job = state.jobs.get(event.job_id)
    since = job.queued_at if job is not None and job.ended_at is None else fact.time
    state.jobs[event.job_id] = Job(event, since, fact.correlationid, epoch=job.epoch if job else 0)
    state.ended.pop(event.job_id, None)
    requeue(state, event.job_id)


def _claim(state: State, event: JobClaimed) -> None:
    job, worker_id = state.jobs[event.job_id], event.worker_id
    job.status, job.worker_id, job.epoch, job.attempts = "claimed", worker_id, event.epoch, event.attempt
    job.lease_expires_at, job.retry_at, job.process_id = event.lease_expires_at, None, event.process_id
    note_process(state, worker_id, event.process_id)
    state.held[worker_id] = state.held.get(worker_id, 0) + 1
    if (quarantine := state.quarantined.get(worker_id)) is not None:
        quarantine.job_id = event.job_id
    state.last_video.pop(worker_id, None)
    state.last_video[worker_id] = event.video_id
    if len(state.last_video) > WORKERS_MAX:
        del state.last_video[next(iter(state.last_video))]
    set_alarm(state, event.lease_expires_at, "job", event.job_id)
    _drop_claim(state, event.claim_id)


def _leave(state: State, job_id: str, blamed: bool, time: datetime) -> None:
    """Take the job from its holder, if it has one."""
    job = state.jobs[job_id]
    if job.status != "claimed":
        return
    worker_id = job.worker_id
    state.held[worker_id] -= 1
    if not state.held[worker_id]:
        del state.held[worker_id]
        hear(state, worker_id, time)
    if blamed:
        _blame(state, worker_id, job, time)
    elif (quarantine := state.quarantined.get(worker_id)) is not None and quarantine.job_id == job_id:
        quarantine.job_id = ""


def _blame(state: State, worker_id: str, job: Job, time: datetime) -> None:
    """Count a failure in a row. Too many lead to quarantine, a failure on probation to a longer one."""
    quarantine = state.quarantined.get(worker_id)
    if quarantine is not None:
        if quarantine.job_id != job.queued.job_id:
            return  # it had this job before the quarantine began
        quarantine.job_id = ""
        quarantine.times += 1
    else:
        state.failures_in_row[worker_id] = state.failures_in_row.get(worker_id, 0) + 1
        if state.failures_in_row[worker_id] < state.policy.quarantine_after:
            return
        del state.failures_in_row[worker_id]
        quarantine = state.quarantined[worker_id] = Quarantine(job.queued.pool, time)
    quarantine.until = time + state.policy.quarantine * 2 ** min(quarantine.times - 1, QUARANTINE_DOUBLINGS_MAX)
    set_alarm(state, quarantine.until, "quarantine", worker_id)


def _wait(state: State, job_id: str, retry_at: datetime | None) -> None:
    job = state.jobs[job_id]
    job.status, job.lease_expires_at, job.retry_at = "retrying", None, retry_at
    if retry_at is not None:
        set_alarm(state, retry_at, "job", job_id)


def _end(state: State, job_id: str, status: Status, time: datetime) -> None:
    job = state.jobs[job_id]
    job.status, job.lease_expires_at, job.retry_at, job.ended_at = status, None, None, time
    state.ended[job_id] = time
    while state.ended and time - next(iter(state.ended.values())) > FORGET_AFTER:
        old, _ = state.ended.popitem(last=False)
        del state.jobs[old]


def _note_answer(state: State, request_id: str) -> None:
    """Remember an answered request, so that its repetition is ignored."""
    state.answered[request_id] = None
    while len(state.answered) > ANSWERED_MAX:
        state.answered.popitem(last=False)


def _drop_claim(state: State, claim_id: str) -> None:
    """Remove an answered claim from the waiting ones; another request, such as a submission, may have answered it."""
    _note_answer(state, claim_id)
    key = state.claim_groups.pop(claim_id, None)
    if key is not None:
        del state.claims[key][claim_id]
        if not state.claims[key]:
            del state.claims[key]
