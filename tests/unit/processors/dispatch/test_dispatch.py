"""The dispatcher's rules, given / when / then; the simulation (tests/simulation) holds what must never happen."""

from typing import Any
from uuid import uuid5

import pytest
from hypothesis import given

from events.envelope import Envelope, Event
from events.jobs import (
    CancelRequested,
    ClaimRequested,
    JobRequest,
    LeaseReleased,
    LeaseRenewed,
    PauseRequested,
    RequeueRequested,
    ResumeRequested,
    RetryRequested,
)
from events.kinds import Capabilities, Requirements
from processors.dispatch.state import Job, Policy, State, evolve, next_wakeup
from tests.support.pools import ANY, GPU, NOON, POLICY, POOL, ROOT, Pool, at, kinds, requests


def waiting_claim() -> Envelope[Event]:
    event = ClaimRequested(worker_id="w", pool=POOL, capabilities=ANY, deadline=at(30))
    id_ = str(uuid5(ROOT, "the claim"))
    return Envelope(id_, "test", POOL, NOON, event, id_)


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
    claim = Envelope[JobRequest](
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
    claim = Envelope[JobRequest](
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


@pytest.mark.parametrize(
    ("given_up", "reason"), [("expired", "already_ended"), ("cancelled", "already_ended"), ("requeued", "not_running")]
)
def test_a_result_is_refused_when_its_job_was_given_up_a_moment_before(given_up: str, reason: str) -> None:
    pool = Pool(Policy(attempts_max=1))
    pool.submit()
    pool.claim("w")
    match given_up:
        case "expired":
            assert kinds(pool.tick(61)) == ["LeaseExpired", "JobFailed"]
        case "cancelled":
            pool.ask(CancelRequested(job_id="a", pool=POOL, reason="wrong file"), 61)
        case _:
            pool.ask(RequeueRequested(job_id="a", pool=POOL, reason="too slow"), 61)
    (refused,) = pool.finish(seconds=61)
    assert (type(refused).__name__, refused.reason) == ("ResultRefused", reason)


def waiting(pool: Pool, worker: str, capabilities: Capabilities = ANY) -> str:
    """Let a worker wait; return the id of its claim."""
    before = set(pool.state.claim_groups)
    assert pool.claim(worker, capabilities=capabilities) == []
    (claim,) = set(pool.state.claim_groups) - before
    return claim


def test_a_claim_that_is_withdrawn_gets_no_job() -> None:
    pool = Pool()
    claim = waiting(pool, "w")
    assert kinds(pool.withdraw(claim, "another")) == []
    (refused,) = pool.withdraw(claim)
    assert (type(refused).__name__, refused.claim_id, refused.reason) == ("ClaimRefused", claim, "no_job")
    assert kinds(pool.withdraw(claim)) == []
    assert kinds(pool.submit()) == ["JobQueued"]
    assert kinds(pool.claim("v")) == ["JobClaimed"]


def test_nobody_waits_for_a_gpu_that_leaves() -> None:
    pool = Pool()
    claim = waiting(pool, "gpu", GPU)
    assert kinds(pool.withdraw(claim, "gpu")) == ["ClaimRefused"]
    pool.submit()
    assert kinds(pool.claim("v")) == ["JobClaimed"]


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
    assert pool.claim("w", 5) == []
    assert kinds(pool.claim("v", 6)) == ["JobClaimed"]
    (refused,) = [fact for fact in pool.tick(40) if type(fact).__name__ == "ClaimRefused"]
    assert (refused.worker_id, refused.reason) == ("w", "quarantined")
    pool.submit("later", 700)
    assert kinds(pool.claim("w", 701)) == ["JobClaimed"]


def failing(pool: Pool, times: int, worker: str = "w", seconds: float = 0) -> list[Any]:
    """Let a worker fail so many jobs; return the facts of the last failure."""
    facts = []
    for n in range(times):
        job = f"{worker} fails {seconds} {n}"
        pool.submit(job, seconds)
        pool.claim(worker, seconds)
        facts = pool.fail(job, 1, worker, seconds)
    return facts


def test_a_quarantine_ends_with_one_job_on_probation() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=3))
    fact = failing(pool, 3)[-1]
    assert (fact.seconds, fact.times, fact.reason) == (600, 1, "failures_in_row")
    pool.submit("one", 600)
    pool.submit("two", 600)
    (probation,) = pool.claim("w", 601)
    assert (probation.job_id, probation.reason) == ("one", "probation")
    assert pool.claim("w", 602) == []  # one job, however many slots it has
    cleared = pool.finish("one", seconds=603)[-1]
    assert (type(cleared).__name__, cleared.reason) == ("WorkerCleared", "probation_passed")
    assert pool.claim("w", 604)[0].reason == "best_job"


def test_failing_on_probation_doubles_the_quarantine() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=3))
    failing(pool, 3)
    fact = failing(pool, 1, seconds=601)[-1]
    assert (fact.seconds, fact.times, fact.failures, fact.reason) == (1200, 2, 1, "probation_failed")
    pool.submit("a", 1200)
    assert pool.claim("w", 1800) == []
    assert pool.claim("w", 1802)[0].reason == "probation"


def test_a_job_that_fails_for_a_reason_of_its_own_leaves_the_worker_on_probation() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=1))
    failing(pool, 1)
    pool.submit("bad", 600)
    pool.submit("good", 600)
    pool.claim("w", 601)
    assert kinds(pool.fail("bad", seconds=602, retryable=False)) == ["JobFailed"]
    assert pool.claim("w", 603)[0].reason == "probation"


def test_a_claim_waits_through_a_quarantine_that_ends_in_time() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=1))
    failing(pool, 1)
    pool.submit("a", 590)
    assert pool.claim("w", 595) == []
    assert [fact.reason for fact in pool.tick(600)] == ["probation"]


def test_the_end_of_a_quarantine_rings_also_for_a_claim_that_came_after_somebody_looked() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=1))
    failing(pool, 1)
    next_wakeup(pool.state)  # nobody waits yet
    pool.submit("a", 590)
    assert pool.claim("w", 595) == []
    assert next_wakeup(pool.state) == at(600)


def test_patience_with_a_gpu_ends_also_for_a_claim_that_came_after_somebody_looked() -> None:
    pool = Pool()
    pool.submit("a")
    pool.claim("gpu", 0, GPU)
    pool.finish("a", worker="gpu", seconds=5)
    next_wakeup(pool.state)
    pool.submit("b", 6)
    assert pool.claim("cpu", 6) == []
    assert next_wakeup(pool.state) == at(25)


def test_a_paused_worker_gets_nothing_until_it_is_resumed() -> None:
    pool = Pool()
    (paused,) = pool.ask(PauseRequested(pool=POOL, worker_id="w", reason="new memory"))
    assert (paused.worker_id, paused.drain, paused.reason) == ("w", False, "new memory")
    assert pool.ask(PauseRequested(pool=POOL, worker_id="w", reason="again")) == []
    pool.claim("w", 1)
    assert kinds(pool.submit("a", 2)) == ["JobQueued"]
    assert kinds(pool.claim("v", 3)) == ["JobClaimed"]
    pool.submit("b", 4)
    assert kinds(pool.ask(ResumeRequested(pool=POOL, worker_id="w", reason="it has it"), 5)) == ["DispatchResumed", "JobClaimed"]


def test_a_paused_pool_goes_on_with_what_runs_and_begins_nothing() -> None:
    pool = Pool()
    pool.submit("a")
    pool.submit("b")
    pool.claim("w")
    pool.ask(PauseRequested(pool=POOL, reason="the store is moved"), 1)
    assert kinds(pool.finish(seconds=2)) == ["JobCompleted"]
    assert pool.claim("w", 3) == []
    assert [fact.reason for fact in pool.tick(34)] == ["paused"]


def test_a_worker_that_is_drained_is_refused_at_once() -> None:
    pool = Pool()
    pool.claim("w")
    pool.claim("v")
    facts = pool.ask(PauseRequested(pool=POOL, worker_id="w", drain=True, reason="goes home"), 1)
    assert kinds(facts) == ["DispatchPaused", "ClaimRefused"]
    assert (facts[1].worker_id, facts[1].reason) == ("w", "draining")
    assert [fact.reason for fact in pool.claim("w", 2)] == ["draining"]
    assert pool.submit("a", 3)[1].worker_id == "v"


def test_resuming_a_worker_ends_its_quarantine() -> None:
    pool = Pool(Policy(attempts_max=1, quarantine_after=1))
    failing(pool, 1)
    facts = pool.ask(ResumeRequested(pool=POOL, worker_id="w", reason="the cable was loose"), 1)
    assert [(type(fact).__name__, fact.reason) for fact in facts][-1] == ("WorkerCleared", "resumed")
    pool.submit("a", 2)
    assert pool.claim("w", 3)[0].reason == "best_job"


def test_a_running_job_is_requeued_with_a_priority_of_its_own_and_its_holder_is_fenced() -> None:
    pool = Pool()
    pool.submit("a", priority="low")
    pool.claim("w")
    pool.submit("b", 1)
    facts = pool.ask(RequeueRequested(job_id="a", pool=POOL, reason="hangs", priority="high"), 2)
    assert kinds(facts) == ["JobReleased", "JobQueued"]
    assert (facts[1].reason, facts[1].note, facts[1].priority) == ("requeued", "hangs", "high")
    assert [fact.reason for fact in pool.finish("a", seconds=3)] == ["not_running"]
    (claimed,) = pool.claim("v", 4)
    assert (claimed.job_id, claimed.epoch, claimed.attempt) == ("a", 2, 1)


def test_a_job_that_waits_for_its_next_attempt_is_requeued_at_once() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    pool.fail(seconds=1)
    assert kinds(pool.ask(RequeueRequested(job_id="a", pool=POOL, reason="repaired"), 2)) == ["JobQueued"]
    assert pool.claim("w", 3)[0].attempt == 1
    assert pool.tick(4) == []


def test_a_job_that_is_requeued_keeps_its_age_and_stands_in_line_once() -> None:
    pool = Pool()
    pool.submit("old")
    pool.submit("young", 1)
    pool.ask(RequeueRequested(job_id="old", pool=POOL, reason="x", priority="low"), 2)
    assert [pool.claim(f"w{n}", 3)[0].job_id for n in range(2)] == ["young", "old"]
    assert pool.claim("w2", 3) == []


def test_what_has_ended_is_retried_not_requeued() -> None:
    pool = Pool()
    pool.submit()
    pool.claim("w")
    pool.finish()
    assert [fact.reason for fact in pool.ask(RequeueRequested(job_id="a", pool=POOL, reason="x"))] == ["already_ended"]
    assert [fact.reason for fact in pool.ask(RequeueRequested(job_id="b", pool=POOL, reason="x"))] == ["unknown_job"]


def test_others_wait_for_a_gpu_that_was_just_idle() -> None:
    pool = Pool()
    pool.submit("a")
    pool.claim("gpu", 0, GPU)
    pool.finish("a", worker="gpu", seconds=5)  # its next claim is on its way
    pool.submit("b", 6)
    assert pool.claim("cpu", 6) == []
    assert [(fact.worker_id, fact.reason) for fact in pool.claim("gpu", 7, GPU)] == [("gpu", "best_job")]
    assert [fact.worker_id for fact in pool.submit("c", 8)[1:]] == ["cpu"]  # the GPU is busy


def test_nobody_waits_longer_than_twice_the_heartbeat_for_a_gpu() -> None:
    pool = Pool()
    pool.submit("a")
    pool.claim("gpu", 0, GPU)
    pool.finish("a", worker="gpu", seconds=5)
    pool.submit("b", 6)
    assert pool.claim("cpu", 6) == []
    assert pool.tick(24) == []
    assert [(fact.worker_id, fact.reason) for fact in pool.tick(25)] == [("cpu", "first_waiting")]


def test_a_gpu_that_cannot_do_a_job_keeps_it_from_nobody() -> None:
    pool = Pool()
    pool.claim("gpu", 0, Capabilities(kinds=("analyse",), gpu=True, height_max=1080), wait=1)
    pool.tick(1)
    pool.submit("a", 2, requirements=Requirements(kind="analyse", height=2160))
    assert kinds(pool.claim("cpu", 2)) == ["JobClaimed"]


def test_each_claim_says_why_this_worker_got_this_job() -> None:
    pool = Pool()
    pool.submit("a")
    assert pool.claim("v")[0].reason == "best_job"
    pool.finish("a", worker="v", seconds=1)
    pool.claim("w", 2)
    pool.claim("v", 3)
    assert [(fact.worker_id, fact.reason) for fact in pool.submit("b", 4, video_id="a")[1:]] == [("v", "same_video")]
    assert [(fact.worker_id, fact.reason) for fact in pool.submit("c", 5)[1:]] == [("w", "first_waiting")]
    pool.claim("cpu", 6)
    pool.claim("gpu", 7, GPU)
    assert [(fact.worker_id, fact.reason) for fact in pool.submit("d", 8)[1:]] == [("gpu", "gpu_first")]


def test_each_end_says_why() -> None:
    pool = Pool(Policy(attempts_max=2, quarantine_after=100))
    ends: dict[str, Any] = {}
    for job in ("fails", "bad", "silent"):
        pool.submit(job)
    pool.claim("w")
    (again,) = pool.fail("fails", 1, "w", 1)
    pool.claim("w", 2)
    (ends["bad"],) = pool.fail("bad", 1, "w", 3, retryable=False)
    pool.claim("w", 4)
    (expired,) = pool.tick(64)
    pool.tick(103)
    pool.claim("w", 103)
    pool.claim("w", 103)
    (ends["fails"],) = pool.fail("fails", 2, "w", 104)
    (_, ends["silent"]) = pool.tick(163)
    assert (again.reason, expired.reason) == ("retryable_failure", "not_renewed")
    assert {job: fact.reason for job, fact in ends.items()} == {
        "bad": "not_retryable",
        "fails": "attempts_used_up",
        "silent": "lease_expired",
    }


def known(job: Job) -> tuple[object, ...]:
    """What facts say of a job; that it is due again, time says."""
    status = "queued" if job.status == "retrying" else job.status
    return status, job.epoch, job.attempts, job.worker_id if status == "claimed" else ""


@given(requests())
def test_whatever_is_asked_the_facts_alone_give_the_state(asked: list[tuple[JobRequest, float, bool]]) -> None:
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
    folded = State(policy=POLICY)
    for envelope in pool.facts:
        evolve(folded, envelope)
    for job_id, job in pool.state.jobs.items():
        assert known(folded.jobs[job_id]) == known(job)
    for field in ("quarantined", "paused", "held", "failures_in_row", "answered", "ended"):
        assert getattr(folded, field) == getattr(pool.state, field), field
    assert len({envelope.id for envelope in pool.facts}) == len(pool.facts)


# --- a worker that was killed and is back ------------------------------------------------------------------------------


def test_a_new_process_frees_at_once_what_the_one_before_held_and_no_attempt_is_lost() -> None:
    pool = Pool()
    pool.submit("a")
    pool.claim("w", process="first")
    released, claimed = pool.claim("w", 3, process="second")
    assert (released.worker_id, released.epoch, released.abandoned) == ("w", 1, True)
    assert (claimed.job_id, claimed.epoch, claimed.attempt, claimed.process_id) == ("a", 2, 1, "second")
    assert kinds(pool.finish("a", 1)) == ["ResultRefused"], "the former process is fenced"
    assert kinds(pool.finish("a", 2, seconds=5)) == ["JobCompleted"]


def test_what_it_frees_goes_to_another_that_waits_when_it_cannot_do_it_itself_and_its_own_claim_still_waits() -> None:
    pool = Pool()
    pool.submit("a")
    pool.claim("w", process="first")
    pool.claim("v", 1, process="another")
    encodes = Capabilities(kinds=("encode",))
    assert [type(fact).__name__ for fact in pool.claim("w", 3, encodes, process="second")] == ["JobReleased", "JobClaimed"]
    assert pool.state.jobs["a"].worker_id == "v"
    assert kinds(pool.submit("b", 4, requirements=Requirements(kind="encode"))) == ["JobQueued", "JobClaimed"]
    assert pool.state.jobs["b"].worker_id == "w"


def test_a_former_process_that_is_still_there_is_stopped_and_its_claims_get_nothing() -> None:
    pool = Pool()
    pool.claim("w", process="first")
    pool.claim("w", 1, Capabilities(kinds=("encode",)), process="second")
    assert kinds(pool.submit("a", 2)) == ["JobQueued"], "the claim that waits is of a process that is gone"
    (refused,) = pool.claim("w", 3, process="first")
    assert refused.reason == "draining"
    assert kinds(pool.claim("w", 4, process="second")) == ["JobClaimed"]


def test_claims_of_one_process_do_not_free_each_others_jobs() -> None:
    pool = Pool()
    for job in ("a", "b"):
        pool.submit(job)
        assert kinds(pool.claim("w", process="first")) == ["JobClaimed"]
    assert pool.state.held == {"w": 2}


def test_a_job_that_kills_its_worker_every_time_ends() -> None:
    pool = Pool()
    pool.submit("a")
    facts: list[Any] = []
    for number in range(20):
        facts += pool.claim("w", number, process=f"process {number}")
    assert kinds(facts)[-1] == "JobFailed" and facts[-1].failure.code == "BOUNCED"
    assert kinds(facts).count("JobClaimed") <= 6


def test_who_speaks_for_a_worker_is_known_after_a_restart_of_the_dispatcher() -> None:
    pool = Pool()
    for number, process in enumerate(("first", "second")):
        pool.submit(process)
        pool.claim("w", number, process=process)
    recovered = Pool()
    for fact in pool.facts:
        evolve(recovered.state, fact)
    assert recovered.state.processes == pool.state.processes == {"w": "second"}
    recovered.requests = pool.requests
    assert recovered.claim("w", 9, process="first")[0].reason == "draining"
