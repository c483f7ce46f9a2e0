"""The two apps, put together from their routes; `python -m api public|admin` serves one."""

import hmac
from collections.abc import Callable

from fastapi import Depends, FastAPI, HTTPException, Request

from api import problems
from api.deps import Services
from api.middleware import Observe, Observed, RateLimited, SecurityHeaders
from api.routes import health, managing, pages, uploads, watching

VERSION = "0.1.0"


def create_public(services: Services, *, observe: Observe, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the viewers' app: browse, search, watch."""
    app = FastAPI(title="Kinolog", version=VERSION, summary="Browse, search and watch.", docs_url=None, redoc_url=None)
    app.include_router(health.router(exposition, metrics_type))
    app.include_router(watching.routes)
    app.include_router(pages.routes)
    return _finish(app, services, observe)


def create_admin(services: Services, *, observe: Observe, exposition: Callable[[], bytes], metrics_type: str) -> FastAPI:
    """Return the administrators' app: uploads, videos, jobs, workers. Everything but health wants the token."""
    app = FastAPI(title="Kinolog admin", version=VERSION, summary="Uploads, videos, jobs, workers.", docs_url=None, redoc_url=None)
    app.include_router(health.router(exposition, metrics_type))
    locked = [Depends(authorised)]
    app.include_router(uploads.routes, dependencies=locked)
    app.include_router(managing.routes, dependencies=locked)
    return _finish(app, services, observe)


def authorised(request: Request) -> None:
    """Raise 401 unless the request carries the administrator's token; compared in constant time."""
    services: Services = request.app.state.services
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    expected = services.options.token
    if scheme.lower() != "bearer" or not expected or not hmac.compare_digest(presented.strip().encode(), expected.encode()):
        detail = f"send `Authorization: Bearer TOKEN`; the token lies in {services.options.token_place}"
        raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _finish(app: FastAPI, services: Services, observe: Observe) -> FastAPI:
    app.state.services = services
    problems.install(app)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RateLimited, per_minute=services.options.requests_per_minute)
    app.add_middleware(Observed, name=services.name, observe=observe, new_id=lambda: services.context().new_id())
    return app
