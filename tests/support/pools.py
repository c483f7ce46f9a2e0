"""A pool under test: requests go in, facts come out, in seconds after noon."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from hypothesis import strategies as st

from events.envelope import Envelope
from events.jobs import (
    CancelRequested,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
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
from events.media import Failure
from processors.dispatch.decide import decide
from processors.dispatch.state import Decided, Policy, State, next_wakeup
from tests.support.footage import probe

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POOL = "default"
ANY = Capabilities(kinds=("analyse",))
GPU = Capabilities(kinds=("analyse",), gpu=True)
SPEC = AnalyseSpec(source=Source(object_key="sources/x", size_bytes=1))
ROOT = UUID(int=0)
POLICY = Policy(attempts_max=2, quarantine_after=3)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Pool:
    """A pool under test: requests go in, facts come out; `state` is the owner's."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.state = State(policy=policy)
        self.facts: list[Envelope[Decided]] = []
        self.requests = 0

    def ask(self, event: JobRequest, seconds: float = 0, id_: str | None = None, *, too_large: bool = False) -> list[Any]:
        """Decide a request; return the facts' data."""
        self.requests += 1
        id_ = id_ or str(uuid5(ROOT, f"request {self.requests}"))
        return self.again(Envelope(id_, "test", POOL, at(seconds), event, id_), seconds, too_large=too_large)

    def again(self, request: Envelope[JobRequest], seconds: float = 0, *, too_large: bool = False) -> list[Any]:
        """Decide a request that may have been decided before."""
        found = decide(self.state, request, at(seconds), too_large=too_large)
        self.facts += found
        return [fact.data for fact in found]

    def submit(self, job: str = "a", seconds: float = 0, **more: Any) -> list[Any]:
        needs = more.pop("requirements", Requirements(kind="analyse"))
        event = JobSubmitted(job_id=job, pool=POOL, requirements=needs, **{"spec": SPEC, "video_id": job, **more})
        return self.ask(event, seconds)

    def claim(
        self,
        worker: str = "w",
        seconds: float = 0,
        capabilities: Capabilities = ANY,
        wait: float = 30,
        process: str | None = None,
    ) -> list[Any]:
        deadline = at(seconds + wait)
        wish = ClaimRequested(worker_id=worker, pool=POOL, capabilities=capabilities, deadline=deadline, process_id=process)
        return self.ask(wish, seconds)

    def withdraw(self, claim: str, worker: str = "w", seconds: float = 0) -> list[Any]:
        return self.ask(ClaimWithdrawn(worker_id=worker, pool=POOL, claim_id=claim), seconds)

    def finish(self, job: str = "a", epoch: int = 1, worker: str = "w", seconds: float = 0) -> list[Any]:
        result = AnalyseResult(probe=probe())
        return self.ask(ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, result=result), seconds)

    def fail(self, job: str = "a", epoch: int = 1, worker: str = "w", seconds: float = 0, *, retryable: bool = True) -> list[Any]:
        failure = Failure(stage="encoding", category="tool", code="X", message="It failed.", retryable=retryable)
        return self.ask(ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, failure=failure), seconds)

    def tick(self, seconds: float) -> list[Any]:
        return self.ask(ClockTicked(pool=POOL, now=at(seconds)), seconds)


def kinds(facts: list[Any]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[JobRequest, float, bool]]:
    """Anything that may be asked, in any order, each perhaps twice."""
    jobs, workers = st.sampled_from(["a", "b"]), st.sampled_from(["v", "w"])
    found: list[tuple[JobRequest, float, bool]] = []
    seconds = 0.0
    for _ in range(draw(st.integers(0, 25))):
        seconds += draw(st.sampled_from([0, 1, 20, 70]))
        job, worker, epoch = draw(jobs), draw(workers), draw(st.integers(0, 3))
        needs, able = Requirements(kind="analyse"), draw(st.sampled_from([ANY, GPU]))
        failure = Failure(stage="encoding", category="tool", code="X", message="It failed.", retryable=draw(st.booleans()))
        anything: list[JobRequest] = [
            JobSubmitted(job_id=job, video_id="x", pool=POOL, spec=SPEC, requirements=needs),
            ClaimRequested(
                worker_id=worker,
                pool=POOL,
                capabilities=able,
                deadline=at(seconds + 30),
                process_id=f"{worker} {draw(st.integers(0, 2))}",
            ),
            ClaimWithdrawn(worker_id=worker, pool=POOL, claim_id=str(uuid5(ROOT, f"asked {draw(st.integers(0, 25))}"))),
            LeaseRenewed(job_id=job, pool=POOL, worker_id=worker, epoch=epoch),
            ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, result=AnalyseResult(probe=probe())),
            ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, failure=failure),
            LeaseReleased(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, reason="shutdown"),
            CancelRequested(job_id=job, pool=POOL, reason="x"),
            RetryRequested(job_id=job, pool=POOL, reason="x"),
            RequeueRequested(job_id=job, pool=POOL, reason="x", priority=draw(st.sampled_from([None, "high", "low"]))),
            PauseRequested(pool=POOL, worker_id=draw(st.none() | workers), drain=draw(st.booleans()), reason="x"),
            ResumeRequested(pool=POOL, worker_id=draw(st.none() | workers), reason="x"),
            ClockTicked(pool=POOL, now=at(seconds)),
        ]
        found.append((draw(st.sampled_from(anything)), seconds, draw(st.booleans())))
    return found


def contents(state: State) -> dict[str, Any]:
    """Everything that a state knows; queues and alarms in order, without what no longer holds."""
    known = {
        name: getattr(state, name)
        for name in (
            *("jobs", "ended", "answered", "failures_in_row", "quarantined", "paused", "held", "last_video", "places"),
            *("processes", "superseded"),
        )
    }
    lines = {key: sorted(entry for entry in line if _stands(state, *entry[1:])) for key, line in state.ready.items()}
    next_wakeup(state)
    due = {(moment, of) for moment, _, what, of in state.alarms if what == "job" and _waits_for(state, moment, of)}
    return known | {"ready": {key: line for key, line in lines.items() if line}, "due": due}


def _stands(state: State, place: int, job_id: str) -> bool:
    job = state.jobs.get(job_id)
    return job is not None and (job.status, job.place) == ("queued", place)


def _waits_for(state: State, moment: object, job_id: str) -> bool:
    job = state.jobs.get(job_id)
    return job is not None and moment in (job.lease_expires_at, job.retry_at)
