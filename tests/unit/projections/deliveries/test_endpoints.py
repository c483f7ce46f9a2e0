"""Endpoints and deliveries are folds: in whatever order topics come, and however often events repeat, rows are the same."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from events.deliveries import DeliveryEvent
from events.envelope import Event, Recorded
from events.topics import DELIVERIES
from events.webhooks import RedeliveryRequested, WebhookTestRequested
from processors.delivering.decide import Meet, Next, Policy, answered_test, follow, moved, step
from producers.outside import Answer
from projections.deliveries.projection import PROJECTION
from tests.support.delivering import ENDPOINT, NOW, after, endpoint, place, recorded, saved
from tests.support.folding import folded

ANSWERS = (
    *(Answer(200, text="ok"), Answer(None, "away"), Answer(400, "refused")),
    *(Answer(503, "x", retry_after_s=50.0), Answer(410, "gone")),
)


def life(seed: int) -> list[Recorded[Event]]:
    """Return the events of an endpoint's life, as people and the deliverer write them."""
    rng, now, number = Random(seed), NOW, 0
    log: list[Recorded[Event]] = []
    row = None
    for version in range(1, rng.randint(2, 6)):
        people: list[Event] = [saved(version, active=rng.random() < 0.9)]
        if rng.random() < 0.5:
            people.append(WebhookTestRequested(endpoint_id=ENDPOINT, request_id=f"t{version}"))
        if rng.random() < 0.5:
            people.append(RedeliveryRequested(endpoint_id=ENDPOINT, request_id=f"r{version}", position=rng.randint(0, 3)))
        for event in people:
            number += 1
            log.append(recorded(event, number, now))
            row = endpoint(event, row=row, time=now)
        assert row is not None
        for _ in range(rng.randint(0, 12)):
            now += timedelta(hours=rng.randint(0, 30))
            due, answer = step(row, now), rng.choice(ANSWERS)
            facts: tuple[DeliveryEvent, ...]
            if isinstance(due, Meet):
                facts = (moved(row, due.wish, 1) if due.wish.event_type is None else answered_test(row, due.wish, answer),)
            elif isinstance(due, Next):
                facts = due.facts or follow(row, place(row.cursor), answer, now, rng.random(), Policy("vlog"))
            else:
                continue
            for fact in facts:
                number += 1
                log.append(recorded(fact, number, now))
                row = after(row, [fact], now)
    return log


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_the_order_of_topics_nor_on_repetitions(seed: int, order: Random) -> None:
    log = life(seed)
    expected = folded(PROJECTION, log)
    facts = [record for record in log if record.topic == DELIVERIES.name]
    people = [record for record in log if record.topic != DELIVERIES.name]
    assert folded(PROJECTION, [*facts, *people])["endpoints"] == expected["endpoints"]
    assert folded(PROJECTION, [*people, *facts]) == expected
    again = list(log)
    for _ in range(order.randint(1, 5)):
        at = order.randrange(len(again))
        again.insert(order.randint(at, min(len(again), at + 4)), again[at])
    assert folded(PROJECTION, again) == expected


def test_history_shows_the_latest_attempt() -> None:
    row, log, number = endpoint(saved()), [recorded(saved())], 0
    for answer in (Answer(500, "the endpoint answered 500", text="oops", duration_ms=7), Answer(200, text="taken", duration_ms=3)):
        facts = follow(row, place(0), answer, NOW, 0.0, Policy())
        row = after(row, facts)
        for fact in facts:
            number += 1
            log.append(recorded(fact, number, NOW + timedelta(seconds=number)))
    (delivery,) = folded(PROJECTION, log)["deliveries"].values()
    assert (delivery.status, delivery.attempts, delivery.response_status, delivery.answer, delivery.error) == (
        *("delivered", 2, 200, "taken", ""),
    )
    assert (delivery.created_at, delivery.delivered_at) == (NOW + timedelta(seconds=1), NOW + timedelta(seconds=2))
