"""Endpoints: table `endpoints`, the fold that the deliverer decides from. Pure.

A row has two halves, one of each topic, because topics have no common order: definition and wishes come from `webhooks`, everything
else from `deliveries`. The deliverer's facts count: a fact with a `sequence` that the row has passed is a repetition.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Literal, NamedTuple, assert_never

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
from events.envelope import Recorded, Value
from events.notices import NoticePublished
from events.webhooks import (
    Format,
    RedeliveryRequested,
    WebhookDeleted,
    WebhookEvent,
    WebhookSaved,
    WebhookTestRequested,
)
from projections.folding.fold import table_row

WISHES_MAX = 20
"""Wishes of people that wait at one endpoint; of more, the oldest are dropped."""
ANSWERED_MAX = 5 * WISHES_MAX
Breaker = Literal["closed", "open", "half_open"]


class Wish(Value):
    """A test (`event_type`), one notice again (`event_id`), or another place on the log (`since`, `position`)."""

    request_id: str
    event_type: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    position: int | None = None


class LastTest(Value):
    """The answer of an endpoint to the latest test."""

    request_id: str
    status: int | None
    error: str
    answer: str
    duration_ms: int


@table_row
class Endpoint:
    """One endpoint.

    From `webhooks`: `version` 0 means that no definition was folded yet. `wishes` are the latest wishes of people.

    From `deliveries`: `cursor` is the position of the next notice; until a person has `moved` it, notices older than the endpoint
    are not for it. `attempt` counts the failed attempts at the notice `failing`, `refusals` those at which the
    endpoint refused it; it is tried again at `retry_at`. `away` counts
    attempts in a row at which the endpoint was away. `gone` is the version that answered 410.
    """

    endpoint_id: str
    version: int = 0
    name: str = ""
    origin: str = ""
    events: tuple[str, ...] = ()
    active: bool = False
    format: Format = "standard"
    headers: tuple[str, ...] = ()
    fingerprint: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted: bool = False
    wishes: tuple[Wish, ...] = ()
    sequence: int = 0
    cursor: int = 0
    moved: bool = False
    failing: str | None = None
    attempt: int = 0
    refusals: int = 0
    retry_at: datetime | None = None
    breaker: Breaker = "closed"
    until: datetime | None = None
    away: int = 0
    gone: int = 0
    answered: tuple[str, ...] = ()
    delivered: int = 0
    failed: int = 0
    attempted_at: datetime | None = None
    delivered_at: datetime | None = None
    test: LastTest | None = None

    @property
    def waiting(self) -> tuple[Wish, ...]:
        """Wishes that no fact has answered."""
        return tuple(wish for wish in self.wishes if wish.request_id not in self.answered)

    @property
    def paused(self) -> str | None:
        """The reason why nothing is sent, whatever the time; None when the endpoint takes notices."""
        if self.deleted or not self.version:
            return "deleted" if self.deleted else "unknown"
        if self.gone >= self.version:
            return "gone"
        return None if self.active else "inactive"


def endpoint_keys(recorded: Recorded[NoticePublished | WebhookEvent | DeliveryEvent]) -> Collection[tuple[str]]:
    """Return the key of the event's endpoint."""
    event = recorded.envelope.data
    return () if isinstance(event, NoticePublished) else ((event.endpoint_id,),)


def evolve_endpoint(row: Endpoint | None, recorded: Recorded[WebhookEvent | DeliveryEvent]) -> Endpoint:
    """Fold an event of an endpoint."""
    event, time = recorded.envelope.data, recorded.envelope.time
    row = row or Endpoint(event.endpoint_id)
    if isinstance(event, DeliveryEvent):
        return evolve_progress(row, event, time)
    match event:
        case WebhookSaved():
            return _saved(row, event, time)
        case WebhookDeleted():
            return row if row.deleted else replace(row, deleted=True, active=False, wishes=(), updated_at=time)
        case WebhookTestRequested():
            return _wished(row, Wish(request_id=event.request_id, event_type=event.event_type))
        case RedeliveryRequested():
            place = {"event_id": event.event_id, "since": event.since, "position": event.position}
            return _wished(row, Wish(request_id=event.request_id, **place))
        case _:
            assert_never(event)


def _saved(row: Endpoint, event: WebhookSaved, time: datetime) -> Endpoint:
    if row.deleted or event.version <= row.version:
        return row
    return replace(
        row,
        version=event.version,
        name=event.name,
        origin=event.origin,
        events=event.events,
        active=event.active,
        format=event.format,
        headers=event.headers,
        fingerprint=event.fingerprint,
        created_at=row.created_at or time,
        updated_at=time,
    )


def _wished(row: Endpoint, wish: Wish) -> Endpoint:
    if row.deleted or any(known.request_id == wish.request_id for known in row.wishes):
        return row
    return replace(row, wishes=(*row.wishes, wish)[-WISHES_MAX:])


def evolve_progress(row: Endpoint, event: DeliveryEvent, time: datetime) -> Endpoint:
    """Fold a fact of the deliverer, once."""
    if event.sequence <= row.sequence:
        return row
    row = replace(row, sequence=event.sequence)
    match event:
        case Delivered():
            row = replace(row, delivered=row.delivered + 1, attempted_at=time, delivered_at=time)
            return _answered(row, event.request_id) if event.request_id else _passed(row, event.position)
        case DeliveryFailed():
            row = replace(row, failed=row.failed + 1, attempted_at=time)
            if event.request_id:
                return _answered(row, event.request_id)
            refusals = (row.refusals if event.delivery_id == row.failing else 0) + (0 if event.away else 1)
            row = replace(row, away=row.away + 1 if event.away else 0, refusals=refusals, failing=event.delivery_id)
            return replace(row, cursor=event.position, attempt=event.attempt, retry_at=event.retry_at)
        case DeliveryGivenUp():
            return _passed(row, event.position)
        case BreakerOpened():
            return replace(row, breaker="open", until=event.until)
        case BreakerHalfOpened():
            return replace(row, breaker="half_open", until=None)
        case BreakerClosed():
            return replace(row, breaker="closed", until=None, away=0)
        case EndpointGone():
            return replace(row, gone=max(row.gone, event.version))
        case CursorMoved():
            return _answered(replace(_passed(row, event.position - 1), moved=True), event.request_id)
        case WishRefused():
            return _answered(row, event.request_id)
        case EndpointTested():
            result = LastTest.model_validate(event, from_attributes=True)
            return _answered(replace(row, test=result), event.request_id)
        case _:
            assert_never(event)


def _passed(row: Endpoint, position: int) -> Endpoint:
    """Return the row with the notice at a position behind it."""
    return replace(row, cursor=position + 1, failing=None, attempt=0, refusals=0, retry_at=None)


def _answered(row: Endpoint, request_id: str) -> Endpoint:
    return replace(row, answered=(*row.answered, request_id)[-ANSWERED_MAX:])


# --- notices --------------------------------------------------------------------------------------------------------


@table_row
class Notice:
    """A notice and its position; of one that came twice, the first."""

    event_id: str
    position: int
    event: NoticePublished
    occurred_at: datetime


def notice_keys(recorded: Recorded[NoticePublished | WebhookEvent | DeliveryEvent]) -> Collection[tuple[str]]:
    """Return the id of the event that a notice is about."""
    event = recorded.envelope.data
    return ((event.event_id,),) if isinstance(event, NoticePublished) else ()


def evolve_notice(row: Notice | None, recorded: Recorded[NoticePublished]) -> Notice:
    """Keep the first."""
    event = recorded.envelope.data
    return row or Notice(event.event_id, recorded.offset, event, event.occurred_at)


class Place(NamedTuple):
    """A notice as the deliverer reads it."""

    position: int
    event: NoticePublished
