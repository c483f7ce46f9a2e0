"""Parts of every app: documents, problems, limits, metrics. Each app's own `app.py` composes and serves it."""

import asyncio
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from api import problems
from api.addresses import Addressed, Addresses
from api.compression import Compressed
from api.connections import Connection, Limits, connection_class
from api.limits import BODY_BYTES_MAX, Allowed, BodyLimited, Kind, PerMinute, RateLimited, TimeLimited
from api.middleware import Observed, Observer, SecurityHeaders
from api.refusals import Refusals, Refused
from api.services import Options
from infra.runtime import metrics
from infra.runtime.settings import Settings
from infra.runtime.version import VERSION

REQUESTS_MAX = 500
"""More requests than this at once are refused with 503."""
FILES_MIN = 200
"""Files that are open besides client connections."""
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Prometheus:
    """Reports requests to Prometheus. Labels stay few, whatever methods clients make up."""

    def began(self, app: str) -> None:
        """Count a request in progress."""
        metrics.HTTP_IN_FLIGHT.labels(app).inc()

    def ended(self, app: str, method: str, route: str, status: int, seconds: float, body_bytes: int) -> None:
        """Count an answered request."""
        method = method if method in METHODS else "other"
        metrics.HTTP_IN_FLIGHT.labels(app).dec()
        metrics.HTTP_REQUESTS.labels(app, method, route, str(status)).inc()
        metrics.HTTP_SECONDS.labels(app, method, route).observe(seconds)
        metrics.HTTP_RESPONSE_BYTES.labels(app, route).inc(body_bytes)


App = TypeVar("App", bound=FastAPI)


def begin(title: str, summary: str, *statuses: int, kind: type[App]) -> App:
    """Return an app without routes; every route may answer with the problems of `statuses`."""
    app = kind(
        title=title,
        version=VERSION,
        summary=summary,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=problems.documented(*statuses),
    )
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        """Return the document; every 422 is described as one of our problem documents, but where bad values are 400."""
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (problems.Problem, problems.Fault):
            schemas.setdefault(model.__name__, model.model_json_schema(ref_template="#/components/schemas/{model}"))
            schemas[model.__name__].pop("$defs", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                if "application/json" in operation["responses"].get("400", {}).get("content", {}):
                    operation["responses"].pop("422", None)
                if "422" in operation["responses"]:
                    operation["responses"] |= {str(k): v for k, v in problems.documented(422).items()}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def finish(
    app: FastAPI,
    *,
    name: str,
    services: Any,
    addresses: Addresses,
    observer: Observer,
    refusals: Refusals,
    new_id: Callable[[], str],
    inside: Sequence[Middleware] = (),
    per_minute: PerMinute | None = None,
    file_max_bytes: Callable[[], int] = lambda: BODY_BYTES_MAX,
    media_origin: str = "",
) -> FastAPI:
    """Give the routes their services and put limits and metrics around them, in one order for every app.

    `inside` is the app's own middleware, the innermost first; it stands between the limits and the security headers. Requests
    are counted per address when `per_minute` is set. Sizes in bytes. Limits may
    change: they are asked for at each request.
    """
    app.state.services = services
    problems.install(app)
    app.add_middleware(TimeLimited)
    app.add_middleware(BodyLimited, file_max_bytes=file_max_bytes)
    if per_minute is not None:
        app.add_middleware(RateLimited, per_minute=per_minute)
    app.add_middleware(Allowed, routes=app.routes)
    app.add_middleware(Refused, refusals=refusals)
    for each in inside:
        app.add_middleware(each.cls, *each.args, **each.kwargs)
    app.add_middleware(SecurityHeaders, media_origin=media_origin)
    app.add_middleware(Compressed)
    app.add_middleware(Addressed, addresses=addresses)
    app.add_middleware(Observed, name=name, observer=observer, new_id=new_id)
    return app


def rates_of(app: FastAPI) -> PerMinute:
    """Return the limits of an app, which its present options have."""

    def per_minute(kind: Kind) -> int:
        options: Options = app.state.services.options
        return options.per_minute(kind)

    return per_minute


def rates(settings: Settings) -> Mapping[Kind, int]:
    """Return the limits of the classes of endpoints that have one of their own."""
    return {
        "writing": settings.write_requests_per_minute,
        "uploads": settings.upload_requests_per_minute,
        "media": settings.media_requests_per_minute,
        "login": settings.login_attempts_per_minute,
        "playback": settings.playback_requests_per_minute,
    }


async def serve_beside(server: uvicorn.Server, *following: "asyncio.Task[None]") -> None:
    """Serve while something is followed. The end of a reader is a bug: the supervisor starts the app again."""
    serving = asyncio.create_task(server.serve(), name="server")
    await asyncio.wait({serving, *following}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    for task in following:
        if task.done():
            task.result()


def server_config(
    app: FastAPI, settings: Settings, port: int, *, requests_max: int = REQUESTS_MAX, kind: type[Connection] = Connection
) -> uvicorn.Config:
    """Return the server's configuration, with limits on connections and on concurrent requests."""
    limits = Limits(
        connections_max=min(settings.connections_max, _open_files_max() - FILES_MIN),
        waiting_per_address_max=settings.connections_waiting_max,
        requests_max=requests_max,
        head_bytes_max=settings.head_max_bytes,
        head_s=settings.head_s,
        first_byte_s=settings.head_s,
        idle_s=settings.connection_idle_s,
    )
    ended = metrics.HTTP_CONNECTIONS_ENDED
    return uvicorn.Config(
        app,
        host=settings.bind_host,
        port=port,
        http=connection_class(limits, Addresses(settings.trusted_proxies), lambda reason: ended.labels(reason).inc(), kind),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # `Addressed` reads them, by one rule for every app
        timeout_graceful_shutdown=10,
        server_header=False,
    )


def _open_files_max() -> int:
    """Raise this process's limit of open files as far as allowed; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 2**20
