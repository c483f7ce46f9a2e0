"""GET /health, /ready and /metrics of every app."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from psycopg import Error as PostgresError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, Field

from api.limits import allowing
from api.services import Services
from events.errors import KinologError
from projections.folding.positions import is_served

NEEDED = ("catalog", "jobs")
NO_METRICS = "metrics want `Authorization: Bearer TOKEN` with the setting metrics_token; without one only this machine sees them"


class Lacks(NamedTuple):
    """Parts without which an app cannot answer reads, and those without which it cannot write: {part: one sentence}.

    `writes` is None for a read-only app.
    """

    reads: Mapping[str, str]
    writes: Mapping[str, str] | None


class Can(BaseModel):
    """The abilities of an app now; a read-only app leaves `write` out."""

    read: bool
    write: bool | None = None


class Ready(BaseModel):
    """Whether an app can do everything that it is for; `missing` names each missing part, with a sentence."""

    status: str = Field(examples=["ready"])
    can: Can
    missing: dict[str, str] = Field({}, examples=[{"kafka": "does not answer"}])


def router(
    exposition: Callable[[], bytes],
    metrics_type: str,
    lacks: Callable[[], Awaitable[Lacks]],
    *,
    metrics_token: str = "",
    metrics_paths: Sequence[str] = ("/metrics",),
) -> APIRouter:
    """Return the routes; `exposition` renders the metrics.

    Metrics are shown to holders of the token; where no token is set, to this machine.
    """
    routes = APIRouter(tags=["health"])

    @routes.get("/health")
    @allowing(rate="none")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get(
        "/ready", response_model=Ready, responses={503: {"model": Ready, "description": "The app can do a part, or nothing."}}
    )
    @allowing(rate="none")
    async def ready(request: Request) -> JSONResponse:
        """Report the app's abilities now, and the missing parts."""
        found = await lacks()
        can = {"read": not found.reads} | ({} if found.writes is None else {"write": not found.writes})
        notes: Mapping[str, str] = getattr(request.app.state, "notes", dict)()  # about parts without which the app goes on
        missing = {**notes, **found.reads, **(found.writes or {})}
        whole = all(can.values())
        return JSONResponse({"status": "ready" if whole else "not ready", "can": can, "missing": missing}, 200 if whole else 503)

    @allowing(rate="faults")
    async def metrics(request: Request) -> Response:
        if not may_read_metrics(request.headers.get("authorization"), metrics_token, local=getattr(request.state, "local", False)):
            request.state.refusal = "metrics_token"
            raise HTTPException(401, NO_METRICS, headers={"WWW-Authenticate": "Bearer"})
        return Response(exposition(), media_type=metrics_type)

    for path in metrics_paths:
        routes.add_api_route(path, metrics, include_in_schema=False)
    return routes


def may_read_metrics(presented: str | None, token: str, *, local: bool) -> bool:
    """Return whether a client with this Authorization header may see metrics. Pure."""
    return hmac.compare_digest((presented or "").encode(), f"Bearer {token}".encode()) if token else local


def stored_in(services: Services, log_answers: Callable[[], Awaitable[Any]] | None = None) -> Callable[[], Awaitable[Lacks]]:
    """Return a function that checks PostgreSQL, the object store and, for an app that writes, the log."""

    async def lacks() -> Lacks:
        reads: dict[str, str] = {}
        try:
            async with services.pool.connection(timeout=2) as connection:
                for name in NEEDED:
                    if not await is_served(connection, name):
                        reads[name] = "the projection is not there yet; do the processors run?"
        except (PostgresError, PoolTimeout) as error:
            reads["postgres"] = f"does not answer: {type(error).__name__}"
        try:
            await services.store.ready()
        except KinologError as error:
            reads["objects"] = str(error)
        return Lacks(reads, None if log_answers is None else reads | await log_lacks(log_answers))

    return lacks


async def log_lacks(*answers: Callable[[], Awaitable[Any]]) -> dict[str, str]:
    """Ask the log; return {"kafka": sentence} when one of `answers` fails."""
    for answer in answers:
        try:
            await answer()
        except KinologError as error:
            return {"kafka": str(error)}
    return {}
