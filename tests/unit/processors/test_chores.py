"""Which objects may be swept: the rule, over every life that a job can have."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Event
from events.errors import StoreUnavailable
from events.jobs import JobAttemptFailed, JobCancelled, JobClaimed, JobCompleted, JobFailed, JobQueued, JobReleased, LeaseExpired
from events.kinds import AnalyseSpec, Requirements, Source, VerifyResult
from events.media import Failure
from events.pulse import Pulse
from processors.chores import AWAY_IN_A_ROW, each, orphaned, put_off
from projections import jobs
from projections.jobs import Attempt, Job
from tests.support.folding import folded
from tests.support.footage import START, VIDEO_ID, recorded

KNOWN = {"job_id": "j", "video_id": VIDEO_ID, "pool": "main"}
SPEC = AnalyseSpec(source=Source(object_key="k", size_bytes=1))
QUEUED = JobQueued(**KNOWN, spec=SPEC, requirements=Requirements(kind="analyse"), priority="normal")
FAILURE = Failure(stage="encoding", category="timeout", code="TIMEOUT", message="It took too long.")
SOON = START + timedelta(minutes=1)
RESULT = VerifyResult(duration_ms=1, rungs=())
LATER = START + timedelta(days=1)


def claimed(epoch: int) -> JobClaimed:
    return JobClaimed(**KNOWN, worker_id="w", claim_id="c", epoch=epoch, attempt=1, lease_expires_at=SOON, spec=SPEC)


def ended(epoch: int, how: str) -> Event:
    """Return the fact that ends an attempt."""
    held = {**KNOWN, "worker_id": "w", "epoch": epoch}
    match how:
        case "failed":
            return JobAttemptFailed(**held, attempt=1, failure=FAILURE, retry_at=SOON)
        case "expired":
            return LeaseExpired(**held, attempt=1, retry_at=SOON)
        case "released":
            return JobReleased(**held, reason="shutdown")
        case "completed":
            return JobCompleted(**held, attempt=1, result=RESULT)
        case "failed for good":
            return JobFailed(**KNOWN, epoch=epoch, attempt=1, failure=FAILURE)
        case _:
            return JobCancelled(**KNOWN, epoch=epoch, reason="nobody needs it")


def rows(facts: list[Event]) -> tuple[Job, list[Attempt]]:
    """Fold facts, one a second from START on."""
    tables = folded(jobs.PROJECTION, [recorded(fact, n, topic="jobs", at_s=n) for n, fact in enumerate(facts)])
    return tables["jobs"][("j",)], [row for _, row in sorted(tables["attempts"].items())]


def prefix(epoch: int) -> str:
    return f"videos/{VIDEO_ID}/j/{epoch}/"


ENDS = ("failed", "expired", "released", "cancelled", "failed for good")


@given(st.lists(st.sampled_from(ENDS), max_size=12), st.sampled_from([*ENDS, "completed", "running"]))
def test_everything_goes_but_what_was_accepted_or_still_runs(before: list[str], last: str) -> None:
    facts: list[Event] = [QUEUED]
    for epoch, how in enumerate([*before, last], 1):
        facts.append(claimed(epoch))
        if how != "running":
            facts.append(ended(epoch, how))
        if how in ("cancelled", "failed for good"):
            facts.append(QUEUED.model_copy(update={"reason": "retried"}))
    job, attempts = rows(facts)
    swept = {found for attempt in attempts if (found := orphaned(attempt, job, LATER))}
    kept = {len(before) + 1} if last in ("completed", "running") else set()
    assert swept == {prefix(attempt.epoch) for attempt in attempts if attempt.epoch not in kept}
    assert len(attempts) == len(before) + 1


@given(st.sampled_from(ENDS), st.integers(-3600, 3600))
def test_nothing_goes_before_its_time(how: str, seconds: int) -> None:
    job, (attempt,) = rows([QUEUED, claimed(1), ended(1, how)])
    assert attempt.ended_at is not None
    found = orphaned(attempt, job, attempt.ended_at + timedelta(seconds=seconds))
    assert found == (prefix(1) if seconds > 0 else None)


def test_an_attempt_that_the_job_names_as_accepted_stays_whatever_its_own_row_says() -> None:
    """A second fence: two folds would have to be wrong at once."""
    job, (first, _second) = rows([QUEUED, claimed(1), ended(1, "expired"), claimed(2), ended(2, "completed")])
    assert orphaned(first, job, LATER) == prefix(1)
    wrong = Attempt("j", 2, 1, VIDEO_ID, "w", START, ended_at=START, outcome="expired")
    assert orphaned(wrong, job, LATER) is None


def test_a_prefix_ends_with_a_slash_so_that_epoch_1_is_not_the_beginning_of_epoch_11() -> None:
    job, attempts = rows([QUEUED, *(fact for epoch in range(1, 12) for fact in (claimed(epoch), ended(epoch, "released")))])
    prefixes = [orphaned(attempt, job, LATER) or "" for attempt in attempts]
    assert not any(one != other and other.startswith(one) for one in prefixes for other in prefixes)


@pytest.mark.parametrize("fault", [StoreUnavailable(), ValueError("a bug")])
async def test_a_chore_that_fails_is_put_off_and_stops_nobody(fault: Exception) -> None:
    async def chore(pulse: Pulse) -> int:
        raise fault

    await put_off(chore, Pulse("a chore"))()


async def test_one_subject_never_stops_the_sweep_of_the_others() -> None:
    swept: list[str] = []

    async def sweep(name: str) -> int:
        if name in "bd":
            raise StoreUnavailable if name == "b" else ValueError(name)
        swept.append(name)
        return 1

    assert await each("sweep", ((name, name) for name in "abcde"), sweep, Pulse("sweep")) == 3
    assert swept == ["a", "c", "e"]


async def test_a_service_that_is_away_ends_a_sweep_soon() -> None:
    asked: list[str] = []

    async def sweep(name: str) -> int:
        asked.append(name)
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        await each("sweep", ((name, name) for name in "abcdefgh"), sweep, Pulse("sweep"))
    assert len(asked) == AWAY_IN_A_ROW


async def test_a_subject_that_hangs_is_left_for_the_next_time() -> None:
    async def sweep(name: str) -> int:
        if name == "b":
            await asyncio.Event().wait()
        return 1

    assert await each("sweep", ((name, name) for name in "abc"), sweep, Pulse("sweep", 0.05)) == 2
