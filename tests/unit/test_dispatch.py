"""The dispatcher's rules, given / when / then; the simulation (tests/simulation) holds what must never happen."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, Event
from events.jobs import (
    AnalyseResult,
    AnalyseSpec,
    CancelRequested,
    Capabilities,
    ClaimRequested,
    ClockTicked,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    Requirements,
    ResultReported,
    RetryRequested,
    Source,
)
from events.media import Failure
from processors.dispatch import Job, Policy, State, decide, evolve
from tests.support.footage import probe

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POOL = "default"
ANY = Capabilities(kinds=("analyse",))
SPEC = AnalyseSpec(source=Source(object_key="sources/x", size_bytes=1))
ROOT = UUID(int=0)
POLICY = Policy(attempts_max=2, quarantine_after=3)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Pool:
    """A pool under test: requests go in, facts come out; `state` is the owner's."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.state = State(policy=policy)
        self.facts: list[Envelope[Event]] = []
        self.requests = 0

    def ask(self, event: Event, seconds: float = 0, id_: str | None = None) -> list[Any]:
        """Decide a request; return the facts' data."""
        self.requests += 1
        id_ = id_ or str(uuid5(ROOT, f"request {self.requests}"))
        return self.again(Envelope(id_, "test", POOL, at(seconds), event, id_), seconds)

    def again(self, request: Envelope[Event], seconds: float = 0) -> list[Any]:
        """Decide a request that may have been decided before."""
        found = decide(self.state, request, at(seconds))
        self.facts += found
        return [fact.data for fact in found]

    def submit(self, job: str = "a", seconds: float = 0, **more: Any) -> list[Any]:
        needs = more.pop("requirements", Requirements(kind="analyse"))
        event = JobSubmitted(job_id=job, video_id=job, pool=POOL, spec=SPEC, requirements=needs, **more)
        return self.ask(event, seconds)

    def claim(self, worker: str = "w", seconds: float = 0, capabilities: Capabilities = ANY, wait: float = 30) -> list[Any]:
        return self.ask(
            ClaimRequested(worker_id=worker, pool=POOL, capabilities=capabilities, deadline=at(seconds + wait)), seconds
        )

    def finish(self, job: str = "a", epoch: int = 1, worker: str = "w", seconds: float = 0) -> list[Any]:
        result = AnalyseResult(probe=probe())
        return self.ask(ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, result=result), seconds)

    def fail(self, job: str = "a", epoch: int = 1, worker: str = "w", seconds: float = 0, *, retryable: bool = True) -> list[Any]:
        failure = Failure(stage="encoding", category="tool", code="X", message="It failed.", retryable=retryable)
        return self.ask(ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, failure=failure), seconds)

    def tick(self, seconds: float) -> list[Any]:
        return self.ask(ClockTicked(pool=POOL, now=at(seconds)), seconds)


def waiting_claim() -> Envelope[Event]:
    event = ClaimRequested(worker_id="w", pool=POOL, capabilities=ANY, deadline=at(30))
    id_ = str(uuid5(ROOT, "the claim"))
    return Envelope(id_, "test", POOL, NOON, event, id_)


def kinds(facts: list[Any]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def test_a_job_waits_for_a_claim_and_a_claim_for_a_job() -> None:
    pool = Pool()
    assert kinds(pool.submit("a")) == ["JobQueued"]
    (claimed,) = pool.claim("w")
    assert (claimed.job_id, claimed.worker_id, claimed.epoch, claimed.attempt) == ("a", "w", 1, 1)
    assert claimed.lease_expires_at == at(60)
    assert pool.claim("v") == []
    assert kinds(pool.submit("b")) == ["JobQueued", "JobClaimed"]


def test_a_claim_that_another_request_has_answered_is_not_answered_again() -> None:
    """After a crash the claim is read again: a second job for it would lie under a lease that nobody renews."""
    pool = Pool()
    deadline = at(30)
    id_ = str(uuid5(ROOT, "the claim"))
    claim = Envelope[Event](
        id_, "test", POOL, NOON, ClaimRequested(worker_id="w", pool=POOL, capabilities=ANY, deadline=deadline), id_
    )
    assert pool.again(claim) == []
    pool.submit("a")
    pool.submit("b")
    recovered = Pool()
    for fact in pool.facts:
        evolve(recovered.state, fact)
    assert recovered.again(claim, 1) == []
    assert pool.again(claim, 1) == []


def test_a_request_is_decided_once() -> None:
    pool = Pool()
    id_ = str(uuid5(ROOT, "once"))
    pool.submit("a")
    pool.submit("b")
    claim = Envelope[Event](
        id_, "test", POOL, NOON, ClaimRequested(worker_id="w", pool=POOL, capabilities=ANY, deadline=at(9)), id_
    )
    assert kinds(pool.again(claim)) == ["JobClaimed"]
    assert pool.again(claim) == []
    assert pool.submit("a") == []


@pytest.mark.parametrize(
    ("needs", "has", "fits"),
    [
        (Requirements(kind="analyse"), ANY, True),
        (Requirements(kind="encode"), ANY, False),
        (Requirements(kind="analyse", encoder="libx264"), Capabilities(kinds=("analyse",), encoders=("libx264",)), True),
        (Requirements(kind="analyse", encoder="libx265"), Capabilities(kinds=("analyse",), encoders=("libx264",)), False),
        (Requirements(kind="analyse", height=2160), Capabilities(kinds=("analyse",), height_max=1080), False),
        (Requirements(kind="analyse", height=1080), Capabilities(kinds=("analyse",), height_max=1080), True),
        (Requirements(kind="analyse", vram_bytes=2), Capabilities(kinds=("analyse",), vram_bytes=1), False),
    ],
)
def test_a_worker_gets_what_it_can_do(needs: Requirements, has: Capabilities, fits: bool) -> None:
    pool = Pool()
    pool.submit("a", requirements=needs)
    assert bool(pool.claim("w", capabilities=has)) is fits


def test_priority_goes_before_age_until_age_has_caught_up() -> None:
    pool = Pool()
    pool.submit("low", 0, priority="low")
    pool.submit("normal", 1)
    pool.submit("high", 2, priority="high")
    assert [pool.claim(f"w{n}", 3)[0].job_id for n in range(3)] == ["high", "normal", "low"]
    aged = Pool()
    aged.submit("low", 0, priority="low")
    aged.submit("high", 3601, priority="high")
    assert aged.claim("w", 3602)[0].job_id == "low"


def test_a_gpu_goes_first() -> None:
    pool = Pool()
    pool.claim("cpu")
    pool.claim("gpu", capabilities=Capabilities(kinds=("analyse",), gpu=True))
    assert pool.submit("a")[1].worker_id == "gpu"


def test_a_claim_that_waits_too_long_is_refused() -> None:
    pool = Pool()
    pool.claim("w", 0, wait=10)
    assert pool.tick(9) == []
    assert kinds(pool.tick(11)) == ["ClaimRefused"]
    assert kinds(pool.submit("a", 12)) == ["JobQueued"]


def test_a_lease_that_is_not_renewed_costs_an_attempt_and_one_that_is_does_not() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    pool.ask(LeaseRenewed(job_id="a", pool=POOL, worker_id="w", epoch=1), 30)
    assert pool.tick(61) == []
    (expired,) = pool.tick(91)
    assert type(expired).__name__ == "LeaseExpired"
    assert at(91 + 22) <= expired.retry_at <= at(91 + 38)
    assert kinds(pool.finish(seconds=92)) == ["ResultRefused"]


def test_failures_are_tried_again_later_and_then_no_more() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    (failed,) = pool.fail(seconds=1)
    assert type(failed).__name__ == "JobAttemptFailed"
    assert pool.claim("v", 2) == []
    (claimed,) = [fact for fact in pool.tick(60) if type(fact).__name__ == "JobClaimed"] or pool.claim("v", 61)
    assert (claimed.epoch, claimed.attempt) == (2, 2)
    assert kinds(pool.fail(epoch=2, worker=claimed.worker_id, seconds=62))[-1] == "JobFailed"
    assert pool.claim("x", 1000) == []


def test_what_cannot_succeed_is_not_tried_again() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    (failed,) = pool.fail(retryable=False)
    assert type(failed).__name__ == "JobFailed"
    assert (failed.worker_id, failed.kind, failed.epoch) == ("w", "analyse", 1)


def test_an_operator_may_try_again_with_fresh_attempts() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    pool.fail(retryable=False)
    assert kinds(pool.ask(RetryRequested(job_id="a", pool=POOL, reason="disk was full"), 5)) == ["JobQueued"]
    (claimed,) = pool.claim("w", 6)
    assert (claimed.epoch, claimed.attempt) == (2, 1)


@pytest.mark.parametrize(("epoch", "worker", "job"), [(0, "w", "a"), (2, "w", "a"), (1, "v", "a"), (1, "w", "b")])
def test_a_result_of_another_epoch_worker_or_job_is_refused(epoch: int, worker: str, job: str) -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    assert kinds(pool.finish(job, epoch, worker)) == ["ResultRefused"]
    assert kinds(pool.finish()) == ["JobCompleted"]


def test_what_is_handed_back_costs_no_attempt() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    assert kinds(pool.ask(LeaseReleased(job_id="a", pool=POOL, worker_id="w", epoch=1, reason="shutdown"), 1)) == ["JobReleased"]
    (claimed,) = pool.claim("v", 2)
    assert (claimed.epoch, claimed.attempt) == (2, 1)


def test_what_is_cancelled_ends_and_stays_so() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    assert kinds(pool.ask(CancelRequested(job_id="a", pool=POOL, reason="wrong file"), 1)) == ["JobCancelled"]
    assert "JobCompleted" not in kinds(pool.finish(seconds=2))
    assert "JobCancelled" not in kinds(pool.ask(CancelRequested(job_id="a", pool=POOL, reason="again"), 3))


def test_a_worker_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=3))
    for n in range(3):
        pool.submit(f"job {n}", n)
        pool.claim("w", n)
        facts = pool.fail(f"job {n}", 1, "w", n)
    assert "WorkerQuarantined" in kinds(facts)
    pool.submit("next", 4)
    assert kinds(pool.claim("w", 5)) == ["ClaimRefused"]
    assert kinds(pool.claim("v", 6)) == ["JobClaimed"]
    pool.submit("later", 700)
    assert kinds(pool.claim("w", 701)) == ["JobClaimed"]


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[Event, float, bool]]:
    """Anything that may be asked, in any order, each perhaps twice."""
    jobs, workers = st.sampled_from(["a", "b"]), st.sampled_from(["v", "w"])
    found: list[tuple[Event, float, bool]] = []
    seconds = 0.0
    for _ in range(draw(st.integers(0, 25))):
        seconds += draw(st.sampled_from([0, 1, 20, 70]))
        job, worker, epoch = draw(jobs), draw(workers), draw(st.integers(0, 3))
        needs = Requirements(kind="analyse")
        failure = Failure(stage="encoding", category="tool", code="X", message="It failed.", retryable=draw(st.booleans()))
        event: Event = draw(
            st.sampled_from(
                [
                    JobSubmitted(job_id=job, video_id="x", pool=POOL, spec=SPEC, requirements=needs),
                    ClaimRequested(worker_id=worker, pool=POOL, capabilities=ANY, deadline=at(seconds + 30)),
                    LeaseRenewed(job_id=job, pool=POOL, worker_id=worker, epoch=epoch),
                    ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, result=AnalyseResult(probe=probe())),
                    ResultReported(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, failure=failure),
                    LeaseReleased(job_id=job, pool=POOL, worker_id=worker, epoch=epoch, reason="shutdown"),
                    CancelRequested(job_id=job, pool=POOL, reason="x"),
                    RetryRequested(job_id=job, pool=POOL, reason="x"),
                    ClockTicked(pool=POOL, now=at(seconds)),
                ]
            )
        )
        found.append((event, seconds, draw(st.booleans())))
    return found


def known(job: Job) -> tuple[object, ...]:
    """What facts say of a job; that it is due again, time says."""
    status = "queued" if job.status == "retrying" else job.status
    return status, job.epoch, job.attempts, job.worker_id if status == "claimed" else ""


@given(requests())
def test_whatever_is_asked_the_facts_alone_give_the_state(asked: list[tuple[Event, float, bool]]) -> None:
    pool = Pool()
    epochs: dict[str, int] = {}
    for number, (event, seconds, twice) in enumerate(asked):
        id_ = str(uuid5(ROOT, f"asked {number}"))
        facts = pool.ask(event, seconds, id_)
        if twice:
            assert not facts or pool.ask(event, seconds, id_) == []
        for fact in facts:
            if type(fact).__name__ == "JobClaimed":
                assert fact.epoch > epochs.get(fact.job_id, 0)
                epochs[fact.job_id] = fact.epoch
    told = State(policy=POLICY)
    for envelope in pool.facts:
        evolve(told, envelope)
    for job_id, job in pool.state.jobs.items():
        assert known(told.jobs[job_id]) == known(job)
    assert told.quarantined == pool.state.quarantined
    assert len({envelope.id for envelope in pool.facts}) == len(pool.facts)
