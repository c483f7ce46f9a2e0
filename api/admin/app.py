"""Composes and serves the admin app."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Annotated, cast

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.middleware import Middleware

from api import health
from api.access import Access
from api.addresses import Addresses
from api.admin import (
    analytics,
    audit,
    failures,
    hosts,
    insights,
    jobs,
    keys,
    library,
    pages,
    uploads,
    users,
    videos,
    viewers,
    webhooks,
    workers,
)
from api.admin import settings as changes
from api.admin.live import routes as live
from api.admin.live.hub import LISTENERS_MAX, Hub
from api.admin.services import Options, Services, travel
from api.app import REQUESTS_MAX, Prometheus, begin, finish, rates, rates_of, serve_beside, server_config
from api.callers import NOBODY, called_by, signing
from api.identity import READING, address_of, check_not_foreign, check_right, check_session
from api.login import accounts as logins
from api.login import routes as ways
from api.login.household import Terms, household
from api.middleware import NeverKept, Observer
from api.refusals import Refusals, access_refused
from api.rights import ROUTES, doors
from events.people import Right
from events.pulse import Pulse
from events.topics import PEOPLE
from infra.history.past import past_of
from infra.runtime import kafka, metrics, postgres
from infra.runtime.appender import appender_of
from infra.runtime.client_keys import ClientKeys
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.endpoints import EndpointTable
from infra.runtime.log_consumer import open_log
from infra.runtime.memory import collect_rarely
from infra.runtime.objects import ObjectStore
from infra.runtime.outside import Outside
from infra.runtime.people.accounts import AccountTables
from infra.runtime.people.asking import Asking
from infra.runtime.people.factors import FactorTables
from infra.runtime.sealing import ensure_seal
from infra.runtime.settings import Settings
from infra.runtime.tokens import accepted_admin_token
from infra.runtime.viewers import Viewers
from infra.runtime.worker_keys import KeyTable
from infra.settings.desk import SettingsDesk
from infra.settings.live import Followers, live_settings
from producers.passwords import Cost
from projections.folding.follower import Followed
from projections.people.directory import Directory, evolve
from projections.telemetry.insights import Caps

FORM_FIELDS_BYTES = 2**20
"""Bytes that a form may have besides its file."""
LIVE_IDLE_MS = 250
APP = "admin"
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token of `kinolog tokens`, or that of var/tokens/admin. A browser sends the cookie of its session.",
)


def create_admin(
    services: Services, refusals: Refusals, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str
) -> FastAPI:
    """Return the administrators' app: uploads, videos, jobs, workers. Every route but health requires the token."""
    app = begin("Kinolog admin", "Uploads, videos, jobs, workers.", 401, 403, 429, 503, kind=FastAPI)
    options = services.options
    lacks = health.stored_in(services, services.log_answers)
    app.include_router(health.router(exposition, metrics_type, lacks, metrics_token=options.metrics_token))
    about_work = (uploads, videos, jobs, workers, failures, insights, live, keys)
    for each in (*about_work, audit, users, changes, analytics, hosts, library, viewers, webhooks):
        app.include_router(each.routes, dependencies=[Depends(authorised), Depends(travel)])
    for each in (logins, ways):
        app.include_router(each.routes, dependencies=[Depends(authorised)])
    app.include_router(pages.routes)
    doors(app.routes)
    return finish(
        app,
        name="admin",
        services=services,
        addresses=Addresses(options.trusted_proxies),
        observer=observer,
        new_id=lambda: services.context().new_id(),
        refusals=refusals,
        inside=[Middleware(NeverKept)],
        per_minute=rates_of(app),
        file_max_bytes=lambda: app.state.services.options.upload_max_bytes + FORM_FIELDS_BYTES,
    )


async def authorised(request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Raise 401 without a good token or session, 403 without the route's right, 429 after too many wrong secrets."""
    services: Services = request.app.state.services
    door = ROUTES[f"{request.method} {request.scope['route'].path}"]
    address = address_of(request)
    if door == "open":
        check_not_foreign(request)
        called_by(NOBODY, await services.client_of(address))
        return
    identity = await services.people.identify(request)
    request.state.who = identity.actor
    called_by(identity.actor, None if request.method in READING else await services.client_of(address))
    if door == "session":
        check_session(identity)
    else:
        check_right(identity, cast(Right, door))


class _Server(uvicorn.Server):
    """Ends live streams at shutdown; the server would wait for them otherwise."""

    def __init__(self, config: uvicorn.Config, live: Hub) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._live.stop()
        await super().shutdown(sockets)


async def serve(settings: Settings, pulse: Callable[[str], Pulse]) -> None:
    """Serve administrators until SIGTERM, with past states and live status."""
    collect_rarely()
    await kafka.ensure_topics(settings)
    directory = Followed((PEOPLE,), Directory(), evolve)
    async with live_settings(settings, pulse, directory) as followers:
        await _serve(followers, directory.state, pulse)


async def _serve(followers: Followers, directory: Directory, pulse: Callable[[str], Pulse]) -> None:
    settings = followers.live.settings
    pool = await postgres.open_pool(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    appender = appender_of(settings)
    await appender.start()
    key_table = KeyTable(pool)
    await key_table.ensure()
    clients = ClientKeys(pool, SystemClock(), period_days=settings.client_key_days)
    context = partial(system_context, "kinolog/admin")
    append = signing(appender.append, APP)
    live = Hub(lambda: open_log(settings, idle_ms=LIVE_IDLE_MS), SystemClock(), pulse=pulse("live status"))
    metrics.LIVE_LISTENERS.set_function(lambda: live.listeners)
    accounts, factors, asking = AccountTables(pool), FactorTables(pool, ensure_seal(settings)), Asking()
    await accounts.ensure()
    await factors.ensure()
    keys_of_viewers, endpoints = Viewers(pool), EndpointTable(pool, ensure_seal(settings))
    await keys_of_viewers.ensure()
    await endpoints.ensure()
    outside = Outside(settings.webhook_networks, settings.webhook_timeout_s)
    home = household(terms_of(settings), directory, accounts, factors, append, context, asking)
    services = Services(
        pool=pool,
        store=store,
        context=context,
        options=options_of(settings),
        append=append,
        log_answers=appender.ask,
        access=Access(key_table, append, context),
        past=past_of(settings).at,
        live=live,
        settings=SettingsDesk(followers.live, append, context, lambda: ensure_seal(settings)),
        client_of=clients.hash,
        people=home.people,
        ways=home.ways,
        viewers=keys_of_viewers,
        endpoints=endpoints,
        check_url=outside.check_url,
    )
    refusals = Refusals(append, context, clients.hash, partial(access_refused, APP))
    app = create_admin(services, refusals, observer=Prometheus(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE)

    def use(changed: Settings) -> None:
        app.state.services = replace(services, options=options_of(changed))

    followers.live.use(use)
    app.state.notes = followers.notes
    config = server_config(app, settings, settings.admin_port, requests_max=REQUESTS_MAX + LISTENERS_MAX)
    following = asyncio.create_task(live.run(), name="live status")
    try:
        await serve_beside(_Server(config, live), following, followers.task)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await asking.close()
        await appender.stop()
        await pool.close()


def options_of(settings: Settings) -> Options:
    """Return the app's options under these settings."""
    return Options(
        requests_per_minute=settings.admin_requests_per_minute,
        rates=rates(settings),
        presign_ttl_s=settings.presign_ttl_s,
        trusted_proxies=settings.trusted_proxies,
        metrics_token=settings.metrics_token.get_secret_value(),
        upload_max_bytes=settings.upload_max_bytes,
        upload_part_bytes=settings.upload_part_bytes,
        upload_visibility=settings.upload_visibility,
        pools=settings.pools,
        caps=Caps(settings.telemetry_hardware_max, settings.telemetry_words_max),
    )


def terms_of(settings: Settings) -> Terms:
    """Return the settings of logins."""
    return Terms(
        home=settings.admin_url or f"http://localhost:{settings.admin_port}",
        bootstrap=accepted_admin_token(settings),
        providers=settings.openid_providers,
        cost=Cost(settings.password_passes, settings.password_memory_kib, settings.password_lanes),
        idle=timedelta(seconds=settings.session_idle_s),
        life=timedelta(seconds=settings.session_life_s),
    )
