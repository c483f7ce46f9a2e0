"""Composes and serves the public app."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from api import health
from api.addresses import Addresses
from api.app import Prometheus, begin, finish, rates, rates_of, serve_beside, server_config
from api.callers import signing
from api.identity import Doors
from api.middleware import CrossOrigin, Observer
from api.public import media, pages, playback, previews, stream_tokens, videos
from api.public.services import Options, Services
from api.public.tally import Counted, Tally
from api.refusals import Refusals, access_refused
from events.pulse import Pulse
from events.topics import PEOPLE
from infra.runtime import metrics, postgres
from infra.runtime.appender import appender_of
from infra.runtime.client_keys import ClientKeys
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.memory import collect_rarely
from infra.runtime.objects import ObjectStore
from infra.runtime.people.accounts import AccountTables
from infra.runtime.periodic_keys import PeriodicKeys
from infra.runtime.settings import Settings
from infra.runtime.tokens import find_admin_token
from infra.runtime.viewers import Viewers
from infra.settings.live import live_settings
from projections.folding.follower import Followed
from projections.people.directory import Directory, evolve

APP = "public"


def create_public(
    services: Services, refusals: Refusals, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str
) -> FastAPI:
    """Return the viewers' app: browse, search, watch."""
    app = begin("Kinolog", "Browse, search and watch.", 401, 429, 503, kind=FastAPI)
    options = services.options
    lacks = health.stored_in(services)
    app.include_router(health.router(exposition, metrics_type, lacks, metrics_token=options.metrics_token))
    for each in (videos, media, playback, previews, pages):
        app.include_router(each.routes)
    return finish(
        app,
        name=APP,
        services=services,
        addresses=Addresses(options.trusted_proxies),
        observer=observer,
        refusals=refusals,
        new_id=lambda: services.context().new_id(),
        inside=[Middleware(Counted, tally=services.tally), Middleware(pages.ProblemPages), Middleware(CrossOrigin)],
        per_minute=rates_of(app),
        media_origin=options.media_origin,
    )


async def serve(settings: Settings, pulse: Callable[[str], Pulse]) -> None:
    """Serve viewers until SIGTERM."""
    collect_rarely()  # a film's manifests consist of 20,000 values; garbage collection took four fifths of the time
    people = Followed((PEOPLE,), Directory(), evolve)
    async with live_settings(settings, pulse, people) as followers:
        settings = followers.live.settings
        pool = await postgres.open_pool(settings)
        store = ObjectStore(settings)
        await store.ensure_bucket()
        appender = appender_of(settings)
        await appender.start()
        bootstrap = find_admin_token(settings) if settings.file_token else ""
        accounts, viewers = AccountTables(pool), Viewers(pool)
        await accounts.ensure()
        await viewers.ensure()
        keys, stream_keys = PeriodicKeys(pool, "media"), PeriodicKeys(pool, "streams")
        context = partial(system_context, "kinolog/public")
        clients = ClientKeys(pool, SystemClock(), period_days=settings.client_key_days)
        append = signing(appender.append, APP)
        refusals = Refusals(append, context, clients.hash, partial(access_refused, APP))

        def stream_key(day: date) -> Awaitable[bytes]:
            return stream_keys.key(day, forget_before=day - timedelta(days=stream_tokens.LIFE_DAYS))

        services = Services(
            pool=pool,
            store=store,
            context=context,
            options=options_of(settings),
            doors=Doors(people.state, accounts, context, bootstrap, timedelta(seconds=settings.session_idle_s)),
            media_key=lambda day: keys.key(day, forget_before=context().now.date()),
            append=appender.append,
            viewers=viewers,
            stream_key=stream_key,
            tally=Tally(context().new_id(), stream_key, appender.append, context),
        )
        app = create_public(
            services, refusals, observer=Prometheus(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE
        )

        def use(changed: Settings) -> None:
            app.state.services = replace(services, options=options_of(changed))

        followers.live.use(use)
        app.state.notes = followers.notes
        counting = asyncio.create_task(services.tally.run(pulse("bytes served")), name="bytes served")
        try:
            await serve_beside(uvicorn.Server(server_config(app, settings, settings.public_port)), followers.task, counting)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
            await appender.stop()
            await pool.close()


def options_of(settings: Settings) -> Options:
    """Return the app's options under these settings."""
    return Options(
        requests_per_minute=settings.requests_per_minute,
        rates=rates(settings),
        media_delivery=settings.media_delivery,
        media_origin=_origin(settings) if settings.media_delivery == "redirect" else "",
        presign_ttl_s=settings.presign_ttl_s,
        private_media_ttl_s=settings.private_media_ttl_s,
        public_url=settings.public_url,
        trusted_proxies=settings.trusted_proxies,
        metrics_token=settings.metrics_token.get_secret_value(),
    )


def _origin(settings: Settings) -> str:
    """Return the store's scheme, host and port, as browsers see them."""
    url = urlsplit(settings.s3_public_endpoint or settings.s3_endpoint)
    return f"{url.scheme}://{url.netloc}"
