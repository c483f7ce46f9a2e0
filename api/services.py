"""What routes are given: services opened by the composition root, and small readers of a request."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

from fastapi import Depends, Header, Query, Request, Response
from psycopg import AsyncConnection, IsolationLevel

from api.addresses import Network
from api.admin.locks import Locks
from api.limits import Attempts
from api.public.renderings import Renderings
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import InvalidRequest, Retryable
from events.text import Line, line_fault
from projections.folding.positions import Positions, newest, snapshot, wait_for
from projections.moments import time_of
from projections.telemetry.insights import UNCAPPED, Caps

if TYPE_CHECKING:  # the public app has neither
    from api.access import Access
    from api.admin.live.hub import Hub

POSITION_HEADER = "X-Log-Position"
MINIMUM_HEADER = "X-Min-Position"
TOKENS_PER_MINUTE = 300
"""Wrong administrator's tokens per address: to compare one costs nothing, so that a page with an old one may ask often."""


class Store(Protocol):
    """The part of the object store that the apps need; `infra.runtime.objects.ObjectStore` has it."""

    async def ready(self) -> bool: ...
    async def stat(self, key: str) -> Any: ...
    def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]: ...
    async def presign_get(self, key: str, expires_s: int) -> str: ...
    async def presign_put(self, key: str, expires_s: int) -> str: ...
    async def presign_part(self, key: str, multipart_id: str, number: int, expires_s: int) -> str: ...
    async def create_multipart(self, key: str, content_type: str) -> str: ...
    async def upload_part(self, key: str, multipart_id: str, number: int, data: bytes) -> str: ...
    async def list_parts(self, key: str, multipart_id: str) -> list[tuple[int, str, int]]: ...
    async def abort_multipart(self, key: str, multipart_id: str) -> None: ...
    async def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]]) -> None: ...


@dataclass(frozen=True)
class Options:
    """Settings of the public and the admin app. Times in seconds, sizes in bytes; what follows `metrics_token` is the admin app's.

    `media_origin` is where the store is for browsers when `media_delivery` is `redirect`, empty otherwise. `public_url` is the
    public app's address for people; empty: as each request has it.
    """

    requests_per_minute: int
    media_delivery: str
    presign_ttl_s: int
    media_origin: str = ""
    public_url: str = ""
    trusted_proxies: tuple[Network, ...] = ()
    metrics_token: str = ""
    upload_max_bytes: int = 0
    upload_part_bytes: int = 0
    token: str = ""
    caps: Caps = UNCAPPED
    pools: tuple[str, ...] = ()


async def append_nothing(envelopes: Sequence[Envelope[Event]]) -> Sequence[Any]:
    """Stand where an app that only reads has no log."""
    raise AssertionError(f"this app appends nothing: {envelopes}")


async def ask_nothing() -> None:
    """Stand where an app that only reads would ask whether the log answers."""


@dataclass(frozen=True)
class Services:
    """Everything that the routes of the public and the admin app reach; what has a default is the admin app's."""

    name: str
    pool: Any
    store: Store
    context: Callable[[], Context]
    options: Options
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]] = append_nothing
    log_answers: Callable[[], Awaitable[None]] = ask_nothing
    access: "Access | None" = None
    past: Callable[[str], AbstractAsyncContextManager[Any]] | None = None
    as_of: str | None = None
    live: "Hub | None" = None
    renderings: Renderings = field(default_factory=Renderings)
    attempts: Attempts = field(default_factory=lambda: Attempts(TOKENS_PER_MINUTE))
    accepted: set[tuple[str, str, int]] = field(default_factory=set)
    locks: Locks = field(default_factory=Locks)
    written: dict[tuple[str, int], int] = field(default_factory=dict)
    """Next offset of each partition that this app has appended to."""


async def services(request: Request) -> Services:
    """Return the app's services, of the moment that the request is about."""
    found = cast(Services, request.app.state.services)
    as_of = getattr(request.state, "as_of", None)
    return replace(found, as_of=as_of) if as_of else found


async def travel(
    request: Request,
    as_of: Annotated[
        Line | None,
        Query(max_length=4096, description="Answer as it was then: a time (ISO 8601), or positions as X-Log-Position has them."),
    ] = None,
) -> None:
    """Note the moment that a request is about. Raises InvalidRequest for one that would change the past."""
    if as_of and request.method not in ("GET", "HEAD"):
        raise InvalidRequest("as_of is for reading: the past cannot be changed")
    if as_of and "=" in as_of:
        Positions.parse(as_of)
    elif as_of:
        time_of(as_of, "as_of")
    request.state.as_of = as_of


Given = Annotated[Services, Depends(services)]
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
    if given.as_of is not None and given.past is not None:
        async with given.past(given.as_of) as connection:
            response.headers[POSITION_HEADER] = (await snapshot(connection, projection)).header()
            yield connection
        return
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


async def moment(given: Services, connection: AsyncConnection[Any], projection: str) -> datetime:
    """Return the time that an answer is about: now, or what `as_of` says; of positions, the newest event before them."""
    if given.as_of is None:
        return given.context().now
    if "=" in given.as_of:
        return await newest(connection, projection) or given.context().now
    return time_of(given.as_of, "as_of")


async def write(given: Services, response: Response, envelopes: Sequence[Envelope[Event]]) -> None:
    """Append events; the answer names the position from which on they can be read."""
    positions = await given.append(envelopes)
    ends = {(place.topic, place.partition): place.offset + 1 for place in positions}
    given.written.update(ends)
    response.headers[POSITION_HEADER] = Positions(ends).header()


def cursor_of(time: datetime, id_: str) -> str:
    """Return an opaque cursor for the item after which the next page begins."""
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
        raise InvalidRequest("cursor wants what `next` of the page before was") from error
