"""Both HTTP apps inside the test's own process, with parts that the test chooses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from api.access import Access
from api.admin.app import create_admin
from api.admin.live.hub import Hub
from api.health import Lacks
from api.public.app import create_public
from api.services import Options, Services, append_nothing
from api.worker.app import create_worker
from api.worker.decisions import Decisions
from api.worker.receiving import Shelf
from api.worker.services import Options as WorkerOptions
from api.worker.services import WorkerServices
from events.clock import Context
from events.envelope import Envelope, Event
from infra.runtime import metrics
from infra.runtime.clock import system_context

TOKEN = "a-token-for-tests"
OPTIONS = Options(
    upload_max_bytes=64 * 2**20,
    upload_part_bytes=5 * 2**20,
    presign_ttl_s=60,
    requests_per_minute=1_000_000,
    media_delivery="proxy",
    token=TOKEN,
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


def make(
    name: str,
    *,
    pool: Any = None,
    store: Any = None,
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]] = append_nothing,
    observer: Seen | None = None,
    live: Hub | None = None,
    **options: Any,
) -> FastAPI:
    """Return the app `public` or `admin`."""
    services = Services(name, pool, store, lambda: system_context("test"), replace(OPTIONS, **options), append, live=live)
    create = create_admin if name == "admin" else create_public
    return create(services, observer=observer or Seen(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE)


async def nothing(*_: object) -> Any:
    """Know of no job."""
    return {}


async def lack_nothing() -> Lacks:
    """Stand for services that all answer."""
    return Lacks({}, {})


def make_worker(observer: Seen | None = None, **parts: Any) -> FastAPI:
    """Return the worker app with these parts, fields of its services, and nothing else behind it."""
    options = WorkerOptions(lambda: TOKEN, None, "", "", timedelta(seconds=60), timedelta(seconds=7), 1_000_000, Path("/nowhere"))
    none: Any = None

    def context(correlation_id: str | None = None) -> Context:
        return system_context("test", correlation_id)

    access = Access(none, append_nothing, context)
    nothing_behind = WorkerServices(access, Decisions(none, nothing), none, Shelf(none), append_nothing, context, options)
    services = replace(nothing_behind, **parts)
    return create_worker(
        services, observer=observer or Seen(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE, lacks=lack_nothing
    )


@asynccontextmanager
async def client(app: Any, *, token: str | None = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the app."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://kinolog.example", headers=headers) as opened:
        yield opened
