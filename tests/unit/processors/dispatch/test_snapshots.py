"""A snapshot, and the facts after it, give the state that all facts give."""

from dataclasses import replace
from uuid import uuid5

from hypothesis import given, settings
from hypothesis import strategies as st

from events.envelope import Envelope
from events.jobs import JobRequest
from processors.dispatch.snapshots import Mark, Snapshot, dump, load, restore, take
from processors.dispatch.state import Decided, Policy, State, evolve
from tests.support.pools import POLICY, ROOT, Pool, contents, requests

MARK = Mark(7, "the last fact")


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


@settings(max_examples=40)
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
