"""The projection `deliveries` and its readers, for administrators and for the deliverer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.notices import NoticePublished
from events.topics import DELIVERIES, NOTICES, WEBHOOKS
from projections.deliveries.endpoints import (
    Endpoint,
    Notice,
    Place,
    endpoint_keys,
    evolve_endpoint,
    evolve_notice,
    notice_keys,
)
from projections.deliveries.history import Delivery, Status, delivery_keys, evolve_delivery
from projections.folding.fold import Projection, Table
from projections.folding.queries import load

SHOWN = timedelta(days=30)
"""Age up to which deliveries are shown."""
_SQL = load(Path(__file__).with_name("projection.sql"))
PROJECTION = Projection(
    "deliveries",
    (NOTICES, WEBHOOKS, DELIVERIES),
    (
        Table("notices", Notice, ("event_id",), notice_keys, evolve_notice),
        Table("endpoints", Endpoint, ("endpoint_id",), endpoint_keys, evolve_endpoint),
        Table("deliveries", Delivery, ("delivery_id",), delivery_keys, evolve_delivery),
    ),
    _SQL["create"],
)
_ENDPOINT, _DELIVERY = TypeAdapter(Endpoint), TypeAdapter(Delivery)


async def endpoints(connection: AsyncConnection[Any]) -> Sequence[Endpoint]:
    """Return all endpoints, oldest first."""
    cursor = await connection.execute(_SQL["endpoints"])
    return [_ENDPOINT.validate_json(text) for (text,) in await cursor.fetchall()]


async def endpoint(connection: AsyncConnection[Any], endpoint_id: str) -> Endpoint | None:
    """Return an endpoint that is not deleted."""
    cursor = await connection.execute(_SQL["endpoint"], {"endpoint_id": endpoint_id})
    found = await cursor.fetchone()
    return _ENDPOINT.validate_json(found[0]) if found else None


async def every_endpoint(connection: AsyncConnection[Any]) -> Sequence[Endpoint]:
    """Return every row, also of deleted endpoints."""
    cursor = await connection.execute(_SQL["every_endpoint"])
    return [_ENDPOINT.validate_json(text) for (text,) in await cursor.fetchall()]


async def notices_from(connection: AsyncConnection[Any], position: int, limit: int) -> Sequence[Place]:
    """Return notices from a position on, in order."""
    cursor = await connection.execute(_SQL["notices_from"], {"position": position, "limit": limit})
    return [Place(at, NoticePublished.model_validate_json(text)) for at, text in await cursor.fetchall()]


async def notice(connection: AsyncConnection[Any], event_id: str) -> Place | None:
    """Return the notice of an event."""
    cursor = await connection.execute(_SQL["notice"], {"event_id": event_id})
    found = await cursor.fetchone()
    return Place(found[0], NoticePublished.model_validate_json(found[1])) if found else None


async def position_since(connection: AsyncConnection[Any], since: datetime) -> int:
    """Return the position of the first notice of an event at or after a time; the end when there is none."""
    cursor = await connection.execute(_SQL["position_since"], {"since": since})
    found = await cursor.fetchone()
    if found is not None and found[0] is not None:
        return int(found[0])
    return await end(connection)


async def end(connection: AsyncConnection[Any]) -> int:
    """Return the position after the last notice."""
    cursor = await connection.execute(_SQL["end"])
    found = await cursor.fetchone()
    return int(found[0]) if found else 0


class Counts(NamedTuple):
    """Numbers of endpoints and deliveries; `total_24h` and `delivered_24h` are those of the last day."""

    endpoints: int
    active: int
    retrying: int
    failed: int
    total_24h: int
    delivered_24h: int


async def counts(connection: AsyncConnection[Any], now: datetime) -> Counts:
    """Return the numbers of endpoints and deliveries."""
    found = await (await connection.execute(_SQL["counts"], {"since": now - timedelta(days=1)})).fetchone()
    return Counts(*found) if found else Counts(0, 0, 0, 0, 0, 0)


async def page(
    connection: AsyncConnection[Any],
    endpoint_id: str,
    *,
    now: datetime,
    limit: int,
    status: Status | None = None,
    after: tuple[datetime, str] | None = None,
) -> Sequence[Delivery]:
    """Return the deliveries of an endpoint in the last 30 days, last attempted first."""
    time, id_ = after or (None, None)
    given = {"endpoint_id": endpoint_id, "status": status, "since": now - SHOWN, "limit": limit}
    cursor = await connection.execute(_SQL["page"], given | {"after_time": time, "after_id": id_})
    return [_DELIVERY.validate_json(text) for (text,) in await cursor.fetchall()]


async def delivery(connection: AsyncConnection[Any], endpoint_id: str, delivery_id: str, now: datetime) -> Delivery | None:
    """Return one delivery of the last 30 days."""
    given = {"endpoint_id": endpoint_id, "delivery_id": delivery_id, "since": now - SHOWN}
    cursor = await connection.execute(_SQL["delivery"], given)
    found = await cursor.fetchone()
    return _DELIVERY.validate_json(found[0]) if found else None
