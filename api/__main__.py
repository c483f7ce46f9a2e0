"""`python -m api public|admin|worker|telemetry`: opens the services and serves one app with uvicorn."""

import asyncio
import os
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import uvicorn
import uvloop
from fastapi import FastAPI
from psycopg import Error as PostgresError

from api.app import create_admin, create_public, create_telemetry, create_worker
from api.deps import Options, Services
from api.live.hub import LISTENERS_MAX, Hub
from api.telemetry.connections import end_slow
from api.telemetry.ingest import OBSERVED, OPEN, Ingest
from api.telemetry.insights import Snapshots
from api.telemetry.intake import Intake
from api.telemetry.limiter import Addresses, Limiter
from api.telemetry.protocol import protocol_for
from api.telemetry.reading import Limits, StoredReadings
from api.worker.access import Access
from api.worker.decisions import Decisions
from api.worker.receiving import Shelf
from api.worker.services import Options as WorkerOptions
from api.worker.services import WorkerServices
from events.errors import KinologError, Retryable
from events.topics import TELEMETRY
from infra.engine.endpoints import resolve
from infra.runtime import kafka, logs, metrics, postgres
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.memory import collect_rarely, keep_freed_memory
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from infra.runtime.tokens import admin_token_path, ensure_admin_token, find_admin_token
from infra.runtime.worker_keys import KeyTable
from producers.appender import Appender
from projections import jobs
from projections.insights import Caps
from projections.jobs import Job
from projections.positions import Positions, wait_for

REQUESTS_MAX = 500
"""More requests than this at once are refused with 503."""
CONNECTIONS_MAX = 5_000
"""The same for telemetry: its requests are small, and a connection without one counts, too. And for workers, who wait."""
LIVE_IDLE_MS = 250
LOG_WAIT_S = 3.0
"""Reporting clients give up after 4 s; they are to hear that the log is away before."""

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Prometheus:
    """Tells Prometheus about requests; labels stay few, whatever methods clients make up."""

    def began(self, app: str) -> None:
        """Count a request that is being answered."""
        metrics.HTTP_IN_FLIGHT.labels(app).inc()

    def ended(self, app: str, method: str, route: str, status: int, seconds: float, body_bytes: int) -> None:
        """Count an answered request."""
        method = method if method in METHODS else "other"
        metrics.HTTP_IN_FLIGHT.labels(app).dec()
        metrics.HTTP_REQUESTS.labels(app, method, route, str(status)).inc()
        metrics.HTTP_SECONDS.labels(app, method, route).observe(seconds)
        metrics.HTTP_RESPONSE_BYTES.labels(app, route).inc(body_bytes)


class HotMetrics:
    """Tells Prometheus about the hot routes: seconds at once, the counters when somebody reads them."""

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


async def serve_telemetry(settings: Settings) -> None:
    """Serve telemetry until SIGTERM. Ingest needs no database; without one there are only the last insights."""
    keep_freed_memory()
    await kafka.ensure_topics(settings, [TELEMETRY])
    appenders = [
        Appender(
            lambda: kafka.open_producer(settings),
            topic_prefix=settings.topic_prefix,
            timeout_s=LOG_WAIT_S,
            pending_max=pending_max,
            pending_max_bytes=128 * 2**20,
            observe_seconds=metrics.LOG_APPEND_SECONDS.observe,
            observe_failure=metrics.LOG_APPEND_FAILURES.inc,
        )
        for pending_max in (10_000, 200_000)
    ]
    for appender in appenders:
        await appender.start()
    single, batches = (Intake(appender.offer, time.time, new_id) for appender in appenders)
    hot = HotMetrics("telemetry")

    def missing() -> dict[str, str]:
        return {"kafka": "does not acknowledge events"} if any(appender.stuck for appender in appenders) else {}

    pool = await postgres.open_pool(settings, size_max=4, wait=False)
    caps = Caps(settings.telemetry_hardware_max, settings.telemetry_words_max)
    limits = Limits(caps, settings.telemetry_floor, settings.telemetry_samples_min)
    readings = StoredReadings(pool, limits)
    snapshots = Snapshots(readings.look, OPEN, lambda label, count: metrics.TELEMETRY_WORDS_CAPPED.labels(label).set(count))
    ingest = Ingest(
        single,
        batches,
        Limiter(settings.telemetry_requests_per_minute, settings.telemetry_burst, os.urandom(16)),
        Addresses(settings.trusted_proxies),
        snapshots,
        hot.observe,
        hot.count,
    )
    app = create_telemetry(
        ingest,
        observer=Prometheus(),
        exposition=hot.exposition,
        metrics_type=metrics.CONTENT_TYPE,
        missing=missing,
        new_id=new_id,
        readings=readings,
    )
    config = _config(app, settings.bind_host, settings.telemetry_port, limit_concurrency=CONNECTIONS_MAX, proxy_headers=False)
    config.http = protocol_for(ingest)
    server = uvicorn.Server(config)
    tasks = [
        asyncio.create_task(end_slow(server.server_state.connections), name="slow connections"),
        asyncio.create_task(snapshots.follow(), name="insights"),
    ]
    collect_rarely()
    try:
        await server.serve()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for appender in appenders:
            await appender.stop()
        await pool.close()


async def serve(settings: Settings, name: str) -> None:
    """Serve the public or the admin app until SIGTERM."""
    await kafka.ensure_topics(settings)
    pool = await postgres.open_pool(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    appender = Appender(
        lambda: kafka.open_producer(settings),
        topic_prefix=settings.topic_prefix,
        observe_seconds=metrics.LOG_APPEND_SECONDS.observe,
        observe_failure=metrics.LOG_APPEND_FAILURES.inc,
    )
    if name == "admin":
        await appender.start()
    options = Options(
        upload_max_bytes=settings.upload_max_bytes,
        upload_part_bytes=settings.upload_part_bytes,
        presign_ttl_s=settings.presign_ttl_s,
        requests_per_minute=settings.admin_requests_per_minute if name == "admin" else settings.requests_per_minute,
        media_delivery=settings.media_delivery,
        token_place=str(admin_token_path(settings)),
        token=ensure_admin_token(settings) if name == "admin" else "",
        media_origin=_origin(settings) if settings.media_delivery == "redirect" else "",
    )
    context = partial(system_context, f"kinolog/{name}")
    services = Services(name, pool, store, appender.append, context, options)
    parts: dict[str, Any] = {"observer": Prometheus(), "exposition": metrics.exposition, "metrics_type": metrics.CONTENT_TYPE}
    try:
        if name == "admin":
            await _serve_admin(settings, services, parts)
        else:
            app = create_public(services, **parts)
            config = _config(app, settings.bind_host, settings.public_port, limit_concurrency=REQUESTS_MAX)
            await uvicorn.Server(config).serve()
    finally:
        await appender.stop()
        await pool.close()


class _Server(uvicorn.Server):
    """Ends live streams when the server is to stop, which would otherwise wait for them."""

    def __init__(self, config: uvicorn.Config, live: Hub) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._live.stop()
        await super().shutdown(sockets)


async def _serve_admin(settings: Settings, services: Services, parts: dict[str, Any]) -> None:
    """Serve the admin app, with the past and with what happens now."""
    from infra.past import past_of  # the archive's Parquet takes 70 MB, which the other apps need not have

    keys = KeyTable(services.pool)
    await keys.ensure()
    access = Access(keys, services.append, services.context)
    live = Hub(lambda: open_log(settings, idle_ms=LIVE_IDLE_MS), SystemClock())
    metrics.LIVE_LISTENERS.set_function(lambda: live.listeners)
    app = create_admin(replace(services, access=access, past=past_of(settings).at, live=live), **parts)
    config = _config(app, settings.bind_host, settings.admin_port, limit_concurrency=REQUESTS_MAX + LISTENERS_MAX)
    server = _Server(config, live)
    following = asyncio.create_task(live.run(), name="live status")
    serving = asyncio.create_task(server.serve(), name="server")
    await asyncio.wait({following, serving}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True  # a reader that ends is a bug: the supervisor starts the app again
    await serving
    if following.done():
        following.result()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def serve_worker(settings: Settings) -> None:
    """Serve workers outside the cluster until SIGTERM, or until the log cannot be followed."""
    await kafka.ensure_topics(settings)
    pool = await postgres.open_pool(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    keys = KeyTable(pool)
    await keys.ensure()
    appender = Appender(
        lambda: kafka.open_producer(settings),
        topic_prefix=settings.topic_prefix,
        observe_seconds=metrics.LOG_APPEND_SECONDS.observe,
        observe_failure=metrics.LOG_APPEND_FAILURES.inc,
    )
    await appender.start()

    async def stored(job_id: str, read: Positions) -> Job | None:
        if not await wait_for(pool, "jobs", read):
            raise Retryable("the projection of jobs has not read the log yet; try again")
        async with pool.connection() as connection:
            return await jobs.by_id(connection, job_id)

    log = LogConsumer(settings, idle_ms=5000)
    decisions = Decisions(log, stored)
    await decisions.start(system_context("kinolog/worker-app").now)
    services = WorkerServices(
        Access(keys, appender.append, lambda: system_context("kinolog/worker-app")),
        decisions,
        store,
        Shelf(store),
        appender.append,
        lambda correlation_id: system_context("kinolog/worker-app", correlation_id),
        _worker_options(settings),
    )

    async def missing() -> dict[str, str]:
        found = {"kafka": "does not acknowledge events"} if appender.stuck else {}
        try:
            await keys.changed(0.0)
        except PostgresError as error:
            found["postgres"] = f"does not answer: {type(error).__name__}"
        try:
            await store.ready()
        except KinologError as error:
            found["objects"] = str(error)
        return found

    app = create_worker(
        services, observer=Prometheus(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE, missing=missing
    )
    server = uvicorn.Server(_config(app, settings.bind_host, settings.worker_port, limit_concurrency=CONNECTIONS_MAX))
    following = asyncio.create_task(decisions.follow(), name="decisions")
    following.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve()
        if following.done():
            following.result()
    finally:
        following.cancel()
        await asyncio.gather(following, *services.tasks, return_exceptions=True)
        await log.close()
        await appender.stop()
        await pool.close()


def _worker_options(settings: Settings) -> WorkerOptions:
    directory = settings.var_dir.resolve() / f"worker-app-{settings.worker_port}"
    shutil.rmtree(directory, ignore_errors=True)  # halves of files, from the last time
    directory.mkdir(parents=True)
    return WorkerOptions(
        admin_secret=lambda: find_admin_token(settings),
        key_life=timedelta(days=settings.worker_key_days) if settings.worker_key_days else None,
        version_min=settings.worker_version_min,
        version_max=settings.worker_version_max,
        lease=timedelta(seconds=settings.lease_s),
        renew_every=timedelta(seconds=settings.lease_renew_s) / 2,
        requests_per_minute=settings.worker_requests_per_minute,
        directory=directory,
    )


def _config(app: FastAPI, host: str, port: int, *, limit_concurrency: int, proxy_headers: bool = True) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=proxy_headers,
        limit_concurrency=limit_concurrency,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        server_header=False,
    )


def _origin(settings: Settings) -> str:
    """Return the store's scheme, host and port, as browsers see them."""
    url = urlsplit(settings.s3_public_endpoint or settings.s3_endpoint)
    return f"{url.scheme}://{url.netloc}"


def main() -> None:
    """Serve the app that is named."""
    serving: dict[str, Callable[[], Coroutine[object, object, None]]] = {
        "public": lambda: serve(settings, "public"),
        "admin": lambda: serve(settings, "admin"),
        "worker": lambda: serve_worker(settings),
        "telemetry": lambda: serve_telemetry(settings),
    }
    if len(sys.argv) != 2 or sys.argv[1] not in serving:
        sys.exit(f"usage: python -m api {'|'.join(serving)}")
    settings = resolve(Settings.from_env(os.environ))
    name = sys.argv[1]
    logs.configure(settings, name)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving[name]())


if __name__ == "__main__":
    main()
