"""Composes and serves the telemetry app."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from api import health
from api.addresses import Addresses
from api.app import Prometheus, begin, finish, serve_beside, server_config
from api.callers import signing
from api.limiter import Limiter
from api.middleware import CrossOrigin, Observer
from api.refusals import Refusals, access_refused
from api.telemetry import comparing, documents
from api.telemetry.answers import Answers
from api.telemetry.ingest import OBSERVED, OPEN, HotRoutes, Ingest
from api.telemetry.insights import Snapshots
from api.telemetry.intake import Intake
from api.telemetry.protocol import protocol_for
from api.telemetry.reading import Limits, Readings, StoredReadings
from api.telemetry.services import Services
from events.pulse import Pulse
from events.topics import ACCESS, SETTINGS, TELEMETRY
from infra.runtime import kafka, metrics, postgres
from infra.runtime.appender import appender_of
from infra.runtime.client_keys import ClientKeys
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.memory import collect_rarely, keep_freed_memory
from infra.runtime.settings import Settings
from infra.settings.live import Followers, live_settings
from projections.telemetry.insights import Caps

APP = "telemetry"
REQUESTS_MAX = 5_000
"""More requests than this at once are refused with 503."""
LOG_WAIT_S = 3.0
"""Reporting clients give up after 4 s; they must learn before that the log is away."""


class IngestApp(FastAPI):
    """An app that answers its hot routes before FastAPI does any work for the others."""

    hot: HotRoutes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self.hot(scope, receive, send)

    async def cold(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer all other routes."""
        await super().__call__(scope, receive, send)


def create_telemetry(
    ingest: Ingest,
    *,
    observer: Observer,
    exposition: Callable[[], bytes],
    metrics_type: str,
    lacks: Callable[[], Awaitable[health.Lacks]],
    new_id: Callable[[], str],
    readings: Readings,
    metrics_token: str = "",
) -> IngestApp:
    """Return the app for anonymous reports of nodes. `lacks` reports the missing parts."""
    app = begin("Kinolog telemetry", "Anonymous reports of transcodes, and statistics from them.", 429, 503, kind=IngestApp)
    app.include_router(health.router(exposition, metrics_type, lacks, metrics_token=metrics_token))
    app.include_router(comparing.routes)
    _describe(app, documents.paths(), documents.schemas())
    finish(
        app,
        name=APP,
        services=Services(readings, Answers()),
        addresses=ingest.addresses,
        observer=observer,
        refusals=ingest.refusals,
        new_id=new_id,
        inside=[Middleware(CrossOrigin)],
    )
    app.hot = HotRoutes(app.cold, ingest=ingest)
    return app


def _describe(app: FastAPI, paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add routes unknown to FastAPI to its document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document["paths"] |= paths  # hot routes are answered first
        document["components"]["schemas"] |= schemas
        return document

    app.openapi = openapi  # type: ignore[method-assign]


class HotMetrics:
    """Reports the hot routes to Prometheus: seconds at once, counters when they are read."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._answers: Counter[tuple[str, int]] = Counter()
        self._events: Counter[str] = Counter()
        self._seconds = {path: metrics.HTTP_SECONDS.labels(name, method, path).observe for path, method in OBSERVED.items()}

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers[path, status] += 1
        self._seconds[path](seconds)

    def count(self, accepted: int, refused: int) -> None:
        """Count events."""
        self._events["accepted"] += accepted
        self._events["refused"] += refused

    def exposition(self) -> bytes:
        """Return every metric, counters included."""
        for (path, status), count in self._answers.items():
            metrics.HTTP_REQUESTS.labels(self._name, OBSERVED[path], path, str(status)).inc(count)
        for result, count in self._events.items():
            metrics.TELEMETRY_EVENTS.labels(result).inc(count)
        self._answers.clear()
        self._events.clear()
        return metrics.exposition()


async def serve(settings: Settings, pulse: Callable[[str], Pulse]) -> None:
    """Serve telemetry until SIGTERM. Ingest needs no database; without one only the last insights are shown."""
    keep_freed_memory()
    await kafka.ensure_topics(settings, [TELEMETRY, SETTINGS, ACCESS])
    async with live_settings(settings, pulse) as followers:
        await _serve(followers, pulse)


async def _serve(followers: Followers, pulse: Callable[[str], Pulse]) -> None:
    settings = followers.live.settings
    appenders = [
        appender_of(settings, timeout_s=LOG_WAIT_S, pending_max=pending_max, pending_max_bytes=128 * 2**20)
        for pending_max in (10_000, 200_000)
    ]
    for appender in appenders:
        await appender.start()
    single, batches = (Intake(appender.offer, time.time, new_id) for appender in appenders)
    hot = HotMetrics(APP)

    async def lacks() -> health.Lacks:
        return health.Lacks({}, await health.log_lacks(*(appender.ask for appender in appenders)))

    pool = await postgres.open_pool(settings, size_max=4, wait=False)
    clients = ClientKeys(pool, SystemClock(), period_days=settings.client_key_days)
    context = partial(system_context, "kinolog/telemetry")
    refusals = Refusals(signing(appenders[0].append, APP), context, clients.hash, partial(access_refused, APP))
    caps = Caps(settings.telemetry_hardware_max, settings.telemetry_words_max)
    limits = Limits(caps, settings.telemetry_floor, settings.telemetry_samples_min)
    readings = StoredReadings(pool, limits)
    snapshots = Snapshots(readings.look, OPEN, lambda label, count: metrics.TELEMETRY_WORDS_CAPPED.labels(label).set(count))
    limiter = Limiter(settings.telemetry_requests_per_minute, settings.telemetry_burst, os.urandom(16))
    followers.live.use(lambda changed: limiter.use(changed.telemetry_requests_per_minute, changed.telemetry_burst))
    ingest = Ingest(
        single,
        batches,
        limiter,
        Addresses(settings.trusted_proxies),
        snapshots,
        hot.observe,
        hot.count,
        refusals,
    )
    app = create_telemetry(
        ingest,
        observer=Prometheus(),
        exposition=hot.exposition,
        metrics_type=metrics.CONTENT_TYPE,
        lacks=lacks,
        new_id=new_id,
        readings=readings,
        metrics_token=settings.metrics_token.get_secret_value(),
    )
    app.state.notes = followers.notes
    config = server_config(app, settings, settings.telemetry_port, requests_max=REQUESTS_MAX, kind=protocol_for(ingest))
    server = uvicorn.Server(config)
    following = asyncio.create_task(snapshots.follow(pulse("insights")), name="insights")
    collect_rarely()
    try:
        await serve_beside(server, followers.task)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        for appender in appenders:
            await appender.stop()
        await pool.close()
