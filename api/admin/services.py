"""Parts that the routes of the admin app receive, and their ways to read the past and to write to the log."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, Query, Request, Response
from psycopg import AsyncConnection

from api import services as common
from api.access import Access
from api.admin.live.hub import Hub
from api.admin.locks import Locks
from api.login.people import People
from api.login.ways import Ways
from api.services import POSITION_HEADER
from events.envelope import Envelope, Event
from events.errors import InvalidRequest
from events.text import Line
from events.videos import Visibility
from producers.webhooks import Kept
from projections.folding.positions import Positions, newest, snapshot
from projections.moments import time_of
from projections.settings import Desk
from projections.telemetry.insights import UNCAPPED, Caps


class Store(common.Store, Protocol):
    """The part of the object store that uploads need as well; `infra.runtime.objects.ObjectStore` implements it."""

    async def presign_part(self, key: str, multipart_id: str, number: int, expires_s: int) -> str: ...
    async def create_multipart(self, key: str, content_type: str) -> str: ...
    async def upload_part(self, key: str, multipart_id: str, number: int, data: bytes) -> str: ...
    async def list_parts(self, key: str, multipart_id: str) -> list[tuple[int, str, int]]: ...
    async def abort_multipart(self, key: str, multipart_id: str) -> None: ...
    async def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Settings of the admin app. Times in seconds, sizes in bytes."""

    presign_ttl_s: int
    upload_max_bytes: int
    upload_part_bytes: int
    upload_visibility: Visibility = "public"
    pools: tuple[str, ...] = ()
    caps: Caps = UNCAPPED


class Viewers(Protocol):
    """The people behind viewers, and their keys; `infra.runtime.viewers.Viewers` implements it."""

    async def users(self, viewer_ids: Collection[str]) -> dict[str, str]: ...
    async def viewer_of(self, user_id: str) -> str | None: ...
    async def forget(self, viewer_id: str) -> bool: ...


class Endpoints(Protocol):
    """The sealed part of endpoints outside; `infra.runtime.endpoints.EndpointTable` implements it."""

    async def keep(self, endpoint_id: str, kept: Kept) -> str: ...
    async def find(self, endpoint_id: str, fingerprint: str) -> Kept | None: ...
    async def forget(self, endpoint_id: str, *but: str) -> None: ...


async def unknown_client(address: str) -> None:
    """Keep nothing of an address."""


@dataclass(frozen=True, kw_only=True)
class Services(common.Services):
    """Parts of the admin app. `log_answers` raises when the log does not answer; `past` opens read models of a moment.
    `client_of` returns the keyed hash of an address.
    `check_url` returns the origin of an address outside, or raises InvalidRequest."""

    options: Options
    store: Store
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]]
    log_answers: Callable[[], Awaitable[Any]]
    access: Access
    live: Hub
    settings: Desk
    past: Callable[[str], AbstractAsyncContextManager[AsyncConnection[Any]]]
    people: People
    ways: Ways
    viewers: Viewers
    endpoints: Endpoints
    check_url: Callable[[str], Awaitable[str]]
    client_of: Callable[[str], Awaitable[str | None]] = unknown_client
    as_of: str | None = None
    locks: Locks = field(default_factory=Locks)
    written: dict[tuple[str, int], int] = field(default_factory=dict)
    """Next offset of each partition that this app has appended to."""


async def services(request: Request) -> Services:
    """Return the app's services, for the moment of the request."""
    found = cast(Services, request.app.state.services)
    as_of = getattr(request.state, "as_of", None)
    return replace(found, as_of=as_of) if as_of else found


Given = Annotated[Services, Depends(services)]


async def travel(
    request: Request,
    as_of: Annotated[
        Line | None,
        Query(max_length=4096, description="Answer as it was then: a time (ISO 8601), or positions as X-Log-Position has them."),
    ] = None,
) -> None:
    """Note the moment that a request is about. Raises InvalidRequest for a request that would change the past."""
    if as_of and request.method not in ("GET", "HEAD"):
        raise InvalidRequest("as_of is for reading: the past cannot be changed")
    if as_of and "=" in as_of:
        Positions.parse(as_of)
    elif as_of:
        time_of(as_of, "as_of")
    request.state.as_of = as_of


@asynccontextmanager
async def reading(
    given: Services, response: Response, projection: str, minimum: str | None = None
) -> AsyncIterator[AsyncConnection[Any]]:
    """Yield a connection as `api.services.reading` does, for now or for the moment of the request."""
    if given.as_of is None:
        async with common.reading(given, response, projection, minimum) as connection:
            yield connection
        return
    async with given.past(given.as_of) as connection:
        response.headers[POSITION_HEADER] = (await snapshot(connection, projection)).header()
        yield connection


async def moment(given: Services, connection: AsyncConnection[Any], projection: str) -> datetime:
    """Return the time that an answer is about: now, or the time of `as_of`; for positions, that of the newest event before them."""
    if given.as_of is None:
        return given.context().now
    if "=" in given.as_of:
        return await newest(connection, projection) or given.context().now
    return time_of(given.as_of, "as_of")


async def write(given: Services, response: Response, envelopes: Sequence[Envelope[Event]]) -> None:
    """Append events; the answer names the position from which on they can be read."""
    positions = await given.append(envelopes)
    ends = {(position.topic, position.partition): position.offset + 1 for position in positions}
    given.written.update(ends)
    response.headers[POSITION_HEADER] = Positions(ends).header()
