"""Decisions of the deliverer: the next step of an endpoint, and the facts that follow from an answer. Pure.

An endpoint gets its notices one after the other. At an attempt that fails, it waits, and so does everything behind:

- It refused this notice (a status that speaks of the message): after the last refusal the notice is given up, and the next is due.
- It was away (no answer, 408, 425, 429, 502, 503, 504): nothing is given up. After the last attempt of the schedule it is tried
  at the last distance for ever; after some failures in a row its breaker opens, and an attempt in between shows whether it is back.
- It is gone (410), inactive or deleted: nothing is sent. A new version of it goes on at its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal
from uuid import UUID, uuid5

from events.deliveries import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    CursorMoved,
    Delivered,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryGivenUp,
    EndpointGone,
    EndpointTested,
    WishRefused,
)
from events.notices import NoticePublished
from producers.outside import Answer
from projections.deliveries.endpoints import Endpoint, Place, Wish

NAMESPACE = UUID("0b6cf2ae-93a5-4f26-8a4e-3a0f6f1b7c52")
GONE = 410
RETRY_AFTER_MAX_S = 24 * 3600.0
Retries = Literal["standard", "vlog"]
SCHEDULES: Mapping[Retries, Sequence[float]] = {
    "standard": (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
    "vlog": (0, 30, 60, 120, 240),
}
"""Seconds before each attempt. The first is that of Standard Webhooks 1.0.0, 75 hours; the second has 30 s · 2^(n−1)."""


@dataclass(frozen=True)
class Policy:
    """Rules of attempts. `jitter` is the largest part of a wait that chance adds."""

    retries: Retries = "standard"
    jitter: float = 0.25
    breaker_failures: int = 5
    breaker_s: float = 300.0

    @property
    def delays_s(self) -> Sequence[float]:
        """Seconds before each attempt."""
        return SCHEDULES[self.retries]


@dataclass(frozen=True)
class Wait:
    """Nothing is due before `until`; None: before an event."""

    until: datetime | None


@dataclass(frozen=True)
class Meet:
    """A person's wish is due."""

    wish: Wish


@dataclass(frozen=True)
class Next:
    """The next notice is due. `facts` are to be recorded first."""

    facts: tuple[DeliveryEvent, ...] = ()


Step = Wait | Meet | Next


def delivery_id_of(endpoint_id: str, event_id: str) -> str:
    """Return the id of a delivery: the same at every attempt, and when it is sent again."""
    return str(uuid5(NAMESPACE, f"{endpoint_id}/{event_id}"))


def step(row: Endpoint, now: datetime) -> Step:
    """Return the next step of an endpoint. Wishes come first, also while it is paused; a deleted endpoint has none."""
    if row.deleted or not row.version:
        return Wait(None)
    if row.waiting:
        return Meet(row.waiting[0])
    if row.paused:
        return Wait(None)
    is_open = row.breaker == "open"
    due = max((moment for moment in (row.retry_at, row.until if is_open else None) if moment), default=now)
    if due > now:
        return Wait(due)
    return Next((BreakerHalfOpened(endpoint_id=row.endpoint_id, sequence=row.sequence + 1),) if is_open else ())


def wants(row: Endpoint, notice: NoticePublished) -> bool:
    """Return whether a notice is for an endpoint."""
    is_new = row.moved or row.created_at is None or notice.occurred_at >= row.created_at
    return is_new and any(fnmatchcase(notice.event_type, glob) for glob in row.events)


def attempt_of(row: Endpoint, delivery_id: str) -> int:
    """Return the number of the next attempt, from 1."""
    return row.attempt + 1 if row.failing == delivery_id else 1


def follow(
    row: Endpoint, place: Place, answer: Answer, now: datetime, chance: float, policy: Policy, wish: Wish | None = None
) -> tuple[DeliveryEvent, ...]:
    """Return the facts that follow from an answer. `chance` is in [0, 1). For a wish there is one attempt."""
    delivery_id = delivery_id_of(row.endpoint_id, place.event.event_id)
    attempt = 1 if wish else attempt_of(row, delivery_id)
    about = {
        "endpoint_id": row.endpoint_id,
        "delivery_id": delivery_id,
        "event_id": place.event.event_id,
        "event_type": place.event.event_type,
        "position": place.position,
        "attempt": attempt,
        "status": answer.status,
        "answer": answer.text,
        "duration_ms": answer.duration_ms,
        "request_id": wish.request_id if wish else None,
    }
    following = {"endpoint_id": row.endpoint_id, "sequence": row.sequence + 2}
    if answer.is_taken:
        done = Delivered(sequence=row.sequence + 1, **about)
        return (done,) if row.breaker == "closed" or wish else (done, BreakerClosed(**following))
    refusals = row.refusals + 1 if row.failing == delivery_id else 1
    retry_at = None if wish else _retry_at(answer, attempt, refusals, now, chance, policy)
    failed = DeliveryFailed(sequence=row.sequence + 1, error=answer.error, away=answer.is_away, retry_at=retry_at, **about)
    if wish:
        return (failed,)
    if answer.status == GONE:
        return failed, EndpointGone(version=row.version, **following)
    if retry_at is None:
        return failed, DeliveryGivenUp(delivery_id=delivery_id, position=place.position, attempts=attempt, **following)
    if not answer.is_away:
        return (failed,) if row.breaker == "closed" else (failed, BreakerClosed(**following))
    if row.breaker == "half_open" or (row.breaker == "closed" and row.away + 1 >= policy.breaker_failures):
        until = max(retry_at, now + timedelta(seconds=policy.breaker_s))
        return failed, BreakerOpened(failures=row.away + 1, until=until, **following)
    return (failed,)


def _retry_at(answer: Answer, attempt: int, refusals: int, now: datetime, chance: float, policy: Policy) -> datetime | None:
    """Return the time of the next attempt; None when there is none. Attempts at which the endpoint was away use no refusal up."""
    delays, made = policy.delays_s, attempt if answer.is_away else refusals
    if answer.status == GONE or (made >= len(delays) and not answer.is_away):
        return None
    delay_s = delays[min(made, len(delays) - 1)] * (1 + policy.jitter * chance)
    return now + timedelta(seconds=max(delay_s, min(answer.retry_after_s or 0.0, RETRY_AFTER_MAX_S)))


def moved(row: Endpoint, wish: Wish, position: int) -> CursorMoved:
    """Return the fact that an endpoint goes on from a position, as a person wished."""
    known = {"endpoint_id": row.endpoint_id, "sequence": row.sequence + 1}
    return CursorMoved(request_id=wish.request_id, position=position, **known)


def answered_test(row: Endpoint, wish: Wish, answer: Answer) -> EndpointTested:
    """Return the fact of a test."""
    return EndpointTested(
        endpoint_id=row.endpoint_id,
        sequence=row.sequence + 1,
        request_id=wish.request_id,
        event_type=wish.event_type or "",
        status=answer.status,
        error=answer.error,
        answer=answer.text,
        duration_ms=answer.duration_ms,
    )


def refused(row: Endpoint, wish: Wish, reason: str) -> WishRefused:
    """Return the fact that a wish cannot be met."""
    return WishRefused(endpoint_id=row.endpoint_id, sequence=row.sequence + 1, request_id=wish.request_id, reason=reason)
