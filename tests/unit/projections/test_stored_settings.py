"""Stored settings: of changes that were decided side by side the first on the log counts, and each can be undone."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.clock import Context
from events.envelope import Envelope, Recorded
from events.errors import Conflict
from events.settings import SettingChanged, SettingEvent, SettingReset
from infra.settings.desk import decide, undone
from projections.settings import HISTORY_MAX, Stored, evolve
from tests.support.footage import START


def context(number: int) -> Context:
    """Return the time and ids of a request."""
    return Context(START + timedelta(seconds=number), lambda: f"00000000-0000-7000-8000-{number:012d}", "kinolog/test")


def folded(envelopes: Sequence[Envelope[SettingEvent]], state: Stored | None = None, *, first: int = 0) -> Stored:
    """Return the fold of events, of which the first one has the offset `first`."""
    state = state or Stored()
    for offset, envelope in enumerate(envelopes, first):
        state = evolve(state, Recorded("settings", 0, offset, envelope))
    return state


names = st.sampled_from(["lease_s", "chunk_s"])
values = st.none() | st.text(min_size=1, max_size=5)


@given(st.lists(st.tuples(names, values), max_size=20))
def test_the_latest_change_counts_whatever_came_before(wanted: list[tuple[str, str | None]]) -> None:
    state, model, counts = Stored(), dict[str, str | None](), dict[str, int]()
    for number, (name, value) in enumerate(wanted):
        if value is None and model.get(name) is None:
            with pytest.raises(Conflict):
                decide(state, context(number), name, value, expected=None)
            continue
        event = decide(state, context(number), name, value, expected=state.version(name))
        assert event.data.before == model.get(name)
        state = folded([event], state)
        model[name], counts[name] = value, counts.get(name, 0) + 1
    assert {name: state.value(name) for name in model} == model
    assert {name: state.version(name) for name in counts} == counts


@given(st.lists(st.tuples(names, st.integers(0, 30)), min_size=1, max_size=40))
def test_of_changes_decided_side_by_side_the_first_on_the_log_counts(order: list[tuple[str, int]]) -> None:
    """Deciders see any older state; whatever they append, versions grow by one and each change names the value that it replaced."""
    states, log = [Stored()], list[Envelope[SettingEvent]]()
    for number, (name, back) in enumerate(order):
        seen = states[max(0, len(states) - 1 - back)]
        log.append(decide(seen, context(number), name, str(number), expected=None))
        states.append(folded([log[-1]], states[-1], first=number))
    final = states[-1]
    assert final == folded(log)
    for changes in final.changes.values():
        assert [change.version for change in changes] == list(range(1, len(changes) + 1))
        assert [change.before for change in changes] == [None, *(change.value for change in changes[:-1])]
    for name in final.changes:
        first = next(envelope for envelope in log if envelope.data.name == name)
        assert final.changes[name][0].event_id == first.id


@given(st.lists(st.tuples(names, values.filter(bool)), min_size=1, max_size=10))
def test_a_repeated_log_changes_nothing(wanted: list[tuple[str, str | None]]) -> None:
    state, log = Stored(), list[Envelope[SettingEvent]]()
    for number, (name, value) in enumerate(wanted):
        log.append(decide(state, context(number), name, value, expected=None))
        state = folded([log[-1]], state)
    assert folded(log, state) == state


def test_a_change_of_another_version_is_refused() -> None:
    state = folded([decide(Stored(), context(1), "lease_s", "90", expected=0)])
    with pytest.raises(Conflict, match="its version is 1, not 0"):
        decide(state, context(2), "lease_s", "30", expected=0)


def test_undoing_brings_the_value_before_and_undoing_again_the_one_after() -> None:
    state = folded([decide(Stored(), context(1), "lease_s", "90", expected=None)])
    assert undone(state, "lease_s") is None
    state = folded([decide(state, context(2), "lease_s", undone(state, "lease_s"), expected=None)], state)
    assert (state.value("lease_s"), undone(state, "lease_s")) == (None, "90")
    with pytest.raises(Conflict, match="never changed"):
        undone(state, "chunk_s")


def test_old_changes_are_forgotten_and_versions_are_not() -> None:
    state = Stored()
    for number in range(HISTORY_MAX + 5):
        state = folded([decide(state, context(number), "lease_s", str(number), expected=None)], state)
    assert (len(state.changes["lease_s"]), state.version("lease_s")) == (HISTORY_MAX, HISTORY_MAX + 5)


def test_a_reset_of_what_is_not_stored_is_refused_and_one_on_the_log_is_harmless() -> None:
    with pytest.raises(Conflict, match="no stored value"):
        decide(Stored(), context(1), "lease_s", None, expected=None)
    event = SettingReset(name="lease_s", version=1)
    state = folded([Envelope(context(1).new_id(), "x", "lease_s", START, event, "x")])
    assert (state.value("lease_s"), state.version("lease_s")) == (None, 1)
    assert SettingChanged(name="lease_s", version=2, value="5").before is None
