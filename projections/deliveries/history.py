"""The history of deliveries: table `deliveries`, one row for each notice that was sent to an endpoint. Pure."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Literal, assert_never

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
from events.envelope import Recorded
from events.notices import NoticePublished
from events.webhooks import RedeliveryRequested, WebhookDeleted, WebhookEvent, WebhookSaved, WebhookTestRequested
from projections.folding.fold import table_row

Status = Literal["retrying", "failed", "given_up", "delivered"]


@table_row
class Delivery:
    """The latest attempt at a delivery. `failed`: it was sent once, because a person asked for it, and not taken."""

    delivery_id: str
    endpoint_id: str
    event_id: str
    event_type: str
    position: int
    status: Status
    attempts: int
    response_status: int | None
    error: str
    answer: str
    duration_ms: int
    created_at: datetime
    attempted_at: datetime
    retry_at: datetime | None
    delivered_at: datetime | None
    sequence: int


def delivery_keys(recorded: Recorded[NoticePublished | WebhookEvent | DeliveryEvent]) -> Collection[tuple[str]]:
    """Return the id of the delivery that a fact is about."""
    event = recorded.envelope.data
    match event:
        case Delivered() | DeliveryFailed() | DeliveryGivenUp():
            return ((event.delivery_id,),)
        case BreakerOpened() | BreakerHalfOpened() | BreakerClosed() | EndpointGone():
            return ()
        case CursorMoved() | WishRefused() | EndpointTested() | NoticePublished():
            return ()
        case WebhookSaved() | WebhookDeleted() | WebhookTestRequested() | RedeliveryRequested():
            return ()
        case _:
            assert_never(event)


def evolve_delivery(row: Delivery | None, recorded: Recorded[Delivered | DeliveryFailed | DeliveryGivenUp]) -> Delivery | None:
    """Fold the facts about one delivery; a repeated fact changes nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if row is not None and event.sequence <= row.sequence:
        return row
    match event:
        case DeliveryGivenUp():
            return None if row is None else replace(row, status="given_up", retry_at=None, sequence=event.sequence)
        case Delivered():
            begun = row or _begun(event, time)
            return replace(_attempted(begun, event, time), status="delivered", retry_at=None, delivered_at=time)
        case DeliveryFailed():
            attempted = replace(_attempted(row or _begun(event, time), event, time), error=event.error)
            if event.request_id:
                return replace(attempted, status=row.status if row else "failed")
            return replace(attempted, status="retrying", retry_at=event.retry_at)
        case _:
            assert_never(event)


def _begun(event: Delivered | DeliveryFailed, time: datetime) -> Delivery:
    known = (event.delivery_id, event.endpoint_id, event.event_id, event.event_type, event.position)
    return Delivery(*known, "retrying", 0, None, "", "", 0, time, time, None, None, 0)


def _attempted(row: Delivery, event: Delivered | DeliveryFailed, time: datetime) -> Delivery:
    return replace(
        row,
        attempts=event.attempt,
        response_status=event.status,
        error="",
        answer=event.answer,
        duration_ms=event.duration_ms,
        attempted_at=time,
        sequence=event.sequence,
    )
