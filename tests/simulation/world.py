"""A world of workers around the real decider, in virtual time: seeded, so that a seed is a story that can be told again.

Requests are delayed, reordered and repeated; workers crash, sleep beyond their leases and come back; clocks are skewed;
the dispatcher loses its memory and reads it back from the facts. `run(seed)` returns what went onto the log.
"""

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from events.envelope import Envelope, Event, Recorded
from events.jobs import (
    AnalyseResult,
    AnalyseSpec,
    CancelRequested,
    Capabilities,
    ClaimRefused,
    ClaimRequested,
    ClockTicked,
    JobClaimed,
    JobCompleted,
    JobReleased,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    Requirements,
    ResultReported,
    Source,
)
from events.media import Failure, Probe
from processors.dispatch import Policy, State, decide, evolve, next_wakeup, remember
from projections.audit import JobAudit

START = datetime(2026, 1, 1, tzinfo=UTC)
POOL = "default"
POLICY = Policy(
    lease=timedelta(seconds=60), backoff_base=timedelta(seconds=10), quarantine_after=4, quarantine=timedelta(minutes=5)
)
CAN = Capabilities(kinds=("analyse",))
RESULT = AnalyseResult(probe=Probe(container="mp4", duration_ms=1, size_bytes=1, sha256="0" * 64))
FAILURE = Failure(stage="encoding", category="process_failure", code="EXIT_1", message="It failed.")
HORIZON = timedelta(hours=48)
REQUESTS_MAX = 100
"""Requests per job; a sound world needs about twenty. More means that somebody asks in circles."""


@dataclass
class Outcome:
    """What a run left: the facts in order, what the checkers found, and a digest that tells two runs apart."""

    facts: list[Envelope[Event]]
    findings: list[str]
    digest: str
    requests: list[Envelope[Event]]


@dataclass
class Sim:
    """One world. Everything by chance comes from `rng`."""

    rng: random.Random
    workers: int
    jobs: int
    now: datetime = START
    state: State = field(default_factory=lambda: State(policy=POLICY))
    facts: list[Envelope[Event]] = field(default_factory=list)
    requests: list[Envelope[Event]] = field(default_factory=list)
    agenda: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)
    crashed: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    tick_due: datetime | None = None
    tick_sent: bool = False

    def new_id(self) -> str:
        """Return an id from the seed."""
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after a while."""
        heapq.heappush(self.agenda, (self.now + timedelta(seconds=seconds), next(self.numbers), act))

    # --- the log ----------------------------------------------------------------------------------------------------

    def send(self, event: Event, *, skew_s: float = 0.0, id_: str | None = None) -> str:
        """Append a request, after a delay; now and then twice."""
        request = Envelope(id_ or self.new_id(), "sim", POOL, self.now + timedelta(seconds=skew_s), event, self.new_id())
        self.later(self.rng.expovariate(5), lambda: self.arrive(request))
        if self.rng.random() < 0.05:
            self.later(self.rng.expovariate(0.1), lambda: self.arrive(request))
        return request.id

    def arrive(self, request: Envelope[Event]) -> None:
        """Decide, as the owner does; tell the workers."""
        self.requests.append(request)
        if isinstance(request.data, ClockTicked):
            self.tick_due, self.tick_sent = None, False
        for fact in decide(self.state, request, self.now):
            self.facts.append(fact)
            self.tell(fact)
        self.watch()

    def watch(self) -> None:
        """Plan the next tick."""
        due = next_wakeup(self.state)
        if due is not None and not self.tick_sent and (self.tick_due is None or due < self.tick_due):
            self.tick_due = due
            wait = max(0.0, (due - self.now).total_seconds())
            self.later(wait, lambda: self.tick(due))

    def tick(self, due: datetime) -> None:
        """Write down that time went by, unless that became pointless."""
        if self.tick_due == due and not self.tick_sent:
            self.tick_sent = True
            self.send(ClockTicked(pool=POOL, now=self.now))

    def restart_dispatcher(self) -> None:
        """Forget everything but the log, and read it again."""
        state = State(policy=POLICY)
        for fact in self.facts:
            evolve(state, fact)
        for request in self.requests[-500:]:
            event = request.data
            if isinstance(event, ClaimRequested) and event.deadline > self.now:
                remember(state, request)
            elif isinstance(event, LeaseRenewed):
                remember(state, request, self.now)
        self.state = state
        self.tick_due, self.tick_sent = None, False
        self.watch()

    # --- workers ----------------------------------------------------------------------------------------------------

    def tell(self, fact: Envelope[Event]) -> None:
        """Let the worker concerned see a fact, after a delay."""
        event = fact.data
        if isinstance(event, JobClaimed):
            self.later(self.rng.expovariate(10), lambda: self.work(event))
        elif isinstance(event, ClaimRefused):
            self.later(self.rng.uniform(1, 30), lambda: self.ask(event.worker_id))

    def ask(self, worker: str) -> None:
        """Request a job."""
        if worker not in self.crashed:
            deadline = self.now + timedelta(seconds=30)
            self.send(ClaimRequested(worker_id=worker, pool=POOL, capabilities=CAN, deadline=deadline), skew_s=self.skew())

    def skew(self) -> float:
        """Return how wrong a worker's clock is, seconds."""
        return self.rng.uniform(-120, 120)

    def work(self, claim: JobClaimed) -> None:
        """Work on a claim: to its end, or until something happens to the worker."""
        worker = claim.worker_id
        if worker in self.crashed:
            return
        length = self.rng.uniform(1, 150)
        fate = self.rng.random()
        if fate < 0.06:
            self.crash(worker)
        elif fate < 0.12:  # asleep far beyond the lease; wakes up and reports all the same
            self.later(length + self.rng.uniform(90, 400), lambda: self.report(claim, failed=False))
        elif fate < 0.17:
            self.later(length / 2, lambda: self.release(claim))
        else:
            for renewal in range(1, int(length / 15) + 1):
                self.later(15.0 * renewal, lambda: self.renew(claim))
            self.later(length, lambda: self.report(claim, failed=fate < 0.25 or claim.job_id in self.poison))

    def crash(self, worker: str) -> None:
        """Die, and be replaced by a fresh process a while later."""
        self.crashed.add(worker)
        self.later(self.rng.uniform(5, 120), lambda: self.ask(f"{worker}'"))

    def renew(self, claim: JobClaimed) -> None:
        self.send(LeaseRenewed(job_id=claim.job_id, pool=POOL, worker_id=claim.worker_id, epoch=claim.epoch))

    def release(self, claim: JobClaimed) -> None:
        released = LeaseReleased(job_id=claim.job_id, pool=POOL, worker_id=claim.worker_id, epoch=claim.epoch, reason="stopping")
        self.send(released)
        self.later(1.0, lambda: self.ask(claim.worker_id))

    def report(self, claim: JobClaimed, *, failed: bool) -> None:
        ended = ResultReported(
            job_id=claim.job_id,
            pool=POOL,
            worker_id=claim.worker_id,
            epoch=claim.epoch,
            result=None if failed else RESULT,
            failure=FAILURE if failed else None,
        )
        id_ = self.send(ended)
        if self.rng.random() < 0.2:
            self.send(ended, id_=id_)
        self.later(0.5, lambda: self.ask(claim.worker_id))


def run(seed: int, *, workers: int = 20, jobs: int = 100, restarts: int = 3) -> Outcome:
    """Run one world until every job has ended, or two virtual days are over."""
    sim = Sim(random.Random(seed), workers, jobs)
    for _ in range(jobs):
        job_id = sim.new_id()
        submitted = JobSubmitted(
            job_id=job_id,
            video_id=sim.new_id(),
            pool=POOL,
            spec=AnalyseSpec(source=Source(object_key="k", size_bytes=1)),
            requirements=Requirements(kind="analyse"),
            priority=sim.rng.choice(("high", "normal", "low")),
        )
        if sim.rng.random() < 0.05:
            sim.poison.add(job_id)
        sim.later(sim.rng.uniform(0, 600), lambda submitted=submitted: sim.send(submitted))  # type: ignore[misc]
        if sim.rng.random() < 0.03:
            cancel = CancelRequested(job_id=job_id, pool=POOL, reason="not needed")
            sim.later(sim.rng.uniform(600, 900), lambda cancel=cancel: sim.send(cancel))  # type: ignore[misc]
    for number in range(workers):
        sim.later(sim.rng.uniform(0, 5), lambda number=number: sim.ask(f"w{number}"))  # type: ignore[misc]
    for _ in range(restarts):
        sim.later(sim.rng.uniform(10, 900), sim.restart_dispatcher)
    while sim.agenda and sim.now - START < HORIZON and len(sim.requests) < REQUESTS_MAX * jobs:
        sim.now, _, act = heapq.heappop(sim.agenda)
        act()
        if len(sim.state.ended) >= jobs and sim.now - START > timedelta(minutes=30):
            break
    return Outcome(sim.facts, check(sim), digest(sim.facts), sim.requests)


def check(sim: Sim) -> list[str]:
    """Return every rule that was broken."""
    audit = JobAudit()
    for offset, fact in enumerate(sim.facts):
        audit.see(Recorded("jobs", 0, offset, fact))
    findings = list(audit.complaints)
    ended = {job_id for job_id, job in sim.state.jobs.items() if job.ended_at is not None}
    findings += [f"job {job_id} never ended" for job_id in sim.state.jobs if job_id not in ended]
    if len(sim.state.jobs) != sim.jobs:
        findings.append(f"{len(sim.state.jobs)} jobs instead of {sim.jobs}")
    attempts: dict[str, int] = {}
    for fact in sim.facts:
        event = fact.data
        if isinstance(event, JobReleased):
            attempts[event.job_id] -= 1
        if isinstance(event, JobClaimed):
            attempts[event.job_id] = attempts.get(event.job_id, 0) + 1
            lease = event.lease_expires_at - fact.time
            if lease != POLICY.lease:
                findings.append(f"a lease of {lease}")
    findings += [f"job {job_id} had {n} attempts" for job_id, n in attempts.items() if n > POLICY.attempts_max]
    if len(sim.requests) >= REQUESTS_MAX * sim.jobs:
        findings.append(f"{len(sim.requests)} requests and no end")
    waited = longest_wait(sim.facts)
    if waited > timedelta(hours=6):
        findings.append(f"a job waited {waited}")
    completed = [fact.data.job_id for fact in sim.facts if isinstance(fact.data, JobCompleted)]
    if len(completed) != len(set(completed)):
        findings.append("a job was completed twice")
    ids = [fact.id for fact in sim.facts]
    if len(ids) != len(set(ids)):
        findings.append("two facts have one id")
    return findings


def longest_wait(facts: list[Envelope[Event]]) -> timedelta:
    """Return the longest time between a job's queueing and its first claim."""
    queued: dict[str, datetime] = {}
    longest = timedelta()
    for fact in facts:
        job_id = getattr(fact.data, "job_id", "")
        if isinstance(fact.data, JobClaimed) and job_id in queued:
            longest = max(longest, fact.time - queued.pop(job_id))
        elif fact.data.TYPE == "kinolog.job.queued.v1":
            queued[job_id] = fact.time
    return longest


def digest(facts: list[Envelope[Event]]) -> str:
    """Return a digest of the facts in order."""
    total = hashlib.sha256()
    for fact in facts:
        total.update(f"{fact.id} {fact.time.isoformat()} {fact.data!r}\n".encode())
    return total.hexdigest()
