"""Both HTTP apps inside the test's own process, with parts that the test chooses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from api.access import Access
from api.addresses import Network
from api.admin import services as admin
from api.admin.app import create_admin
from api.admin.live.hub import Hub
from api.health import Lacks
from api.identity import Doors
from api.login.household import Household
from api.public import services as public
from api.public.app import create_public
from api.public.tally import Tally
from api.refusals import Refusals, access_refused
from api.worker import services as worker
from api.worker.app import MISTAKES, create_worker
from api.worker.decisions import Decisions
from api.worker.receiving import Shelf
from events.access import AccessRefused
from events.clock import Context
from events.envelope import Envelope, Event
from events.workers import WorkerRequestRefused
from infra.runtime import metrics
from infra.runtime.clock import system_context
from infra.runtime.viewers import Viewers
from projections.people.directory import Directory
from tests.support.people import MemoryAccounts
from tests.support.people import home as household_of

TOKEN = "a-token-for-tests"
ADMIN = admin.Options(requests_per_minute=1_000_000, presign_ttl_s=60, upload_max_bytes=64 * 2**20, upload_part_bytes=5 * 2**20)
PUBLIC = public.Options(
    requests_per_minute=1_000_000,
    rates={"media": 1_000_000},
    media_delivery="proxy",
    presign_ttl_s=60,
    private_media_ttl_s=3600,
)


@dataclass
class Seen:
    """An observer that remembers (app, method, route, status, bytes)."""

    requests: list[tuple[str, str, str, int, int]] = field(default_factory=list)
    open: int = 0

    def began(self, app: str) -> None:
        """Count it."""
        self.open += 1

    def ended(self, app: str, method: str, route: str, status: int, seconds: float, body_bytes: int) -> None:
        """Remember it."""
        assert seconds >= 0
        self.open -= 1
        self.requests.append((app, method, route, status, body_bytes))


async def nothing(*_: object) -> Any:
    """Know of no job."""
    return {}


async def refuse(envelopes: Sequence[Envelope[Event]] = (), *_: object) -> Any:
    """Fail: a test that appends, or asks the log, brings its own. Events about refused requests are let go."""
    if not envelopes or not all(isinstance(envelope.data, AccessRefused | WorkerRequestRefused) for envelope in envelopes):
        raise AssertionError("this test has no log")


def refusals_of(app: str, append: Any = refuse) -> Refusals:
    """Return what records an app's refusals."""
    return Refusals(append, lambda: system_context("test"), admin.unknown_client, partial(access_refused, app))


def make(name: str, **parts: Any) -> FastAPI:
    """Return the app `public` or `admin`, with these parts."""
    return make_admin(**parts) if name == "admin" else make_public(**parts)


async def media_key(day: date) -> bytes:
    """Return the key of a day's signed paths."""
    return day.isoformat().encode()


def make_public(
    *,
    pool: Any = None,
    store: Any = None,
    append: Any = refuse,
    observer: Seen | None = None,
    doors: Doors | None = None,
    context: Callable[[], Context] = lambda: system_context("test"),
    **options: Any,
) -> FastAPI:
    """Return the public app with these parts."""
    services = public.Services(
        pool=pool,
        store=store,
        context=context,
        options=replace(PUBLIC, **options),
        doors=doors or Doors(Directory(), MemoryAccounts(), context, TOKEN),
        media_key=media_key,
        append=append,
        viewers=Viewers(pool),
        stream_key=media_key,
        tally=Tally("test", media_key, append, context),
    )
    refusals = refusals_of("public", append)
    return create_public(
        services, refusals, observer=observer or Seen(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE
    )


def make_admin(
    *,
    pool: Any = None,
    store: Any = None,
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]] = refuse,
    log_answers: Callable[[], Awaitable[Any]] = nothing,
    observer: Seen | None = None,
    live: Hub | None = None,
    settings: Any = None,
    home: Household | None = None,
    past: Any = None,
    clock: Callable[[], Context] = lambda: system_context("test"),
    endpoints: Any = None,
    check_url: Callable[[str], Awaitable[str]] = nothing,
    **options: Any,
) -> FastAPI:
    """Return the admin app with these parts."""

    def context(correlation_id: str | None = None) -> Context:
        return replace(clock(), correlation_id=correlation_id)

    none: Any = None
    home = home or household_of(append, context, bootstrap=TOKEN)
    services = admin.Services(
        pool=pool,
        store=store,
        context=context,
        options=replace(ADMIN, **options),
        append=append,
        log_answers=log_answers,
        access=Access(none, append, context),
        live=live or Hub(none, none),
        past=past,
        settings=settings,
        people=home.people,
        ways=home.ways,
        viewers=Viewers(pool),
        endpoints=endpoints,
        check_url=check_url,
    )
    refusals = refusals_of("admin", append)
    return create_admin(
        services, refusals, observer=observer or Seen(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE
    )


async def lack_nothing() -> Lacks:
    """Stand for services that all answer."""
    return Lacks({}, {})


def make_worker(
    observer: Seen | None = None,
    *,
    requests_per_minute: int = 1_000_000,
    trusted_proxies: tuple[Network, ...] = (),
    **parts: Any,
) -> FastAPI:
    """Return the worker app with these parts, fields of its services, and nothing else behind it."""
    options = worker.Options(
        requests_per_minute=requests_per_minute,
        trusted_proxies=trusted_proxies,
        admin_secret=lambda: TOKEN,
        key_life=None,
        version_min="",
        version_max="",
        lease=timedelta(seconds=60),
        renew_every=timedelta(seconds=7),
        directory=Path("/nowhere"),
    )
    none: Any = None

    def context(correlation_id: str | None = None) -> Context:
        return system_context("test", correlation_id)

    access = Access(none, refuse, context)
    nothing_behind = worker.Services(access, Decisions(none, nothing), none, Shelf(none), refuse, context, options)
    services = replace(nothing_behind, **parts)
    refusals = Refusals(services.append, context, admin.unknown_client, worker.refused, statuses=MISTAKES)
    return create_worker(
        services,
        refusals,
        observer=observer or Seen(),
        exposition=metrics.exposition,
        metrics_type=metrics.CONTENT_TYPE,
        lacks=lack_nothing,
    )


@asynccontextmanager
async def client(app: Any, *, token: str | None = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the app."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://kinolog.example", headers=headers) as opened:
        yield opened
