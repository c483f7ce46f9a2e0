"""The apps, put together from their routes; `python -m api public|admin|worker|telemetry` serves one."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive, Scope, Send

from api import problems
from api.deps import Services, travel
from api.limits import BodyLimited, RateLimited, TimeLimited
from api.middleware import CrossOrigin, Observed, Observer, SecurityHeaders
from api.routes import failures, health, live, managing, pages, uploads, watching
from api.telemetry import comparing, documents
from api.telemetry.answers import Answers
from api.telemetry.ingest import HotRoutes, Ingest
from api.telemetry.reading import Readings
from api.worker import inviting, serving, transfers
from api.worker.access import Denied
from api.worker.audit import Audited, denied
from api.worker.receiving import ARCHIVE_BYTES_MAX
from api.worker.services import WorkerServices

VERSION = "0.1.0"
FORM_FIELDS_BYTES = 2**20
"""What a form may have besides its file."""
WORKER_ANSWER_S = 60.0
"""A claim is answered after 30 s at most, when there is no job."""
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="The administrator's token: var/tokens/admin.")


App = TypeVar("App", bound=FastAPI)


class IngestApp(FastAPI):
    """An app whose hot routes are answered before anything that FastAPI does for the others."""

    hot: HotRoutes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self.hot(scope, receive, send)

    async def cold(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is not hot."""
        await super().__call__(scope, receive, send)


def create_public(services: Services, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the viewers' app: browse, search, watch."""
    app = _begin("Kinolog", "Browse, search and watch.", 429, 503, kind=FastAPI)
    app.include_router(health.router(exposition, metrics_type))
    app.include_router(watching.routes)
    app.include_router(pages.routes)
    return _finish(app, services, observer, open_to_all=True)


def create_admin(services: Services, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the administrators' app: uploads, videos, jobs, workers. Everything but health wants the token."""
    app = _begin("Kinolog admin", "Uploads, videos, jobs, workers.", 401, 429, 503, kind=FastAPI)
    app.include_router(health.router(exposition, metrics_type))
    locked = [Depends(authorised), Depends(travel)]
    app.include_router(uploads.routes, dependencies=locked)
    app.include_router(managing.routes, dependencies=locked)
    app.include_router(failures.routes, dependencies=locked)
    app.include_router(live.routes, dependencies=locked)
    app.include_router(inviting.routes, dependencies=locked)
    return _finish(app, services, observer)


def create_worker(
    services: WorkerServices,
    *,
    observer: Observer,
    exposition: Callable[[], bytes],
    metrics_type: str,
    missing: Callable[[], Awaitable[Mapping[str, str]]],
) -> FastAPI:
    """Return the app for workers outside the cluster. `missing` says what it lacks, {part: one sentence}."""
    app = _begin("Kinolog workers", "Jobs for workers outside the cluster.", 429, 503, kind=FastAPI)
    app.include_router(health.own(exposition, metrics_type, missing))
    app.include_router(serving.routes)
    app.include_router(transfers.routes)
    app.include_router(serving.held_routes)
    app.state.worker_services = services
    problems.install(app)
    app.add_exception_handler(Denied, denied)
    app.add_middleware(TimeLimited, answer_s=WORKER_ANSWER_S)
    app.add_middleware(BodyLimited, form_max_bytes=ARCHIVE_BYTES_MAX)
    app.add_middleware(RateLimited, per_minute=services.options.requests_per_minute)
    app.add_middleware(Audited, append=services.append, context=lambda: services.context(None))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observed, name="worker", observer=observer, new_id=lambda: services.context(None).new_id())
    return app


def create_telemetry(
    ingest: Ingest,
    *,
    observer: Observer,
    exposition: Callable[[], bytes],
    metrics_type: str,
    missing: Callable[[], Mapping[str, str]],
    new_id: Callable[[], str],
    readings: Readings,
) -> IngestApp:
    """Return the app that nodes report to, anonymously. `missing` says what ingest lacks, {part: one sentence}."""
    app = _begin("Kinolog telemetry", "Anonymous reports of transcodes, and what they tell.", 429, 503, kind=IngestApp)
    app.include_router(health.probes(exposition, metrics_type, missing))
    app.include_router(comparing.routes)
    app.state.readings = readings
    app.state.answers = Answers()
    _describe(app, documents.paths(), documents.schemas())
    problems.install(app)
    app.add_middleware(TimeLimited)
    app.add_middleware(BodyLimited)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(CrossOrigin)
    app.add_middleware(Observed, name="telemetry", observer=observer, new_id=new_id)
    app.hot = HotRoutes(app.cold, ingest=ingest)
    return app


def authorised(request: Request, presented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Raise 401 unless the request carries the administrator's token; compared in constant time."""
    services: Services = request.app.state.services
    expected = services.options.token
    if presented is None or not expected or not hmac.compare_digest(presented.credentials.encode(), expected.encode()):
        detail = f"send `Authorization: Bearer TOKEN`; the token lies in {services.options.token_place}"
        raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _begin(title: str, summary: str, *statuses: int, kind: type[App]) -> App:
    """Return an app without routes; every route may answer the problems of `statuses`."""
    app = kind(
        title=title, version=VERSION, summary=summary, docs_url=None, redoc_url=None, responses=problems.documented(*statuses)
    )
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        """Return the document; every 422 is one of our problem documents."""
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (problems.Problem, problems.Fault):
            schemas.setdefault(model.__name__, model.model_json_schema(ref_template="#/components/schemas/{model}"))
            schemas[model.__name__].pop("$defs", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                if "422" in operation["responses"]:
                    operation["responses"] |= {str(k): v for k, v in problems.documented(422).items()}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _describe(app: FastAPI, paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Put routes that FastAPI does not know into its document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document["paths"] = paths | document["paths"]
        document["components"]["schemas"] |= schemas
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _finish(app: FastAPI, services: Services, observer: Observer, *, open_to_all: bool = False) -> FastAPI:
    """Put the limits and measures around the routes, the innermost first."""
    options = services.options
    app.state.services = services
    problems.install(app)
    app.add_middleware(TimeLimited)
    app.add_middleware(BodyLimited, form_max_bytes=options.upload_max_bytes + FORM_FIELDS_BYTES)
    app.add_middleware(RateLimited, per_minute=options.requests_per_minute)
    app.add_middleware(SecurityHeaders, media_origin=options.media_origin)
    if open_to_all:
        app.add_middleware(CrossOrigin)
    app.add_middleware(Observed, name=services.name, observer=observer, new_id=lambda: services.context().new_id())
    return app
