"""A snapshot, and the facts after it, give the state that all facts give."""

from dataclasses import replace
from typing import Any
from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope
from events.jobs import JobRequest
from processors.dispatch.snapshots import Mark, Snapshot, dump, load, restore, take
from processors.dispatch.state import Decided, Policy, State, evolve, next_wakeup
from tests.support.pools import POLICY, ROOT, Pool, requests

MARK = Mark(7, "the last fact")


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


def folded(facts: list[Envelope[Decided]], state: State | None = None) -> State:
    state = state or State(policy=POLICY)
    for fact in facts:
        evolve(state, fact)
    return state


def stored(state: State) -> State:
    """The state as it comes back from the store."""
    back = load(dump(take(state, MARK)), state.policy)
    assert back is not None and back.mark == MARK
    return restore(back)


def asked(pool: Pool, wishes: list[tuple[JobRequest, float, bool]], first: int = 0) -> None:
    for number, (event, seconds, _) in enumerate(wishes, first):
        pool.ask(event, seconds, str(uuid5(ROOT, f"asked {number}")))


@given(requests(), st.data())
def test_a_snapshot_and_what_follows_give_the_state_that_all_facts_give(
    wishes: list[tuple[JobRequest, float, bool]], data: st.DataObject
) -> None:
    pool = Pool()
    asked(pool, wishes)
    cut = data.draw(st.integers(0, len(pool.facts)))
    assert contents(folded(pool.facts[cut:], stored(folded(pool.facts[:cut])))) == contents(folded(pool.facts))


@given(requests(), requests())
def test_an_owner_that_comes_back_from_a_snapshot_decides_as_if_it_had_never_been_away(
    before: list[tuple[JobRequest, float, bool]], after: list[tuple[JobRequest, float, bool]]
) -> None:
    """Between two batches, with no claim waiting (those are read again from the requests) and no GPU worker just heard."""
    pool = Pool()
    asked(pool, before)
    pool.tick(10_000)
    pool.state.gpus.clear()
    again = Pool()
    again.state, again.requests = stored(pool.state), pool.requests
    later = [(event, seconds + 10_000, twice) for event, seconds, twice in after]
    seen = len(pool.facts)
    asked(pool, later, 1000)
    asked(again, later, 1000)
    assert again.facts == pool.facts[seen:]
    assert contents(again.state) == contents(pool.state)


def test_a_snapshot_does_not_change_with_the_state() -> None:
    pool = Pool()
    pool.submit("a")
    snapshot = take(pool.state, MARK)
    before = dump(snapshot)
    pool.claim("w")
    pool.finish("a")
    assert dump(snapshot) == before


def test_what_is_broken_or_of_another_policy_or_format_is_no_snapshot() -> None:
    pool = Pool()
    pool.submit("a")
    snapshot = take(pool.state, MARK)
    data = dump(snapshot)
    assert load(data, POLICY) is not None
    assert load(data, Policy(attempts_max=9)) is None
    assert load(data[:40], POLICY) is None
    assert load(b"", POLICY) is None
    assert load(b"not a snapshot", POLICY) is None
    older = Snapshot(replace(snapshot.header, format=0), snapshot.jobs)
    assert load(dump(older), POLICY) is None
