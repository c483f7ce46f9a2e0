"""`python -m api public|admin`: opens the services and serves one app with uvicorn."""

import asyncio
import os
import sys
from urllib.parse import urlsplit

import uvicorn

from api.app import create_admin, create_public
from api.deps import Options, Services
from infra.engine.endpoints import resolve
from infra.runtime import kafka, logs, metrics, postgres
from infra.runtime.clock import system_context
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from infra.runtime.tokens import admin_token_path, ensure_admin_token
from producers.appender import Appender

REQUESTS_MAX = 500
"""More requests than this at once are refused with 503."""


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


async def serve(settings: Settings, name: str) -> None:
    """Serve until SIGTERM."""
    await kafka.ensure_topics(settings)
    pool = await postgres.open_pool(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    appender = Appender(
        lambda: kafka.open_producer(settings),
        topic_prefix=settings.topic_prefix,
        observe_seconds=metrics.LOG_APPEND_SECONDS.observe,
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
    services = Services(name, pool, store, appender.append, lambda: system_context(f"kinolog/{name}"), options)
    create, port = (create_admin, settings.admin_port) if name == "admin" else (create_public, settings.public_port)
    app = create(services, observer=Prometheus(), exposition=metrics.exposition, metrics_type=metrics.CONTENT_TYPE)
    config = uvicorn.Config(
        app,
        host=settings.bind_host,
        port=port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        limit_concurrency=REQUESTS_MAX,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        await appender.stop()
        await pool.close()


def _origin(settings: Settings) -> str:
    """Return the store's scheme, host and port, as browsers see them."""
    url = urlsplit(settings.s3_public_endpoint or settings.s3_endpoint)
    return f"{url.scheme}://{url.netloc}"


def main() -> None:
    """Serve the app that is named."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("public", "admin"):
        sys.exit("usage: python -m api public|admin")
    settings = resolve(Settings.from_env(os.environ))
    logs.configure(settings, sys.argv[1])
    asyncio.run(serve(settings, sys.argv[1]))


if __name__ == "__main__":
    main()
