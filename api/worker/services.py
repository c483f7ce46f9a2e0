"""Parts that the routes of the worker app receive, and the identification of workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from packaging.version import InvalidVersion, Version

from api import services as common
from api.access import Access, Denied
from api.addresses import UNKNOWN
from api.callers import called_by
from api.problems import problem
from api.refusals import Refusal
from api.worker.decisions import Decisions
from api.worker.receiving import Shelf
from events.clock import Context
from events.envelope import Envelope, Event
from events.media import ObjectRef
from events.workers import WorkerRequestRefused
from producers.keys import Key
from producers.workers import worker_event

KEY_HEADER = "X-Worker-API-Key"
_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="The worker's key; X-Worker-API-Key has it as well.")


class Store(Protocol):
    """The part of the object store that the worker app uses; `infra.runtime.objects.ObjectStore` implements it."""

    async def ready(self) -> bool: ...
    async def stat(self, key: str) -> Any: ...
    async def under(self, prefix: str) -> Sequence[Any]: ...
    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef: ...
    def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Settings of the worker app. `admin_secret` returns an empty text when registration requires a join token."""

    admin_secret: Callable[[], str]
    key_life: timedelta | None
    version_min: str
    version_max: str
    lease: timedelta
    renew_every: timedelta
    directory: Path


@dataclass(frozen=True)
class Services:
    """All parts that the routes use.

    `unpacking` limits the archives unpacked at once; the others wait, as files on disk. `renewed` has the time of the last
    renewal per claim; `abandoned` the answers to claims whose worker hung up.
    """

    access: Access
    decisions: Decisions
    store: Store
    shelf: Shelf
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]]
    context: Callable[[str | None], Context]
    options: Options
    renewed: dict[tuple[str, int], float] = field(default_factory=dict)
    abandoned: "dict[str, asyncio.Future[Envelope[Event]]]" = field(default_factory=dict)
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


async def services(request: Request) -> Services:
    """Return the app's services."""
    return cast(Services, request.app.state.services)


Given = Annotated[Services, Depends(services)]


def address_of(request: Request) -> str:
    """Return the client's address."""
    return request.client.host if request.client else UNKNOWN


async def worker(
    request: Request, given: Given, presented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
) -> Key:
    """Return the key that the request presents. Raises Denied."""
    text = request.headers.get(KEY_HEADER) or (presented.credentials if presented is not None else "")
    if not text:
        raise Denied("no_key", f"send `{KEY_HEADER}: KEY` or `Authorization: Bearer KEY`")
    key = await given.access.worker(text, address_of(request))
    request.state.who = (key.worker_id, key.key_id)
    called_by(f"worker:{key.worker_id}")
    return key


Worker = Annotated[Key, Depends(worker)]


async def denied(request: Request, error: Exception) -> Response:
    """Answer a refused key; note its owner and the reason for the record of refusals."""
    assert isinstance(error, Denied)
    request.state.refusal = error.reason
    if error.key is not None:
        request.state.who = (error.key.worker_id, error.key.key_id)
    return problem(error.status_code, error.detail, headers=dict(error.headers or {}))


def refused(context: Context, refusal: Refusal, count: int) -> Envelope[Event]:
    """Return the event about refused requests of a worker. Pure."""
    worker_id, key_id = refusal.who or (UNKNOWN, None)
    event = WorkerRequestRefused(
        worker_id=worker_id, key_id=key_id, route=refusal.route, status=refusal.status, reason=refusal.reason, count=count
    )
    return worker_event(context, event)


def version_ok(version: str, options: Options) -> bool:
    """Return whether workers of this version may have jobs. Pure."""
    try:
        found = Version(version)
    except InvalidVersion:
        return False
    lowest, highest = options.version_min, options.version_max
    return (not lowest or found >= Version(lowest)) and (not highest or found <= Version(highest))


def required_version(options: Options) -> str:
    """Return the allowed versions, for a person. Pure."""
    return f"{options.version_min or 'any'} to {options.version_max or 'any'}"
