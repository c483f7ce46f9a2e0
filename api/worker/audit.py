"""Every refused request to the worker app leaves an event: at most one a minute for equal requests, with their number."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Denied
from api.problems import problem
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from events.workers import WorkerRequestRefused
from producers.workers import worker_event

EVERY_S = 60.0
ALIKE_MAX = 10_000
UNKNOWN = "unknown"
log = structlog.get_logger(__name__)


async def denied(request: Request, error: Exception) -> Response:
    """Answer a refused key; record its owner and the reason for the audit."""
    assert isinstance(error, Denied)
    request.state.refusal = error.reason
    if error.key is not None:
        request.state.key = error.key
    return problem(error.status_code, error.detail, headers=dict(error.headers or {}))


class Audited:
    """Records refusals. The request's state has `key` and `refusal`, as far as they are known."""

    def __init__(
        self, app: ASGIApp, *, append: Callable[[Sequence[Envelope[Event]]], Awaitable[Any]], context: Callable[[], Context]
    ) -> None:
        self._app = app
        self._append = append
        self._context = context
        self._recorded: OrderedDict[tuple[str, str, int, str], tuple[float, int]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        status = 500
        state: dict[str, Any] = scope.setdefault("state", {})

        async def watch(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, receive, watch)
        if 400 <= status < 500:
            route = getattr(scope.get("route"), "path", UNKNOWN)
            reason = state.get("refusal") or HTTPStatus(status).phrase
            await self._refused(state.get("key"), route, status, reason)

    async def _refused(self, key: Any, route: str, status: int, reason: str) -> None:
        context = self._context()
        worker_id = key.worker_id if key is not None else UNKNOWN
        alike = (worker_id, route, status, reason)
        now_s = context.now.timestamp()
        recorded_s, silent = self._recorded.get(alike, (0.0, 0))
        if now_s - recorded_s < EVERY_S:
            self._recorded[alike] = (recorded_s, silent + 1)
            return
        self._recorded[alike] = (now_s, 0)
        self._recorded.move_to_end(alike)
        while len(self._recorded) > ALIKE_MAX:
            self._recorded.popitem(last=False)
        key_id = key.key_id if key is not None else None
        event = WorkerRequestRefused(
            worker_id=worker_id, key_id=key_id, route=route, status=status, reason=reason, count=silent + 1
        )
        try:
            await self._append([worker_event(context, event)])
        except LogUnavailable as error:
            log.warning("refusal_not_recorded", error=str(error), worker_id=worker_id, route=route, status=status, reason=reason)
