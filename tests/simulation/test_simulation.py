"""Seeded worlds of dispatch: nothing breaks, two runs of a seed are the same, and the checkers bite."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from events.jobs import ClockTicked, JobClaimed, JobCompleted
from processors.dispatch import decide as dispatch
from processors.dispatch import decision, matching
from processors.dispatch import state as pool_state
from processors.dispatch.decide import Answer
from processors.dispatch.state import State
from tests.simulation import world
from tests.simulation.world import LARGE, Outcome, Scale, reasons, run

TINY = Scale(workers=8, jobs=30)
BROAD = Scale(workers=4, slots=3, jobs=60)
FORGETFUL = Scale(calamities=0, gpu_patience=0, returning=0)
"""Nothing in it depends on what a restart forgets: when an idle GPU worker asked last, which process of a worker asked in vain."""
CROWDED = Scale(workers=2, jobs=100, spread=7200, length=(200, 400), shortest=timedelta(hours=4))
"""More work than workers for hours: here it shows who goes first."""


@pytest.mark.parametrize("seed", range(25))
def test_every_job_ends_exactly_once(seed: int) -> None:
    assert run(seed).findings == []


@pytest.mark.parametrize("seed", range(8))
def test_workers_with_several_slots_break_no_rule(seed: int) -> None:
    assert run(seed, BROAD).findings == []


def test_two_runs_of_a_seed_are_identical() -> None:
    assert run(7).digest == run(7).digest
    assert run(7).digest != run(8).digest


def anyone_may_speak(*_: Any) -> None:
    """A fence that lets everybody through."""


def never_answered(patch: pytest.MonkeyPatch) -> None:
    """Repetitions are not recognised."""
    patch.setattr(pool_state, "ANSWERED_MAX", 0)
    patch.setattr(Answer, "report", report_twice)


def report_twice(self: Answer, event: Any) -> None:
    """Accept a result without looking who holds the job."""
    job = self._state.jobs.get(event.job_id)
    if job is not None and event.result is not None:
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


def wrapped(name: str, change: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a patch of a function of the decider."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for module in (dispatch, decision, matching, pool_state, world):
            if hasattr(module, name):
                patch.setattr(module, name, change(getattr(module, name)))

    return apply


def assigned_with(**changes: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a patch that changes fields of every claim."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        take = Answer._take

        def altered(self: Answer, event: Any, subject: str) -> None:
            if isinstance(event, JobClaimed):
                event = event.model_copy(update={name: change(getattr(event, name)) for name, change in changes.items()})
            take(self, event, subject)

        patch.setattr(Answer, "_take", altered)

    return apply


def forgetting(method: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a patch that makes a step of the decider do nothing."""
    return lambda patch: patch.setattr(Answer, method, lambda *_, **__: None)


def leads(**minutes: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a patch of the ageing."""
    changed = {name: timedelta(minutes=lead) for name, lead in minutes.items()}
    return lambda patch: patch.setattr(pool_state, "PRIORITY_LEAD", pool_state.PRIORITY_LEAD | changed)


def forgetful(restore: Any) -> Any:
    """A snapshot without the requests that were answered."""

    def restored(snapshot: Any) -> State:
        state: State = restore(snapshot)
        state.answered.clear()
        return state

    return restored


def forgets_claims(evolve: Any) -> Any:
    """A reader of the facts who passes over claims."""
    return lambda state, fact: None if isinstance(fact.data, JobClaimed) else evolve(state, fact)


def lost_when_released(requeue: Any) -> Any:
    """A job that was handed back waits in no line."""

    def changed(state: State, job_id: str) -> None:
        requeue(state, job_id)
        if state.jobs[job_id].releases:
            state.jobs[job_id].place = -1

    return changed


def never_barred_for(reason: str) -> Callable[[Any], Any]:
    """A rule that forgets one reason why a worker gets no job."""

    def changed(bar: Any) -> Any:
        return lambda *given: None if (found := bar(*given)) == reason else found

    return changed


def generous_on_probation(bar: Any) -> Any:
    """A rule that lets a worker on probation have any number of jobs."""

    def changed(state: State, pool: str, worker_id: str, now: datetime) -> Any:
        found = bar(state, pool, worker_id, now)
        return None if found == "quarantined" and now >= state.quarantined[worker_id].until else found

    return changed


Patch = Callable[[pytest.MonkeyPatch], None]
FENCE, TWICE, RANK = "not by its holder", "was claimed while it was running or ended", "overtook one that should go first"
FAULTS: dict[str, tuple[Patch, str]] = {
    "no fence": (wrapped("refusal", lambda _: anyone_may_speak), FENCE),
    "results of anybody": (never_answered, FENCE),
    "epochs stand still": (assigned_with(epoch=lambda _: 1), "has epoch 1 after 1"),
    "epochs go back": (assigned_with(epoch=lambda epoch: 100 - epoch), "has epoch 0 after 99"),
    "attempts are not counted": (assigned_with(attempt=lambda _: 1), "had 4 attempts"),
    "leases too long": (assigned_with(lease_expires_at=lambda moment: moment + timedelta(days=3)), "has a lease of 3 days"),
    "leases never expire": (forgetting("_expire"), "never ended"),
    "ticks do nothing": (forgetting("tick"), "never ended"),
    "releases are lost": (wrapped("requeue", lost_when_released), "never ended"),
    "jobs are given twice": (wrapped("best_job", lambda _: lambda state, claim, now: next(iter(state.jobs), None)), TWICE),
    "priorities upside down": (leads(high=60, low=0), RANK),
    "no ageing": (leads(normal=60 * 24 * 30, low=60 * 24 * 60), RANK),
    "anybody can do anything": (wrapped("covers", lambda _: lambda *_: True), "went to a worker that cannot do it"),
    "quarantine is forgotten": (wrapped("bar", never_barred_for("quarantined")), "went to a worker in quarantine"),
    "probation is generous": (wrapped("bar", generous_on_probation), "was a second one on probation"),
    "pauses are forgotten": (wrapped("bar", never_barred_for("paused")), "was given while no job was to be given"),
    "no reasons": (assigned_with(reason=lambda _: None), "was given without a reason"),
    "snapshots forget what was answered": (wrapped("restore", forgetful), "two facts have one id"),
    "a restart forgets claims": (lambda patch: patch.setattr(world, "evolve", forgets_claims(pool_state.evolve)), TWICE),
    "processes are not distinguished": (
        wrapped("note_process", lambda _: lambda state, worker_id, process_id: False),
        "went to a process that another one has replaced",
    ),
    "the dead keep their jobs": (forgetting("_take_over"), "while the one before still held a job"),
    "retries are never ready": (
        wrapped("_wait", lambda wait: lambda state, job_id, retry_at: wait(state, job_id, None)),
        "never ended",
    ),
    "jobs wait for nobody": (forgetting("submit"), "0 jobs instead of"),
}


def test_a_week_of_many_workers_breaks_no_rule_and_has_everything_in_it() -> None:
    outcome = run(1, LARGE)
    assert outcome.findings == []
    happened = {kind for kind, _, _ in (name.partition(" ") for name in reasons(outcome.facts))}
    assert {"LeaseExpired", "JobReleased", "JobFailed", "JobCancelled", "ResultRefused", "DispatchPaused"} <= happened
    assert {"WorkerQuarantined", "WorkerCleared"} <= happened


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_is_served_in_the_order_of_rank(seed: int) -> None:
    assert run(seed, CROWDED).findings == []


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checkers_bite(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deliberate fault in the decider is found within a few seeds, for its reason. One that raises would show nothing."""
    mutate, reason = FAULTS[fault]
    mutate(monkeypatch)
    findings = (finding for seed in range(9) for finding in run(seed, (TINY, CROWDED, BROAD)[seed % 3]).findings)
    assert any(reason in finding for finding in findings), f"nobody noticed: {fault}"


def read_again(outcome: Outcome, count: int) -> State:
    """Return the state after so many requests, read from the facts and, for what is no fact, from the requests."""
    state = State(policy=FORGETFUL.policy)
    _, end = outcome.decisions[count - 1]
    for fact in outcome.facts[:end]:
        pool_state.evolve(state, fact)
    ticked = world.START
    for request, (now, _) in zip(outcome.requests[:count], outcome.decisions, strict=False):
        dispatch.remember(state, request, now)
        ticked = now if isinstance(request.data, ClockTicked) else ticked
    for job_id, job in state.jobs.items():
        if job.retry_at is not None and job.retry_at <= ticked:
            pool_state.requeue(state, job_id)  # as the first tick of an owner does
    return state


@pytest.mark.parametrize("seed", range(8))
def test_a_state_that_was_read_from_the_log_decides_as_the_one_that_lived(seed: int) -> None:
    outcome = run(seed, FORGETFUL)
    for count in range(1, len(outcome.requests), len(outcome.requests) // 6):
        state = read_again(outcome, count)
        _, start = outcome.decisions[count - 1]
        for request, (now, end) in list(zip(outcome.requests, outcome.decisions, strict=True))[count:]:
            assert dispatch.decide(state, request, now) == outcome.facts[start:end]
            start = end
