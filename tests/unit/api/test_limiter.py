"""How often one address may come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limiter import Limiter


@given(st.lists(st.floats(0, 30), max_size=80), st.integers(1, 12), st.sampled_from([1.0, 30.0, 600.0]))
def test_no_window_holds_more_than_the_burst_and_what_is_due(pauses: list[float], burst: int, per_minute: float) -> None:
    limiter = Limiter(per_minute, burst, b"salt")
    now, passed = 1000.0, []
    for pause in pauses:
        now += pause
        if limiter.wait_s("a", now) == 0:
            passed.append(now)
    for first, start in enumerate(passed):
        for count, end in enumerate(passed[first:], 1):
            assert count <= burst + (end - start) * per_minute / 60 + 1e-6


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 12))
def test_who_waits_as_long_as_asked_passes(pauses: list[float], burst: int) -> None:
    limiter = Limiter(30, burst, b"salt")
    now = 1000.0
    for pause in pauses:
        now += pause
        if wait_s := limiter.wait_s("a", now):
            now += wait_s
            assert limiter.wait_s("a", now) == 0


def test_addresses_do_not_share_a_burst() -> None:
    limiter = Limiter(30, 1, b"salt")
    assert limiter.wait_s("a", 0.0) == 0 == limiter.wait_s("b", 0.0)
    assert limiter.wait_s("a", 0.0) == pytest.approx(2.0)


def test_no_address_is_kept_and_no_more_than_the_limit_of_hashes() -> None:
    limiter = Limiter(30, 10, b"salt", entries_max=1000)
    for number in range(10_000):
        limiter.wait_s(f"192.0.2.{number}", number / 10_000)
        assert len(limiter) <= 1000
    assert "192.0.2" not in repr(vars(limiter))


def test_what_is_whole_again_is_forgotten() -> None:
    limiter = Limiter(30, 10, b"salt")
    for now in (0.0, 30.0, 60.0):
        limiter.wait_s(f"at {now}", now)
    assert len(limiter) <= 2


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=60), st.integers(1, 12))
def test_requests_that_are_given_back_leave_no_trace(requests: list[tuple[float, bool]], burst: int) -> None:
    """Both limiters answer alike: one never heard of the requests that the other was given back."""
    limiter, other = Limiter(30, burst), Limiter(30, burst)
    now = 1000.0
    for pause, given_back in requests:
        now += pause
        expected = other.would_wait_s("a", now)
        assert limiter.would_wait_s("a", now) == pytest.approx(expected, abs=1e-6)
        if given_back:
            if limiter.wait_s("a", now) == 0:
                limiter.give_back("a", now)
        else:
            assert limiter.wait_s("a", now) == pytest.approx(other.wait_s("a", now), abs=1e-6)
