"""What must hold of the facts that a world leaves, whatever happened in it: safety fact by fact, liveness at the end. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from events.envelope import Envelope, Event, Recorded
from events.jobs import (
    DispatchPaused,
    DispatchResumed,
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobReleased,
    LeaseExpired,
    is_fact,
)
from events.kinds import Capabilities
from events.workers import WorkerCleared, WorkerQuarantined
from processors.dispatch.matching import covers
from processors.dispatch.state import Policy
from projections.history.audit import JobAudit

LEAD = {"high": timedelta(), "normal": timedelta(minutes=10), "low": timedelta(hours=1)}
"""What the documentation promises of ageing; not taken from the decider, for that is what is checked."""


@dataclass
class Seen:
    """One job, as its facts say."""

    queued: JobQueued
    since: datetime
    waits: bool = True
    first_wait: bool = True
    attempts: int = 0
    worker_id: str = ""
    process_id: str | None = None
    ended: bool = False

    @property
    def rank(self) -> datetime:
        """Who has the smallest goes first."""
        return self.since + LEAD[self.queued.priority]


@dataclass
class Checker:
    """Sees every fact once, in order."""

    policy: Policy
    capabilities: Mapping[str, Capabilities]
    patience: timedelta
    complaints: list[str] = field(default_factory=list)
    jobs: dict[str, Seen] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    until: dict[str, datetime] = field(default_factory=dict)
    probation: dict[str, str] = field(default_factory=dict)
    processes: dict[str, str | None] = field(default_factory=dict)
    replaced: set[str | None] = field(default_factory=set)
    waiting: dict[object, dict[str, Seen]] = field(default_factory=dict)

    def see(self, fact: Envelope[Event]) -> None:
        """Check one fact."""
        event, time = fact.data, fact.time
        match event:
            case JobQueued():
                known = self.jobs.get(event.job_id)
                since = known.since if known is not None and not known.ended else time
                self._wait(event.job_id, Seen(event, since, first_wait=known is None))
            case JobClaimed():
                self._claimed(event, time)
            case JobAttemptFailed() | LeaseExpired():
                self._leave(event.job_id)
            case JobReleased():
                job = self._leave(event.job_id)
                job.attempts -= 1
                self._wait(event.job_id, job)
            case JobCompleted() | JobFailed() | JobCancelled():
                self._leave(event.job_id).ended = True
            case DispatchPaused():
                self.paused.add(event.worker_id or event.pool)
            case DispatchResumed():
                self.paused.discard(event.worker_id or event.pool)
            case WorkerQuarantined():
                self.until[event.worker_id] = time + timedelta(seconds=event.seconds)
            case WorkerCleared():
                self.until.pop(event.worker_id, None)
                self.probation.pop(event.worker_id, None)
            case _:
                return

    def _wait(self, job_id: str, job: Seen) -> None:
        self.waiting.setdefault(job.queued.requirements, {}).pop(job_id, None)
        job.waits = True
        self.jobs[job_id] = job
        self.waiting[job.queued.requirements][job_id] = job

    def _leave(self, job_id: str) -> Seen:
        job = self.jobs[job_id]
        job.waits = False
        self.waiting[job.queued.requirements].pop(job_id, None)
        if self.probation.get(job.worker_id) == job_id:
            del self.probation[job.worker_id]
        job.worker_id = ""
        return job

    def _claimed(self, event: JobClaimed, time: datetime) -> None:
        job, worker_id = self.jobs[event.job_id], event.worker_id
        alike = self.waiting[job.queued.requirements]
        if any(other.rank < job.rank for other_id, other in alike.items() if other_id != event.job_id):
            self._complain(event, "overtook one that should go first")
        if job.waits and job.first_wait and time - job.since > self.patience:
            self._complain(event, f"waited {time - job.since}")
        if not covers(self.capabilities[worker_id], job.queued.requirements):
            self._complain(event, "went to a worker that cannot do it")
        if self.paused & {event.pool, worker_id}:
            self._complain(event, "was given while no job was to be given")
        if worker_id in self.until:
            if time < self.until[worker_id]:
                self._complain(event, "went to a worker in quarantine")
            if worker_id in self.probation:
                self._complain(event, "was a second one on probation")
            self.probation[worker_id] = event.job_id
        if event.lease_expires_at - time != self.policy.lease:
            self._complain(event, f"has a lease of {event.lease_expires_at - time}")
        job.attempts += 1
        if job.attempts > self.policy.attempts_max:
            self._complain(event, f"had {job.attempts} attempts")
        if event.process_id in self.replaced:
            self._complain(event, "went to a process that another one has replaced")
        before = self.processes.get(worker_id, event.process_id)
        if before != event.process_id:
            self.replaced.add(before)
            if any((other.worker_id, other.process_id) == (worker_id, before) for other in self.jobs.values()):
                self._complain(event, "went to a new process while the one before still held a job")
        self.processes[worker_id] = event.process_id
        if event.reason is None:
            self._complain(event, "was given without a reason")
        alike.pop(event.job_id, None)
        job.waits, job.first_wait, job.worker_id, job.process_id = False, False, worker_id, event.process_id

    def _complain(self, event: JobClaimed, what: str) -> None:
        self.complaints.append(f"job {event.job_id}, epoch {event.epoch}: {what}")


def check(
    facts: Sequence[Envelope[Event]],
    policy: Policy,
    capabilities: Mapping[str, Capabilities],
    submitted: int,
    patience: timedelta = timedelta(hours=6),
) -> list[str]:
    """Return every rule that was broken."""
    audit, checker = JobAudit(), Checker(policy, capabilities, patience)
    for offset, fact in enumerate(facts):
        if is_fact(fact):
            audit.see(Recorded("jobs", 0, offset, fact))
        checker.see(fact)
    findings = [*audit.complaints, *checker.complaints]
    findings += [f"job {job_id} never ended" for job_id, job in checker.jobs.items() if not job.ended]
    if len(checker.jobs) != submitted:
        findings.append(f"{len(checker.jobs)} jobs instead of {submitted}")
    completed = [fact.data.job_id for fact in facts if isinstance(fact.data, JobCompleted)]
    if len(completed) != len(set(completed)):
        findings.append("a job was completed twice")
    ids = [fact.id for fact in facts]
    if len(ids) != len(set(ids)):
        findings.append("two facts have one id")
    return findings
