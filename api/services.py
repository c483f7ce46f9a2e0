"""Parts that the routes of every app receive, and small readers of a request. Each app adds its own in its `services.py`."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Protocol

from fastapi import Header, Query, Response
from psycopg import AsyncConnection, IsolationLevel

from api.addresses import Network
from api.limits import Kind
from events.clock import Context
from events.errors import InvalidRequest, Retryable
from events.text import Line, line_fault
from projections.folding.positions import Positions, snapshot, wait_for
from projections.moments import time_of

POSITION_HEADER = "X-Log-Position"
MINIMUM_HEADER = "X-Min-Position"


class Store(Protocol):
    """The part of the object store that answers readers; `infra.runtime.objects.ObjectStore` implements it."""

    async def ready(self) -> bool: ...
    async def stat(self, key: str) -> Any: ...
    def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]: ...
    async def presign_get(self, key: str, expires_s: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of every app."""

    requests_per_minute: int
    rates: Mapping[Kind, int] = field(default_factory=dict)
    trusted_proxies: tuple[Network, ...] = ()
    metrics_token: str = ""

    def per_minute(self, kind: Kind) -> int:
        """Return the limit of a class of endpoints; `requests_per_minute` is that of all without one of their own."""
        return self.rates.get(kind, self.requests_per_minute)


@dataclass(frozen=True, kw_only=True)
class Services:
    """Parts of an app that reads projections: the database's pool, the object store, and time and ids for a request."""

    pool: Any
    store: Store
    context: Callable[[], Context]


Minimum = Annotated[Line | None, Header(alias=MINIMUM_HEADER, description="Answer from at least this position of the log.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Items on a page.")]
Cursor = Annotated[Line | None, Query(max_length=200, description="`next` of the page before.")]


@asynccontextmanager
async def reading(
    given: Services, response: Response, projection: str, minimum: str | None = None
) -> AsyncIterator[AsyncConnection[Any]]:
    """Yield a connection whose reads all see one state, and put that state's position into the answer.

    Raises Retryable when the projection does not reach `minimum` within two seconds.
    """
    if minimum is not None:
        wanted = Positions.parse(minimum)
        if not await wait_for(given.pool, projection, wanted):
            raise Retryable(f"{projection} has not read the log up to {minimum} yet; try again")
    async with given.pool.connection() as connection:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        try:
            async with connection.transaction():
                response.headers[POSITION_HEADER] = (await snapshot(connection, projection)).header()
                yield connection
        finally:
            await connection.set_isolation_level(None)


def cursor_of(time: datetime, id_: str) -> str:
    """Return an opaque cursor for the item before the next page."""
    return base64.urlsafe_b64encode(json.dumps([time.isoformat(), id_]).encode()).decode().rstrip("=")


def after_of(cursor: str | None) -> tuple[datetime, str] | None:
    """Read a cursor. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        time, id_ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(id_, str) or line_fault(id_):
            raise ValueError(id_)
        return time_of(time, "cursor"), id_
    except (ValueError, TypeError, RecursionError, InvalidRequest) as error:
        raise InvalidRequest("cursor must be `next` of the previous page") from error
