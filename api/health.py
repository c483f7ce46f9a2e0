"""GET /health, /ready and /metrics of every app."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from psycopg import Error as PostgresError
from psycopg_pool import PoolTimeout

from api.deps import Given
from events.errors import KinologError
from projections.positions import is_served

NEEDED = ("catalog", "jobs")


def router(exposition: Callable[[], bytes], metrics_type: str) -> APIRouter:
    """Return the routes; `exposition` renders the metrics."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/ready", responses={503: {"description": "Something is missing; the answer says what."}})
    async def ready(given: Given) -> JSONResponse:
        """The services that this app needs answer, and the projections are there."""
        missing: dict[str, str] = {}
        try:
            async with given.pool.connection(timeout=2) as connection:
                for name in NEEDED:
                    if not await is_served(connection, name):
                        missing[name] = "the projection is not there yet; do the processors run?"
        except (PostgresError, PoolTimeout) as error:
            missing["postgres"] = f"does not answer: {type(error).__name__}"
        try:
            await given.store.ready()
        except KinologError as error:
            missing["objects"] = str(error)
        status = {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
        return JSONResponse(status, 503 if missing else 200)

    @routes.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(exposition(), media_type=metrics_type)

    return routes


def probes(exposition: Callable[[], bytes], metrics_type: str, missing: Callable[[], Mapping[str, str]]) -> APIRouter:
    """Return /ready and /metrics of an app that reads no projection; `missing` says what it lacks, {part: one sentence}."""
    routes = APIRouter(tags=["health"])

    @routes.get("/ready", responses={503: {"description": "Something is missing; the answer says what."}})
    async def ready() -> JSONResponse:
        """The services that this app needs answer."""
        found = dict(missing())
        return JSONResponse({"status": "not ready", "missing": found} if found else {"status": "ready"}, 503 if found else 200)

    @routes.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(exposition(), media_type=metrics_type)

    return routes


def own(exposition: Callable[[], bytes], metrics_type: str, missing: Callable[[], Awaitable[Mapping[str, str]]]) -> APIRouter:
    """Return /health, /ready and /metrics of an app whose services must be asked; the metrics at /api/metrics as well."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/ready", responses={503: {"description": "Something is missing; the answer says what."}})
    async def ready() -> JSONResponse:
        """The services that this app needs answer."""
        found = dict(await missing())
        return JSONResponse({"status": "not ready", "missing": found} if found else {"status": "ready"}, 503 if found else 200)

    @routes.get("/metrics", include_in_schema=False)
    @routes.get("/api/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(exposition(), media_type=metrics_type)

    return routes
