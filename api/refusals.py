"""Refused requests leave an event: at most one a minute for equal requests, with their number."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import LogUnavailable

EVERY_S = 60.0
ALIKE_MAX = 10_000
UNKNOWN = "unknown"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Equal requests that were refused. `who` is what the app knows of the caller."""

    who: Any
    method: str
    route: str
    status: int
    reason: str


class Refusals:
    """Records refusals under `/api/`. The request's state has `who` and `refusal` (the reason), as far as they are known.

    `event_of(context, refusal, count)` makes the event, or None for a refusal that is not recorded.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        append: Callable[[Sequence[Envelope[Event]]], Awaitable[Any]],
        context: Callable[[], Context],
        event_of: Callable[[Context, Refusal, int], Envelope[Event] | None],
    ) -> None:
        self._app = app
        self._append = append
        self._context = context
        self._event_of = event_of
        self._recorded: OrderedDict[Refusal, tuple[float, int]] = OrderedDict()

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
            await self._refused(Refusal(state.get("who"), scope["method"], route, status, reason))

    async def _refused(self, refusal: Refusal) -> None:
        context = self._context()
        now_s = context.now.timestamp()
        recorded_s, silent = self._recorded.get(refusal, (0.0, 0))
        if now_s - recorded_s < EVERY_S:
            self._recorded[refusal] = (recorded_s, silent + 1)
            return
        envelope = self._event_of(context, refusal, silent + 1)
        if envelope is None:
            return
        self._recorded[refusal] = (now_s, 0)
        self._recorded.move_to_end(refusal)
        while len(self._recorded) > ALIKE_MAX:
            self._recorded.popitem(last=False)
        try:
            await self._append([envelope])
        except LogUnavailable as error:
            log.warning("refusal_not_recorded", error=str(error), route=refusal.route, status=refusal.status, reason=refusal.reason)
