"""Composes and serves the admin app."""

import asyncio
import hmac
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api import health
from api.access import Access
from api.addresses import UNKNOWN, Addresses
from api.admin import failures, insights, jobs, keys, uploads, videos, workers
from api.admin import settings as changes
from api.admin.live import routes as live
from api.admin.live.hub import LISTENERS_MAX, Hub
from api.admin.services import Options, Services, travel
from api.app import REQUESTS_MAX, Prometheus, begin, finish, rates, rates_of, serve_beside, server_config
from api.middleware import Observer
from events.pulse import Pulse
from infra.history.past import past_of
from infra.runtime import kafka, metrics, postgres
from infra.runtime.appender import appender_of
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.log_consumer import open_log
from infra.runtime.memory import collect_rarely
from infra.runtime.objects import ObjectStore
from infra.runtime.sealing import ensure_seal
from infra.runtime.settings import Settings
from infra.runtime.tokens import ensure_admin_token
from infra.runtime.worker_keys import KeyTable
from infra.settings.desk import SettingsDesk
from infra.settings.live import Followers, live_settings
from projections.telemetry.insights import Caps

FORM_FIELDS_BYTES = 2**20
"""Bytes that a form may have besides its file."""
LIVE_IDLE_MS = 250
NO_TOKEN = "send `Authorization: Bearer TOKEN` with the administrator's token"
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="The administrator's token: var/tokens/admin.")


def create_admin(services: Services, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the administrators' app: uploads, videos, jobs, workers. Every route but health requires the token."""
    app = begin("Kinolog admin", "Uploads, videos, jobs, workers.", 401, 429, 503, kind=FastAPI)
    options = services.options
    lacks = health.stored_in(services, services.log_answers)
    app.include_router(health.router(exposition, metrics_type, lacks, metrics_token=options.metrics_token))
    for each in (uploads, videos, jobs, workers, failures, insights, live, keys, changes):
        app.include_router(each.routes, dependencies=[Depends(authorised), Depends(travel)])
    return finish(
        app,
        name="admin",
        services=services,
        addresses=Addresses(options.trusted_proxies),
        observer=observer,
        new_id=lambda: services.context().new_id(),
        per_minute=rates_of(app),
        file_max_bytes=lambda: app.state.services.options.upload_max_bytes + FORM_FIELDS_BYTES,
    )


async def authorised(request: Request, presented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Raise 401 unless the request carries the administrator's token, 429 after too many wrong ones. Compares in constant time."""
    services: Services = request.app.state.services
    denied = HTTPException(401, NO_TOKEN, headers={"WWW-Authenticate": "Bearer"})
    if presented is None:
        raise denied
    with services.attempts.one(request.client.host if request.client else UNKNOWN):
        expected = services.options.token
        if not expected or not hmac.compare_digest(presented.credentials.encode(), expected.encode()):
            raise denied


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
    async with live_settings(settings, pulse) as followers:
        await _serve(followers, pulse)


async def _serve(followers: Followers, pulse: Callable[[str], Pulse]) -> None:
    settings = followers.live.settings
    pool = await postgres.open_pool(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    appender = appender_of(settings)
    await appender.start()
    key_table = KeyTable(pool)
    await key_table.ensure()
    context = partial(system_context, "kinolog/admin")
    live = Hub(lambda: open_log(settings, idle_ms=LIVE_IDLE_MS), SystemClock(), pulse=pulse("live status"))
    metrics.LIVE_LISTENERS.set_function(lambda: live.listeners)
    token = ensure_admin_token(settings)
    services = Services(
        pool=pool,
        store=store,
        context=context,
        options=options_of(settings, token),
        append=appender.append,
        log_answers=appender.ask,
        access=Access(key_table, appender.append, context),
        past=past_of(settings).at,
        live=live,
        settings=SettingsDesk(followers.live, appender.append, context, lambda: ensure_seal(settings)),
    )
    app = create_admin(services, observer=Prometheus(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE)

    def use(changed: Settings) -> None:
        app.state.services = replace(services, options=options_of(changed, token))

    followers.live.use(use)
    app.state.notes = followers.notes
    config = server_config(app, settings, settings.admin_port, requests_max=REQUESTS_MAX + LISTENERS_MAX)
    following = asyncio.create_task(live.run(), name="live status")
    try:
        await serve_beside(_Server(config, live), following, followers.task)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await appender.stop()
        await pool.close()


def options_of(settings: Settings, token: str) -> Options:
    """Return the app's options under these settings."""
    return Options(
        requests_per_minute=settings.admin_requests_per_minute,
        rates=rates(settings),
        presign_ttl_s=settings.presign_ttl_s,
        trusted_proxies=settings.trusted_proxies,
        metrics_token=settings.metrics_token.get_secret_value(),
        upload_max_bytes=settings.upload_max_bytes,
        upload_part_bytes=settings.upload_part_bytes,
        token=token,
        pools=settings.pools,
        caps=Caps(settings.telemetry_hardware_max, settings.telemetry_words_max),
    )
