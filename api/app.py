"""The two apps, put together from their routes; `python -m api public|admin` serves one."""

import hmac
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api import problems
from api.deps import Services
from api.limits import BodyLimited, RateLimited, TimeLimited
from api.middleware import CrossOrigin, Observed, Observer, SecurityHeaders
from api.routes import health, managing, pages, uploads, watching

VERSION = "0.1.0"
FORM_FIELDS_BYTES = 2**20
"""What a form may have besides its file."""
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="The administrator's token: var/tokens/admin.")


def create_public(services: Services, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the viewers' app: browse, search, watch."""
    app = _begin("Kinolog", "Browse, search and watch.", 429, 503)
    app.include_router(health.router(exposition, metrics_type))
    app.include_router(watching.routes)
    app.include_router(pages.routes)
    return _finish(app, services, observer, open_to_all=True)


def create_admin(services: Services, *, observer: Observer, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the administrators' app: uploads, videos, jobs, workers. Everything but health wants the token."""
    app = _begin("Kinolog admin", "Uploads, videos, jobs, workers.", 401, 429, 503)
    app.include_router(health.router(exposition, metrics_type))
    locked = [Depends(authorised)]
    app.include_router(uploads.routes, dependencies=locked)
    app.include_router(managing.routes, dependencies=locked)
    return _finish(app, services, observer)


def authorised(request: Request, presented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Raise 401 unless the request carries the administrator's token; compared in constant time."""
    services: Services = request.app.state.services
    expected = services.options.token
    if presented is None or not expected or not hmac.compare_digest(presented.credentials.encode(), expected.encode()):
        detail = f"send `Authorization: Bearer TOKEN`; the token lies in {services.options.token_place}"
        raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _begin(title: str, summary: str, *statuses: int) -> FastAPI:
    """Return an app without routes; every route may answer the problems of `statuses`."""
    app = FastAPI(
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
