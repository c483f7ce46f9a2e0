"""Decisions of the deliverer: given an endpoint, when an answer comes, then these facts."""

from datetime import timedelta

import pytest

from events.deliveries import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Delivered,
    DeliveryFailed,
    DeliveryGivenUp,
    EndpointGone,
)
from events.webhooks import RedeliveryRequested, WebhookDeleted, WebhookTestRequested
from processors.delivering.decide import Meet, Next, Policy, Wait, delivery_id_of, follow, step, wants
from producers.outside import Answer
from projections.deliveries.endpoints import Endpoint
from tests.support.delivering import ENDPOINT, NOW, after, endpoint, notice, place, saved

STANDARD, VLOG = Policy(), Policy("vlog")
OK, AWAY, REFUSED = Answer(204), Answer(None, "no answer within 10 s"), Answer(400, "the endpoint answered 400")


def tried(row: Endpoint, answer: Answer, policy: Policy = STANDARD, chance: float = 0.0) -> tuple[Endpoint, list[str]]:
    """Return the row after an attempt at the notice at its cursor, and the names of the facts."""
    facts = follow(row, place(row.cursor), answer, NOW, chance, policy)
    return after(row, facts), [type(fact).__name__ for fact in facts]


def waits_s(row: Endpoint, answer: Answer, policy: Policy, count: int, chance: float = 0.0) -> list[float]:
    """Return the seconds between attempts that all have this answer."""
    found = []
    for _ in range(count):
        row, _names = tried(row, answer, policy, chance)
        found.append((row.retry_at - NOW).total_seconds() if row.retry_at else 0.0)
    return found


def test_standard_webhooks_has_ten_attempts_in_75_hours_and_35_minutes() -> None:
    found = waits_s(endpoint(saved()), REFUSED, STANDARD, 10)
    assert found == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, 0]
    assert sum(found) == timedelta(hours=75, minutes=35, seconds=5).total_seconds()


def test_vlog_has_five_attempts_at_30_s_doubled() -> None:
    assert waits_s(endpoint(saved()), REFUSED, VLOG, 5) == [30, 60, 120, 240, 0]


def test_chance_adds_at_most_a_quarter() -> None:
    assert waits_s(endpoint(saved()), REFUSED, VLOG, 4, chance=1.0) == [37.5, 75, 150, 300]


def test_a_refused_notice_is_given_up_after_the_last_attempt_and_the_next_one_begins_anew() -> None:
    row = endpoint(saved())
    for _ in range(4):
        row, names = tried(row, REFUSED, VLOG)
        assert (names, row.cursor) == (["DeliveryFailed"], 0)
    row, names = tried(row, REFUSED, VLOG)
    assert names == ["DeliveryFailed", "DeliveryGivenUp"]
    assert (row.cursor, row.attempt, row.retry_at) == (1, 0, None)


def test_attempts_while_the_endpoint_was_away_use_no_refusal_up() -> None:
    row = endpoint(saved())
    for _ in range(12):
        row, names = tried(row, AWAY)
    row, names = tried(row, REFUSED)
    assert "DeliveryGivenUp" not in names
    assert (row.attempt, row.refusals, row.retry_at) == (13, 1, NOW + timedelta(seconds=5))


def test_nothing_is_given_up_while_the_endpoint_is_away() -> None:
    assert waits_s(endpoint(saved()), AWAY, VLOG, 8) == [30, 60, 120, 240, 240, 240, 240, 240]


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_an_endpoint_that_asks_for_time_gets_it(status: int) -> None:
    row, _ = tried(endpoint(saved()), Answer(status, "x", retry_after_s=1000.0))
    assert row.retry_at == NOW + timedelta(seconds=1000)
    row, _ = tried(row, Answer(status, "x", retry_after_s=1.0))
    assert row.retry_at == NOW + timedelta(seconds=300), "the schedule holds when it is longer"
    row, _ = tried(row, Answer(status, "x", retry_after_s=1e9))
    assert row.retry_at == NOW + timedelta(days=1), "nobody is asked to wait for ever"


def test_a_breaker_opens_after_five_failures_and_one_attempt_closes_it() -> None:
    row = endpoint(saved())
    for _ in range(4):
        row, names = tried(row, AWAY, VLOG)
        assert names == ["DeliveryFailed"]
    row, names = tried(row, AWAY, VLOG)
    assert names == ["DeliveryFailed", "BreakerOpened"]
    assert row.until == NOW + timedelta(seconds=300)
    assert step(row, NOW + timedelta(seconds=299)) == Wait(row.until)
    due = step(row, NOW + timedelta(seconds=300))
    assert isinstance(due, Next)
    assert [type(fact) for fact in due.facts] == [BreakerHalfOpened]
    half = after(row, due.facts)
    assert step(half, NOW + timedelta(seconds=300)) == Next()
    again, names = tried(half, AWAY, VLOG)
    assert (names, again.breaker) == (["DeliveryFailed", "BreakerOpened"], "open")
    for answer in (OK, REFUSED):
        row, names = tried(half, answer, STANDARD)
        assert (names[-1], row.breaker, row.away) == (BreakerClosed.__name__, "closed", 0)


def test_refusals_do_not_open_a_breaker() -> None:
    row = endpoint(saved())
    for _ in range(9):
        row, names = tried(row, REFUSED)
        assert BreakerOpened.__name__ not in names


def test_410_ends_the_endpoint_until_it_is_saved_again_and_loses_nothing() -> None:
    row, names = tried(endpoint(saved(1)), Answer(410, "the endpoint answered 410"))
    assert names == [DeliveryFailed.__name__, EndpointGone.__name__]
    assert (row.paused, row.cursor, step(row, NOW)) == ("gone", 0, Wait(None))
    row = endpoint(saved(2), row=row)
    assert (row.paused, step(row, NOW)) == (None, Next())
    _, names = tried(row, OK)
    assert names == [Delivered.__name__]


def test_an_inactive_endpoint_keeps_its_place() -> None:
    row = after(endpoint(saved()), follow(endpoint(saved()), place(0), OK, NOW, 0.0, STANDARD))
    row = endpoint(saved(2, active=False), row=row)
    assert (step(row, NOW), row.cursor) == (Wait(None), 1)
    row = endpoint(saved(3), row=row)
    assert (step(row, NOW), row.cursor) == (Next(), 1)


def test_a_deleted_endpoint_does_nothing() -> None:
    row = endpoint(saved(), WebhookTestRequested(endpoint_id=ENDPOINT, request_id="r"), WebhookDeleted(endpoint_id=ENDPOINT))
    assert step(row, NOW) == Wait(None)
    assert step(endpoint(saved(2), row=row), NOW) == Wait(None), "it is gone for good"


def test_wishes_come_first_even_while_it_is_paused_and_are_met_once() -> None:
    row = endpoint(saved(active=False), RedeliveryRequested(endpoint_id=ENDPOINT, request_id="r", event_id="event-3"))
    due = step(row, NOW)
    assert isinstance(due, Meet)
    facts = follow(row, place(3), AWAY, NOW, 0.0, STANDARD, due.wish)
    row = after(row, facts)
    assert [type(fact) for fact in facts] == [DeliveryFailed], "one attempt, which a person watches"
    assert (row.waiting, row.away, row.cursor, row.retry_at) == ((), 0, 0, None)


def test_an_id_is_the_same_at_every_attempt_and_other_at_another_endpoint() -> None:
    row = endpoint(saved())
    first, again = follow(row, place(0), AWAY, NOW, 0.0, VLOG)[0], follow(row, place(0), OK, NOW, 0.5, VLOG)[0]
    assert isinstance(first, DeliveryFailed)
    assert isinstance(again, Delivered)
    assert first.delivery_id == again.delivery_id == delivery_id_of(ENDPOINT, "event-0") != delivery_id_of("other", "event-0")


def test_a_new_endpoint_gets_what_happens_from_now_on() -> None:
    row = endpoint(saved(events=("video.*",)))
    assert not wants(row, notice(occurred_at=NOW - timedelta(seconds=1)))
    assert wants(row, notice(occurred_at=NOW))
    assert not wants(row, notice(event_type="worker.connected"))
    assert wants(endpoint(saved(events=("worker.*", "video.ready"))), notice())


def test_the_facts_of_giving_up_are_two() -> None:
    row = endpoint(saved())
    for _ in range(9):
        row, _names = tried(row, REFUSED)
    failed, given_up = follow(row, place(0), REFUSED, NOW, 0.0, STANDARD)
    assert isinstance(failed, DeliveryFailed)
    assert isinstance(given_up, DeliveryGivenUp)
    assert (failed.attempt, failed.retry_at, given_up.attempts, given_up.sequence) == (10, None, 10, failed.sequence + 1)
