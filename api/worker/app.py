"""Composes and serves the worker app."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from api import health
from api.access import Access, Denied
from api.addresses import Addresses
from api.app import Prometheus, begin, finish, rates_of, serve_beside, server_config
from api.callers import signing
from api.middleware import Observer
from api.refusals import Refusals
from api.worker import claims, objects, registration
from api.worker import jobs as held
from api.worker.decisions import Decisions
from api.worker.receiving import ARCHIVE_BYTES_MAX, Shelf
from api.worker.services import Options, Services, denied, refused
from events.errors import KinologError, Retryable
from events.pulse import Pulse
from infra.runtime import kafka, metrics, postgres
from infra.runtime.appender import appender_of
from infra.runtime.client_keys import ClientKeys
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.memory import collect_rarely
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from infra.runtime.tokens import find_admin_token
from infra.runtime.worker_keys import KeyTable
from infra.settings.live import Followers, live_settings
from projections import jobs
from projections.folding.positions import Positions, wait_for
from projections.jobs import Job

STORED_S = 5.0
"""Maximum time for looking up, in the database, a claim that the app does not remember."""
REQUESTS_MAX = 5_000
"""Workers wait for answers to their claims; more concurrent requests than this are refused with 503."""
MISTAKES = range(400, 500)
"""Recorded of workers, which are programs: each of these is an attack or a fault."""


def create_worker(
    services: Services,
    refusals: Refusals,
    *,
    observer: Observer,
    exposition: Callable[[], bytes],
    metrics_type: str,
    lacks: Callable[[], Awaitable[health.Lacks]],
) -> FastAPI:
    """Return the app for workers outside the cluster. `lacks` reports the missing parts."""
    app = begin("Kinolog workers", "Jobs for workers outside the cluster.", 429, 503, kind=FastAPI)
    paths = ("/metrics", "/api/metrics")
    token = services.options.metrics_token
    app.include_router(health.router(exposition, metrics_type, lacks, metrics_token=token, metrics_paths=paths))
    for each in (registration, claims, objects, held):
        app.include_router(each.routes)
    app.add_exception_handler(Denied, denied)
    return finish(
        app,
        name="worker",
        services=services,
        addresses=Addresses(services.options.trusted_proxies),
        observer=observer,
        refusals=refusals,
        new_id=lambda: services.context(None).new_id(),
        per_minute=rates_of(app),
        file_max_bytes=lambda: ARCHIVE_BYTES_MAX,
    )


async def serve(settings: Settings, pulse: Callable[[str], Pulse]) -> None:
    """Serve workers outside the cluster until SIGTERM, or until the log cannot be followed."""
    collect_rarely()
    await kafka.ensure_topics(settings)
    async with live_settings(settings, pulse) as followers:
        await _serve(followers, pulse)


async def _stored(pool: postgres.Pool, job_id: str, read: Positions) -> Job | None:
    """Return a job as the projection has it at a position. Raises Retryable when that is not there soon."""

    async def look() -> Job | None:
        if not await wait_for(pool, "jobs", read):
            raise Retryable("the projection of jobs has not read the log yet; try again")
        async with pool.connection() as connection:
            return await jobs.by_id(connection, job_id)

    return await postgres.within(STORED_S, look())


async def _serve(followers: Followers, pulse: Callable[[str], Pulse]) -> None:
    settings = followers.live.settings
    pool = await postgres.open_pool(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    keys = KeyTable(pool)
    await keys.ensure()
    appender = appender_of(settings)
    await appender.start()

    append, context = signing(appender.append, "worker-app"), partial(system_context, "kinolog/worker-app")
    access = Access(keys, append, context)
    log = LogConsumer(settings, idle_ms=5000)
    decisions = Decisions(log, partial(_stored, pool), access.forget)
    await decisions.start(context().now)
    services = Services(
        access,
        decisions,
        store,
        Shelf(store),
        append,
        context,
        options_of(settings),
        unpacking=asyncio.Semaphore(settings.worker_archives_max),
    )

    async def lacks() -> health.Lacks:
        found: dict[str, str] = {}
        try:
            await keys.changed(0.0)
        except Retryable as error:
            found["postgres"] = str(error)
        try:
            await store.ready()
        except KinologError as error:
            found["objects"] = str(error)
        return health.Lacks(found, found | await health.log_lacks(appender.ask))

    clients = ClientKeys(pool, SystemClock(), period_days=settings.client_key_days)
    refusals = Refusals(append, context, clients.hash, refused, statuses=MISTAKES)
    app = create_worker(
        services, refusals, observer=Prometheus(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE, lacks=lacks
    )

    def use(changed: Settings) -> None:
        app.state.services = replace(services, options=options_of(changed))

    followers.live.use(use)
    app.state.notes = followers.notes
    _empty(services.options.directory)
    server = uvicorn.Server(server_config(app, settings, settings.worker_port, requests_max=REQUESTS_MAX))
    following = [
        asyncio.create_task(decisions.follow(pulse("decisions")), name="decisions"),
        asyncio.create_task(access.follow(pulse("keys compared"), pulse("revocations")), name="keys"),
    ]
    try:
        await serve_beside(server, *following, followers.task)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, *services.tasks, return_exceptions=True)
        await log.close()
        await appender.stop()
        await pool.close()


def _empty(directory: Path) -> None:
    """Make a folder without the partial files of the last run."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def options_of(settings: Settings) -> Options:
    """Return the app's options under these settings."""
    return Options(
        admin_secret=lambda: find_admin_token(settings),
        key_life=timedelta(days=settings.worker_key_days) if settings.worker_key_days else None,
        version_min=settings.worker_version_min,
        version_max=settings.worker_version_max,
        lease=timedelta(seconds=settings.lease_s),
        renew_every=timedelta(seconds=settings.lease_renew_s) / 2,
        requests_per_minute=settings.worker_requests_per_minute,
        directory=settings.var_dir.resolve() / f"worker-app-{settings.worker_port}",
        trusted_proxies=settings.trusted_proxies,
        metrics_token=settings.metrics_token.get_secret_value(),
    )
