"""Seeded worlds of dispatch: nothing breaks, two runs of a seed are the same, and the checkers bite."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from events.jobs import JobClaimed, JobCompleted
from processors.dispatch import decide as dispatch
from processors.dispatch import decision, matching
from processors.dispatch import state as pool_state
from processors.dispatch.decide import Answer
from processors.dispatch.snapshots import Mark
from processors.dispatch.state import Policy, State
from tests.simulation import world
from tests.simulation.world import LARGE, Scale, reasons, run

TINY = Scale(workers=8, jobs=30)
CROWDED = Scale(workers=2, jobs=100, spread=7200, length=(200, 400), shortest=timedelta(hours=4))
"""More work than workers for hours: here it shows who goes first."""


@pytest.mark.parametrize("seed", range(25))
def test_every_job_ends_exactly_once(seed: int) -> None:
    assert run(seed).findings == []


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


def boastful(take: Any) -> Any:
    """A snapshot that claims to have seen facts that it has not."""
    return lambda state, mark: take(state, Mark(mark.offset + 20, mark.id))


def never_barred_for(reason: str) -> Callable[[Any], Any]:
    """A rule that forgets one reason why a worker gets no job."""

    def changed(bar: Any) -> Any:
        return lambda *given: None if (found := bar(*given)) == reason else found

    return changed


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no fence": wrapped("refusal", lambda _: anyone_may_speak),
    "results of anybody": never_answered,
    "epochs stand still": assigned_with(epoch=lambda _: 1),
    "epochs go back": assigned_with(epoch=lambda epoch: 100 - epoch),
    "attempts are not counted": assigned_with(attempt=lambda _: 1),
    "leases too long": assigned_with(lease_expires_at=lambda moment: moment + timedelta(days=3)),
    "leases never expire": forgetting("_expire"),
    "ticks do nothing": forgetting("tick"),
    "releases are lost": wrapped("requeue", lambda _: lambda state, job_id: None),
    "jobs are given twice": wrapped("best_job", lambda _: lambda state, claim, now: next(iter(state.jobs), None)),
    "priorities upside down": leads(high=60, low=0),
    "no ageing": leads(normal=60 * 24 * 30, low=60 * 24 * 60),
    "anybody can do anything": wrapped("covers", lambda _: lambda *_: True),
    "quarantine is forgotten": wrapped("bar", never_barred_for("quarantined")),
    "pauses are forgotten": wrapped("bar", never_barred_for("paused")),
    "snapshots forget what was answered": wrapped("restore", forgetful),
    "snapshots skip facts": wrapped("take", boastful),
    "processes are not told apart": wrapped("note_process", lambda _: lambda state, worker_id, process_id: False),
    "the dead keep their jobs": forgetting("_take_over"),
    "retries are never ready": wrapped("_wait", lambda wait: lambda state, job_id, retry_at: wait(state, job_id, None)),
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
    """A deliberate fault in the decider is found within a few seeds, as a broken rule or as a crash."""
    FAULTS[fault](monkeypatch)
    assert any(broken(seed) for seed in range(6)), f"nobody noticed: {fault}"


def broken(seed: int) -> bool:
    """Tell whether a world breaks."""
    try:
        return bool(run(seed, CROWDED if seed % 2 else TINY).findings)
    except (AssertionError, KeyError, ValueError, TypeError):
        return True


def test_the_state_read_from_the_facts_decides_the_same() -> None:
    outcome = run(3)
    again = State(policy=Policy())
    for fact in outcome.facts:
        pool_state.evolve(again, fact)
    assert {job_id: job.status for job_id, job in again.jobs.items()}.keys() == again.ended.keys()
