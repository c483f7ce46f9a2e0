"""A world of workers around the real decider, in virtual time: seeded, so that a seed is a story that can be repeated.

Requests are delayed, reordered and repeated; the broker is away for a while; workers crash, sleep beyond their leases and
come back, perhaps beside a process that replaced them, fail every job for a while, have wrong clocks and different
hardware; people cancel, retry, requeue, pause and
resume; the dispatcher is killed between two requests or before its facts are written, and reads its memory back from a
snapshot, an old one or none, and from the facts. `run(seed)` returns what went onto the log.
"""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from uuid import UUID

from events.envelope import Envelope
from events.jobs import (
    CancelRequested,
    ClaimRefused,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
    JobClaimed,
    JobFailed,
    JobRequest,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    PauseRequested,
    RequeueRequested,
    ResultReported,
    ResumeRequested,
    RetryRequested,
)
from events.kinds import AnalyseResult, AnalyseSpec, Capabilities, Requirements, Source
from events.media import Failure, Probe
from processors.dispatch.decide import decide, remember
from processors.dispatch.snapshots import Mark, Snapshot, restore, take
from processors.dispatch.state import Decided, Policy, State, evolve, next_wakeup
from tests.simulation.checkers import check

START = datetime(2026, 1, 1, tzinfo=UTC)
POOL = "default"
RESULT = AnalyseResult(probe=Probe(container="mp4", duration_ms=1, size_bytes=1, sha256="0" * 64))
FAILURE = Failure(stage="encoding", category="process_failure", code="EXIT_1", message="It failed.")
REQUESTS_MAX = 400
"""Requests per job; a sound world needs far fewer. More means that somebody asks in circles."""
PLAIN = Capabilities(kinds=("analyse",))
GPU = Capabilities(kinds=("analyse",), encoders=("h264_nvenc",), gpu=True)
ANY_WORKER = Requirements(kind="analyse")
ONLY_GPU = Requirements(kind="analyse", encoder="h264_nvenc")
HIGH = Requirements(kind="analyse", height=2160)
LOW_MAX = 1080


@dataclass(frozen=True)
class Scale:
    """How large a world is. Seconds, unless a name says otherwise; `shortest` is how long it goes on at least.

    `returning` is the share of workers that come back under their own name after they have died; each has `slots`. Where they are
    `unlike`, a worker's further slots take no high jobs. `prompt`: no request comes late or twice, and ticks come at once.
    """

    workers: int = 20
    slots: int = 1
    unlike: bool = False
    prompt: bool = False
    jobs: int = 100
    spread: float = 600
    lease: float = 60
    length: tuple[float, float] = (1, 150)
    claim_wait: float = 30
    calamities: int = 6
    returning: float = 0.7
    gpu_patience: float = 20
    shortest: timedelta = timedelta(minutes=40)
    horizon: timedelta = timedelta(days=2)

    @property
    def policy(self) -> Policy:
        """The dispatcher's."""
        return Policy(
            lease=timedelta(seconds=self.lease),
            backoff_base=timedelta(seconds=10),
            quarantine_after=3,
            quarantine=timedelta(seconds=self.lease),
            gpu_patience=timedelta(seconds=self.gpu_patience),
        )


SMALL = Scale()
LARGE = Scale(
    workers=200,
    jobs=2000,
    spread=5 * 24 * 3600,
    lease=600,
    length=(60, 4 * 3600),
    claim_wait=3600,
    calamities=40,
    shortest=timedelta(days=7),
    horizon=timedelta(days=9),
)
"""A virtual week."""


@dataclass
class Outcome:
    """What a run left: facts and requests in order, what the checkers found, and a digest that distinguishes two runs.

    `decisions` say of each request when it was decided, and how many facts there were afterwards.
    """

    facts: list[Envelope[Decided]]
    findings: list[str]
    digest: str
    requests: list[Envelope[JobRequest]]
    decisions: list[tuple[datetime, int]]


@dataclass
class Sim:
    """One world. Everything by chance comes from `rng`."""

    rng: random.Random
    scale: Scale
    now: datetime = START
    state: State = field(default_factory=State)
    facts: list[Envelope[Decided]] = field(default_factory=list)
    requests: list[Envelope[JobRequest]] = field(default_factory=list)
    decisions: list[tuple[datetime, int]] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    agenda: list[tuple[datetime, int, Callable[[], object]]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)
    crashed: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    processes: dict[str, str] = field(default_factory=dict)
    asked: dict[str, set[str]] = field(default_factory=dict)
    slots: dict[str, Capabilities] = field(default_factory=dict)
    skews: dict[str, float] = field(default_factory=dict)
    capabilities: dict[str, Capabilities] = field(default_factory=dict)
    bad_until: dict[str, datetime] = field(default_factory=dict)
    away_until: datetime = START
    dies_in_batch: bool = False
    tick_due: datetime | None = None
    tick_sent: bool = False

    def new_id(self) -> str:
        """Return an id from the seed."""
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something after a while."""
        heapq.heappush(self.agenda, (self.now + timedelta(seconds=seconds), next(self.numbers), act))

    # --- the log ----------------------------------------------------------------------------------------------------

    def send(self, event: JobRequest, *, worker: str = "", id_: str | None = None) -> str:
        """Append a request, after a delay that may be long; now and then twice. Its time is that of the sender's clock."""
        time = self.now + timedelta(seconds=self.skews.get(worker, 0.0))
        request = Envelope(id_ or self.new_id(), "sim", POOL, time, event, self.new_id())
        late = self.rng.uniform(0.5, 3) * self.scale.lease if self.rng.random() < 0.02 and not self.scale.prompt else 0.0
        late += 0.0 if self.scale.prompt and isinstance(event, ClockTicked) else self.rng.expovariate(5)
        self.later(late, lambda: self.arrive(request))
        if self.rng.random() < 0.05 and not self.scale.prompt:
            self.later(self.rng.expovariate(0.1), lambda: self.arrive(request))
        return request.id

    def arrive(self, request: Envelope[JobRequest]) -> None:
        """Decide, as the owner does; show the workers. While the broker is away, senders keep what they have."""
        if self.now < self.away_until:
            self.later((self.away_until - self.now).total_seconds() + self.rng.random(), lambda: self.arrive(request))
            return
        self.requests.append(request)
        if isinstance(request.data, ClockTicked):
            self.tick_due, self.tick_sent = None, False
        decided = decide(self.state, request, self.now)
        if self.dies_in_batch and decided:
            self.dies_in_batch = False
            self.requests.pop()
            self.restart_dispatcher()
            decided = decide(self.state, request, self.now)  # it was not committed: it is read again
            self.requests.append(request)
        self.facts += decided
        self.decisions.append((self.now, len(self.facts)))
        for fact in decided:
            self.see(fact)
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

    # --- calamities -------------------------------------------------------------------------------------------------

    def put_aside(self) -> None:
        """Take a snapshot."""
        if self.facts:
            self.snapshots.append(take(self.state, Mark(len(self.facts) - 1, self.facts[-1].id)))

    def restart_dispatcher(self) -> None:
        """Forget everything but the log and a snapshot, perhaps an old one; read the rest; some requests come again."""
        state, first = State(policy=self.scale.policy), 0
        if self.snapshots and self.rng.random() < 0.8:
            snapshot = self.snapshots.pop(self.rng.randrange(len(self.snapshots)))  # used once: its jobs live on
            state, first = restore(snapshot), snapshot.mark.offset + 1
        for fact in self.facts[first:]:
            evolve(state, fact)
        recent = self.requests[-500:]
        for request in recent:
            event = request.data
            if isinstance(event, ClaimRequested) and event.deadline > self.now:
                remember(state, request)
            elif isinstance(event, LeaseRenewed):
                remember(state, request, self.now)
        self.state = state
        self.tick_due, self.tick_sent = None, False
        for request in recent[-self.rng.randrange(1, 20) :]:
            self.later(self.rng.random(), lambda request=request: self.arrive(request))  # type: ignore[misc]
        self.watch()

    def calamity(self) -> None:
        """Something happens to the machinery."""
        match self.rng.randrange(4):
            case 0:
                self.restart_dispatcher()
            case 1:
                self.dies_in_batch = True
            case 2:
                self.away_until = self.now + timedelta(seconds=self.rng.uniform(1, 2 * self.scale.lease))
            case _:
                worker = self.rng.choice(list(self.capabilities))
                self.bad_until[worker] = self.now + timedelta(seconds=20 * self.scale.lease)
        self.put_aside()

    # --- people -----------------------------------------------------------------------------------------------------

    def meddle(self, job_id: str) -> None:
        """A person does something about a job, a worker or the pool."""
        worker = self.rng.choice(list(self.capabilities))
        match self.rng.randrange(6):
            case 0:
                self.send(CancelRequested(job_id=job_id, pool=POOL, reason="not needed"))
            case 1:
                priority = self.rng.choice((None, "high", "low"))
                self.send(RequeueRequested(job_id=job_id, pool=POOL, reason="hangs", priority=priority))
            case 2:
                self.send(PauseRequested(pool=POOL, worker_id=worker, drain=self.rng.random() < 0.3, reason="service"))
                self.later(self.rng.uniform(30, 300), lambda: self.resume(worker))
            case 3:
                self.send(PauseRequested(pool=POOL, reason="the store is moved"))
                self.later(self.rng.uniform(5, 60), lambda: self.resume(None))
            case 4:
                self.stop(worker)
            case _:
                self.send(RetryRequested(job_id=job_id, pool=POOL, reason="try again"))

    def resume(self, worker: str | None) -> None:
        """Let the worker or pool go on; said until it arrived after whatever paused it."""
        for wait in (0.0, 4 * self.scale.lease):
            resumed = ResumeRequested(pool=POOL, worker_id=worker, reason="done")
            self.later(wait, partial(self.send, resumed))

    # --- workers ----------------------------------------------------------------------------------------------------

    def see(self, fact: Envelope[Decided]) -> None:
        """Let whom it concerns see a fact, after a delay."""
        event = fact.data
        if isinstance(event, JobClaimed):
            self.later(self.rng.expovariate(10), lambda: self.work(event))
        elif isinstance(event, ClaimRefused):
            self.later(self.rng.uniform(0, 1), lambda: self.refused(event))
        elif isinstance(event, JobFailed) and self.rng.random() < 0.2:
            self.later(self.rng.uniform(1, 60), lambda: self.meddle(event.job_id))

    def join(self, worker: str, capabilities: Capabilities) -> None:
        """A worker process starts; under the name of one that worked before it takes over from that."""
        self.capabilities[worker] = capabilities
        skew = self.rng.uniform(-0.3, 0.3) * self.scale.claim_wait
        self.skews.setdefault(worker, skew)  # that of the machine
        self.processes[worker] = f"process {next(self.numbers)}"
        lower = {"height_max": LOW_MAX} if self.scale.unlike else {}
        for slot in range(self.scale.slots):
            self.ask(worker, self.processes[worker], capabilities.model_copy(update=lower if slot else {}))

    def leave(self, worker: str, process: str) -> None:
        """The process ends, and a fresh one replaces it a while later: under its name, or another."""
        self.crashed.add(process)
        self.follow(worker, process)

    def follow(self, worker: str, process: str) -> None:
        """Start the next process, unless another one works under the name already."""
        wait = self.rng.uniform(5, 120)
        name = worker if self.scale.returning and self.rng.random() < self.scale.returning else f"{worker}'"
        self.later(wait, lambda: self.join(name, self.capabilities[worker]) if self.processes[worker] == process else None)

    def stop(self, worker: str) -> None:
        """The process is stopped while it waits: it withdraws its request, and hands back what it is given meanwhile."""
        process = self.processes[worker]
        if self.asked.get(process) and process not in self.crashed:
            for asked in sorted(self.asked.pop(process)):
                self.send(ClaimWithdrawn(worker_id=worker, pool=POOL, claim_id=asked), worker=worker)
            self.later(3.0, lambda: self.leave(worker, process))

    def ask(self, worker: str, process: str, can: Capabilities) -> None:
        """Request a job for a slot; ask again when no answer came."""
        if process in self.crashed:
            return
        deadline = self.now + timedelta(seconds=self.scale.claim_wait + self.skews[worker])
        wish = ClaimRequested(worker_id=worker, pool=POOL, capabilities=can, deadline=deadline, process_id=process)
        asked = self.send(wish, worker=worker)
        self.asked.setdefault(process, set()).add(asked)
        self.slots[asked] = can
        self.later(self.scale.claim_wait + 5, lambda: self.ask(worker, process, can) if self.answered(process, asked) else None)

    def answered(self, process: str, claim_id: str) -> bool:
        """Wait for a claim's answer no longer; return whether it was awaited."""
        if claim_id not in self.asked.get(process, ()):
            return False
        self.asked[process].remove(claim_id)
        return True

    def refused(self, event: ClaimRefused) -> None:
        process = next((process for process, asked in self.asked.items() if event.claim_id in asked), None)
        if process is None or process in self.crashed:
            return
        self.answered(process, event.claim_id)
        if event.reason == "draining":
            self.leave(event.worker_id, process)
        else:
            self.later(self.rng.random(), lambda: self.ask(event.worker_id, process, self.slots[event.claim_id]))

    def work(self, claim: JobClaimed) -> None:
        """Work on a claim: to its end, or until something happens to the worker. One that comes too late is handed back."""
        worker, process = claim.worker_id, str(claim.process_id)
        if process in self.crashed:
            return
        if not self.answered(process, claim.claim_id):
            self.send(self.released(claim), worker=worker)
            return
        length, lease = self.rng.uniform(*self.scale.length), self.scale.lease
        fate = self.rng.random()
        if self.now < self.bad_until.get(worker, START):
            self.later(1.0, lambda: self.report(claim, failed=True))
        elif fate < 0.06:
            self.leave(worker, process)
        elif fate < 0.12:  # asleep far beyond the lease; wakes up and reports all the same, perhaps beside one that took over
            if self.scale.returning and fate < 0.09:
                self.follow(worker, process)
            self.later(length + self.rng.uniform(1.5, 7) * lease, lambda: self.report(claim, failed=False))
        elif fate < 0.17:
            self.later(length / 2, lambda: self.release(claim))
        else:
            for renewal in range(1, int(length / (lease / 4)) + 1):
                self.later(lease / 4 * renewal, lambda: self.renew(claim))
            self.later(length, lambda: self.report(claim, failed=fate < 0.25 or claim.job_id in self.poison))

    def renew(self, claim: JobClaimed) -> None:
        renewed = LeaseRenewed(job_id=claim.job_id, pool=POOL, worker_id=claim.worker_id, epoch=claim.epoch)
        self.send(renewed, worker=claim.worker_id)

    def released(self, claim: JobClaimed) -> LeaseReleased:
        return LeaseReleased(job_id=claim.job_id, pool=POOL, worker_id=claim.worker_id, epoch=claim.epoch, reason="stopping")

    def release(self, claim: JobClaimed) -> None:
        self.send(self.released(claim), worker=claim.worker_id)
        self.later(1.0, lambda: self.ask_after(claim))

    def report(self, claim: JobClaimed, *, failed: bool) -> None:
        ended = ResultReported(
            job_id=claim.job_id,
            pool=POOL,
            worker_id=claim.worker_id,
            epoch=claim.epoch,
            result=None if failed else RESULT,
            failure=FAILURE if failed else None,
        )
        id_ = self.send(ended, worker=claim.worker_id)
        if self.rng.random() < 0.2:
            self.send(ended, worker=claim.worker_id, id_=id_)
        self.later(0.5, lambda: self.ask_after(claim))

    def ask_after(self, claim: JobClaimed) -> None:
        """Request the slot's next job."""
        self.ask(claim.worker_id, str(claim.process_id), self.slots[claim.claim_id])


def run(seed: int, scale: Scale = SMALL) -> Outcome:
    """Run one world until every job has ended, at least for its shortest and at most for its longest time."""
    sim = Sim(random.Random(seed), scale, state=State(policy=scale.policy))
    for number in range(scale.workers):
        can = GPU if number % 5 == 0 else PLAIN
        sim.later(sim.rng.uniform(0, 5), lambda number=number, can=can: sim.join(f"w{number}", can))  # type: ignore[misc]
    for _ in range(scale.jobs):
        submit(sim, HIGH if scale.unlike and sim.rng.random() < 0.3 else ANY_WORKER)
    for _ in range(scale.calamities):
        sim.later(sim.rng.uniform(10, 1.5 * scale.spread), sim.calamity)
    while sim.agenda and sim.now - START < scale.horizon and len(sim.requests) < REQUESTS_MAX * scale.jobs:
        sim.now, _, act = heapq.heappop(sim.agenda)
        act()
        if sim.now - START > scale.shortest and len(sim.state.ended) >= scale.jobs:
            break
    findings = check(sim.facts, scale.policy, sim.capabilities, scale.jobs)
    if len(sim.requests) >= REQUESTS_MAX * scale.jobs:
        findings.append(f"{len(sim.requests)} requests and no end")
    return Outcome(sim.facts, findings, digest(sim.facts), sim.requests, sim.decisions)


def submit(sim: Sim, usual: Requirements) -> None:
    """A job that comes at some time; some can never succeed, some need a GPU, about some people change their minds."""
    job_id = sim.new_id()
    submitted = JobSubmitted(
        job_id=job_id,
        video_id=sim.new_id(),
        pool=POOL,
        spec=AnalyseSpec(source=Source(object_key="k", size_bytes=1)),
        requirements=ONLY_GPU if sim.rng.random() < 0.1 else usual,
        priority=sim.rng.choice(("high", "normal", "low")),
    )
    if sim.rng.random() < 0.05:
        sim.poison.add(job_id)
    at = sim.rng.uniform(0, sim.scale.spread)
    sim.later(at, partial(sim.send, submitted))
    if sim.rng.random() < 0.06:
        sim.later(at + sim.rng.uniform(1, 600), lambda: sim.meddle(job_id))


def digest(facts: list[Envelope[Decided]]) -> str:
    """Return a digest of the facts in order."""
    total = hashlib.sha256()
    for fact in facts:
        total.update(f"{fact.id} {fact.time.isoformat()} {fact.data!r}\n".encode())
    return total.hexdigest()


def reasons(facts: list[Envelope[Decided]]) -> Counter[str]:
    """Count the facts by kind and reason: what happened in a world at all."""
    return Counter(f"{type(fact.data).__name__} {getattr(fact.data, 'reason', '')}" for fact in facts)
