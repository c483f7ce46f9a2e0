"""Routes of the admin app: endpoints outside, tests, and deliveries with their history."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from api.admin.models import CHANGED, FOUND, Page
from api.admin.services import Given, Services, reading
from api.problems import documented
from api.services import Cursor, Limit, Minimum, after_of, cursor_of
from events.envelope import Event
from events.errors import Conflict, InvalidRequest, NotFound, Retryable
from events.notices import NoticeType
from events.text import Line
from events.webhooks import Format, RedeliveryRequested, WebhookDeleted, WebhookSaved, WebhookTestRequested
from producers.outside import Answer
from producers.webhooks import HEADER_MAX, Kept, Secret, about_endpoint, checked_headers, checked_secret, new_secret, rotated
from projections.deliveries import projection as deliveries
from projections.deliveries.endpoints import Breaker, Endpoint
from projections.deliveries.history import Delivery, Status
from projections.folding.positions import Positions, wait_for

routes = APIRouter(prefix="/api/webhooks", tags=["webhooks"])
EndpointId = Annotated[Line, Path(max_length=64)]
DeliveryId = Annotated[Line, Path(max_length=64)]
HeaderName = Annotated[Line, Field(min_length=1, max_length=100)]
HeaderValue = Annotated[Line, Field(max_length=HEADER_MAX)]
ENDPOINTS_MAX = 100
SEEN_S = 5.0
"""Longest wait until the projection has folded what this app wrote."""
TESTED_S = 20.0
"""Longest wait for the answer to a test."""
LOOK_S = 0.05
ENDPOINT_ID = "0192f0a1-7c3e-7d10-9a55-5b1f0c2d3e4f"
DELIVERY_ID = "5d6c7b8a-1f2e-5a3d-9c4b-7e8f9a0b1c2d"
SECRET = "whsec_…"


class WebhookWanted(BaseModel, extra="forbid"):
    """An endpoint. `events` are types of the catalogue, or globs over them. Headers are sent with each message."""

    name: Annotated[Line, Field(min_length=1, max_length=100, examples=["Media server"])]
    url: Annotated[Line, Field(min_length=10, max_length=2000, examples=["https://hooks.example.org/kinolog"])]
    events: list[Annotated[Line, Field(min_length=1, max_length=100)]] = Field(
        min_length=1, max_length=20, examples=[["video.*", "worker.disconnected"]]
    )
    active: bool = True
    format: Format = Field("standard", description="`vlog` for receivers of VLog's webhooks.")
    headers: dict[HeaderName, HeaderValue] | None = Field(
        None, max_length=20, description="Left out: those of before.", examples=[{"Authorization": "Bearer abc"}]
    )
    secret: Annotated[Line, Field(max_length=100)] | None = Field(
        None, description="Left out: a new endpoint gets a random one, and an old one keeps its own.", examples=[None]
    )


class WebhookShown(BaseModel):
    """An endpoint. `paused` says why nothing is sent; `next_position` is its place among the notices."""

    id: str = Field(examples=[ENDPOINT_ID])
    name: str = Field(examples=["Media server"])
    url: str = Field(examples=["https://hooks.example.org/kinolog"])
    events: list[str] = Field(examples=[["video.*"]])
    active: bool
    format: Format
    headers: list[str] = Field(description="Names only; the values are secret.", examples=[["authorization"]])
    has_secret: bool
    created_at: datetime | None
    updated_at: datetime | None
    last_triggered_at: datetime | None
    total_deliveries: int = Field(description="Attempts.")
    successful_deliveries: int
    failed_deliveries: int
    paused: str | None = Field(examples=[None])
    breaker: Breaker
    open_until: datetime | None
    next_retry_at: datetime | None
    next_position: int


class WebhookMade(WebhookShown):
    """An endpoint with its new secret, which is shown here and never again."""

    secret: str | None = Field(examples=[SECRET])


class WebhookList(BaseModel):
    """All endpoints, oldest first."""

    webhooks: list[WebhookShown]
    total_count: int = Field(examples=[1])


class WebhookStats(BaseModel):
    """Numbers of endpoints and deliveries; `pending` ones are being tried again."""

    total_webhooks: int = Field(examples=[3])
    active_webhooks: int = Field(examples=[2])
    pending_deliveries: int = Field(examples=[1])
    failed_deliveries: int = Field(examples=[0])
    total_deliveries_24h: int = Field(examples=[40])
    successful_deliveries_24h: int = Field(examples=[39])


class TestWanted(BaseModel, extra="forbid"):
    """The type that the test shall have."""

    event_type: NoticeType = Field("video.ready", examples=["video.ready"])


class TestAnswer(BaseModel):
    """The answer of an endpoint to a test."""

    success: bool
    status_code: int | None = Field(examples=[204])
    response_body: str
    error_message: str
    duration_ms: int = Field(examples=[18])


class RotationWanted(BaseModel, extra="forbid"):
    """The time for which the old secret signs as well."""

    overlap_s: int = Field(24 * 3600, ge=0, le=30 * 24 * 3600, examples=[86400])
    secret: Annotated[Line, Field(max_length=100)] | None = Field(None, examples=[None])


class RedeliveryWanted(BaseModel, extra="forbid"):
    """The place at which the endpoint goes on: the first event at or after a time, or a position among the notices."""

    since: AwareDatetime | None = Field(None, examples=["2026-03-08T00:00:00Z"])
    position: int | None = Field(None, ge=0, le=2**53, examples=[None])


class Accepted(BaseModel):
    """The wish is on the log; the deliverer meets it."""

    request_id: str = Field(examples=[ENDPOINT_ID])


class DeliveryShown(BaseModel):
    """The latest attempt at a delivery, with the first 2,000 characters of the answer."""

    id: str = Field(examples=[DELIVERY_ID])
    webhook_id: str = Field(examples=[ENDPOINT_ID])
    event_id: str
    event_type: str = Field(examples=["video.ready"])
    position: int
    status: Status = Field(examples=["delivered"])
    attempt_number: int = Field(examples=[1])
    response_status: int | None = Field(examples=[204])
    response_body: str
    error_message: str
    duration_ms: int = Field(examples=[18])
    created_at: datetime
    attempted_at: datetime
    next_retry_at: datetime | None
    delivered_at: datetime | None


@routes.get("")
async def list_webhooks(
    given: Given,
    response: Response,
    minimum: Minimum = None,
    active_only: bool = False,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=ENDPOINTS_MAX)] = 0,
) -> WebhookList:
    """List endpoints, oldest first."""
    async with reading(given, response, "deliveries", minimum) as connection:
        found = [row for row in await deliveries.endpoints(connection) if row.active or not active_only]
    shown = [await _shown(given, row) for row in found[offset : offset + limit]]
    return WebhookList(webhooks=shown, total_count=len(found))


@routes.get("/stats")
async def webhook_stats(given: Given, response: Response) -> WebhookStats:
    """Count endpoints and deliveries."""
    async with reading(given, response, "deliveries") as connection:
        counts = await deliveries.counts(connection, given.context().now)
    return WebhookStats(**dict(zip(WebhookStats.model_fields, counts, strict=True)))


@routes.post("", status_code=201, responses=documented(409, 422))
async def make_webhook(given: Given, response: Response, wanted: WebhookWanted) -> WebhookMade:
    """Make an endpoint. Its secret is shown here, and never again."""
    secret = checked_secret(wanted.secret, wanted.format) if wanted.secret else new_secret(wanted.format)
    kept = Kept(url=wanted.url, headers=checked_headers(wanted.headers or {}), secrets=(Secret(text=secret),))
    origin = await given.check_url(kept.url)
    async with reading(given, response, "deliveries") as connection:
        if len(await deliveries.endpoints(connection)) >= ENDPOINTS_MAX:
            raise Conflict(f"there are {ENDPOINTS_MAX} endpoints already; delete one first")
    row = await _save(given, response, Endpoint(given.context().new_id()), wanted, kept, origin)
    return WebhookMade(**(await _shown(given, row)).model_dump(), secret=None if wanted.secret else secret)


@routes.get("/{endpoint_id}", responses=FOUND)
async def show_webhook(given: Given, response: Response, endpoint_id: EndpointId, minimum: Minimum = None) -> WebhookShown:
    """Show an endpoint."""
    return await _shown(given, await _found(given, response, endpoint_id, minimum))


@routes.put("/{endpoint_id}", responses=CHANGED)
async def change_webhook(given: Given, response: Response, endpoint_id: EndpointId, wanted: WebhookWanted) -> WebhookShown:
    """Change an endpoint. It goes on at its place, also one that was inactive, or gone."""
    row = await _found(given, response, endpoint_id)
    before = await given.endpoints.find(endpoint_id, row.fingerprint)
    if wanted.secret:
        secrets: tuple[Secret, ...] = (Secret(text=checked_secret(wanted.secret, wanted.format)),)
    elif before is None:
        raise Conflict("the secret of this endpoint is not there any more; give one")
    else:
        checked_secret(before.secrets[0].text, wanted.format)
        secrets = before.secrets
    old = before.headers if before else {}
    kept = Kept(url=wanted.url, headers=old if wanted.headers is None else checked_headers(wanted.headers), secrets=secrets)
    return await _shown(given, await _save(given, response, row, wanted, kept, await given.check_url(kept.url)))


@routes.delete("/{endpoint_id}", status_code=204, responses=FOUND)
async def delete_webhook(given: Given, response: Response, endpoint_id: EndpointId) -> None:
    """Delete an endpoint, its address and its secrets for good."""
    await _found(given, response, endpoint_id)
    await _write(given, response, endpoint_id, WebhookDeleted(endpoint_id=endpoint_id))
    await given.endpoints.forget(endpoint_id)


@routes.post("/{endpoint_id}/rotate", responses=CHANGED)
async def rotate_secret(given: Given, response: Response, endpoint_id: EndpointId, wanted: RotationWanted) -> WebhookMade:
    """Replace the secret. For some time messages are signed by both. VLog's form has room for one signature: the new one."""
    row = await _found(given, response, endpoint_id)
    before = await given.endpoints.find(endpoint_id, row.fingerprint)
    if before is None:
        raise Conflict("the secret of this endpoint is not there any more; change the endpoint and give one")
    secret = checked_secret(wanted.secret, row.format) if wanted.secret else new_secret(row.format)
    kept = rotated(before, secret, given.context().now, timedelta(seconds=wanted.overlap_s))
    asked = WebhookWanted(name=row.name, url=before.url, events=list(row.events), active=row.active, format=row.format)
    saved = await _save(given, response, row, asked, kept, row.origin)
    return WebhookMade(**(await _shown(given, saved)).model_dump(), secret=None if wanted.secret else secret)


@routes.post("/{endpoint_id}/test", responses=documented(404, 503))
async def test_webhook(given: Given, response: Response, endpoint_id: EndpointId, wanted: TestWanted) -> TestAnswer:
    """Send a message that says it is a test, once, and show the answer. It counts as no delivery."""
    await _found(given, response, endpoint_id)
    request_id = given.context().new_id()
    event = WebhookTestRequested(endpoint_id=endpoint_id, request_id=request_id, event_type=wanted.event_type)
    await _write(given, response, endpoint_id, event)
    try:
        async with asyncio.timeout(TESTED_S):
            while True:
                row = await _found(given, response, endpoint_id)
                if row.test is not None and row.test.request_id == request_id:
                    return TestAnswer(
                        success=Answer(row.test.status).is_taken,
                        status_code=row.test.status,
                        response_body=row.test.answer,
                        error_message=row.test.error,
                        duration_ms=row.test.duration_ms,
                    )
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise Retryable(f"the test is on the log, and was not sent within {TESTED_S:.0f} s; are the processors running?") from error


@routes.post("/{endpoint_id}/redeliver", status_code=202, responses=CHANGED)
async def redeliver(given: Given, response: Response, endpoint_id: EndpointId, wanted: RedeliveryWanted) -> Accepted:
    """Let an endpoint go on from a time or a position: it gets everything from there again, in order and under the same ids."""
    if (wanted.since is None) == (wanted.position is None):
        raise InvalidRequest("give since or position")
    await _found(given, response, endpoint_id)
    return await _wish(given, response, endpoint_id, since=wanted.since, position=wanted.position)


@routes.get("/{endpoint_id}/deliveries", responses=FOUND)
async def list_deliveries(
    given: Given,
    response: Response,
    endpoint_id: EndpointId,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    minimum: Minimum = None,
) -> Page[DeliveryShown]:
    """List the deliveries of the last 30 days, last attempted first."""
    await _found(given, response, endpoint_id, minimum)
    async with reading(given, response, "deliveries") as connection:
        found = await deliveries.page(
            connection, endpoint_id, now=given.context().now, limit=limit + 1, status=status, after=after_of(cursor)
        )
    last = found[limit - 1] if len(found) > limit else None
    items = [_delivery(row) for row in found[:limit]]
    return Page(items=items, next=cursor_of(last.attempted_at, last.delivery_id) if last else None)


@routes.get("/{endpoint_id}/deliveries/{delivery_id}", responses=FOUND)
async def show_delivery(given: Given, response: Response, endpoint_id: EndpointId, delivery_id: DeliveryId) -> DeliveryShown:
    """Show a delivery."""
    return _delivery(await _delivered(given, response, endpoint_id, delivery_id))


@routes.post("/{endpoint_id}/deliveries/{delivery_id}/retry", status_code=202, responses=FOUND)
async def retry_delivery(given: Given, response: Response, endpoint_id: EndpointId, delivery_id: DeliveryId) -> Accepted:
    """Send a notice again, once and at once, under the same id."""
    found = await _delivered(given, response, endpoint_id, delivery_id)
    return await _wish(given, response, endpoint_id, event_id=found.event_id)


# --- common ---------------------------------------------------------------------------------------------------------


async def _found(given: Services, response: Response, endpoint_id: str, minimum: str | None = None) -> Endpoint:
    async with reading(given, response, "deliveries", minimum) as connection:
        row = await deliveries.endpoint(connection, endpoint_id)
    if row is None:
        raise NotFound(f"there is no endpoint {endpoint_id}")
    return row


async def _delivered(given: Services, response: Response, endpoint_id: str, delivery_id: str) -> Delivery:
    async with reading(given, response, "deliveries") as connection:
        found = await deliveries.delivery(connection, endpoint_id, delivery_id, given.context().now)
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id} to this endpoint in the last 30 days")
    return found


async def _wish(
    given: Services,
    response: Response,
    endpoint_id: str,
    *,
    event_id: str | None = None,
    since: datetime | None = None,
    position: int | None = None,
) -> Accepted:
    request_id = given.context().new_id()
    place = {"event_id": event_id, "since": since, "position": position}
    await _write(given, response, endpoint_id, RedeliveryRequested(endpoint_id=endpoint_id, request_id=request_id, **place))
    return Accepted(request_id=request_id)


async def _save(given: Services, response: Response, row: Endpoint, wanted: WebhookWanted, kept: Kept, origin: str) -> Endpoint:
    """Keep the sealed part, then append the event that names it. Raises Conflict when somebody else was faster."""
    fingerprint = await given.endpoints.keep(row.endpoint_id, kept)
    event = WebhookSaved(
        endpoint_id=row.endpoint_id,
        version=row.version + 1,
        name=wanted.name,
        origin=origin,
        events=tuple(wanted.events),
        active=wanted.active,
        format=wanted.format,
        headers=tuple(sorted(kept.headers)),
        fingerprint=fingerprint,
    )
    await _write(given, response, row.endpoint_id, event)
    saved = await _found(given, response, row.endpoint_id)
    if saved.fingerprint != fingerprint:
        raise Conflict("the endpoint was changed by somebody else at the same time; look at it again")
    await given.endpoints.forget(row.endpoint_id, fingerprint, row.fingerprint)
    return saved


async def _write(given: Services, response: Response, endpoint_id: str, event: Event) -> None:
    """Append an event, and wait until it is folded. Raises Retryable."""
    positions = await given.append(about_endpoint(given.context(), endpoint_id, [event]))
    ends = Positions({(position.topic, position.partition): position.offset + 1 for position in positions})
    if not await wait_for(given.pool, "deliveries", ends, SEEN_S):
        raise Retryable("the change is on the log, and was not folded in time; look at the endpoint again")


async def _shown(given: Services, row: Endpoint) -> WebhookShown:
    kept = await given.endpoints.find(row.endpoint_id, row.fingerprint)
    return WebhookShown(
        id=row.endpoint_id,
        name=row.name,
        url=kept.url if kept else row.origin,
        events=list(row.events),
        active=row.active,
        format=row.format,
        headers=list(row.headers),
        has_secret=kept is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        last_triggered_at=row.attempted_at,
        total_deliveries=row.delivered + row.failed,
        successful_deliveries=row.delivered,
        failed_deliveries=row.failed,
        paused=row.paused,
        breaker=row.breaker,
        open_until=row.until,
        next_retry_at=row.retry_at,
        next_position=row.cursor,
    )


def _delivery(row: Delivery) -> DeliveryShown:
    return DeliveryShown(
        id=row.delivery_id,
        webhook_id=row.endpoint_id,
        event_id=row.event_id,
        event_type=row.event_type,
        position=row.position,
        status=row.status,
        attempt_number=row.attempts,
        response_status=row.response_status,
        response_body=row.answer,
        error_message=row.error,
        duration_ms=row.duration_ms,
        created_at=row.created_at,
        attempted_at=row.attempted_at,
        next_retry_at=row.retry_at,
        delivered_at=row.delivered_at,
    )
