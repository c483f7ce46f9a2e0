"""Refused requests leave an event: at most one a minute for equal requests, with their number.

The answers 401, 403 and 429 are refusals in every app, and so is 404 for a thing that is concealed; the worker app also records the
mistakes of workers. Refusals of a caller that has proven nothing are equal whatever their route: a flood makes few events, from one
address or from thousands.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import UNKNOWN
from api.callers import calling_from
from api.middleware import before_shutdown
from events.access import AccessRefused
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import LogUnavailable

REFUSED = (401, 403, 429)
EVERY_S = 60.0
KINDS_MAX = 1_000
"""Kinds of refusals that an app distinguishes within a minute; any more are recorded together, by status and reason."""
ANY = "any"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request. `who` is the app's knowledge of the caller; None: nothing is proven."""

    who: Any
    method: str
    route: str
    status: int
    reason: str

    @property
    def kind(self) -> "Refusal":
        """The refusals that share an event with this one."""
        return self if self.who else replace(self, method=ANY, route=ANY)


def access_refused(app: str, context: Context, refusal: Refusal, count: int) -> Envelope[Event]:
    """Return the event about refused requests to an app. Pure."""
    event = AccessRefused(
        app=app, method=refusal.method, route=refusal.route, status=refusal.status, reason=refusal.reason, count=count
    )
    id_ = context.new_id()
    return Envelope(id_, context.source, app, context.now, event, id_)


class Refusals:
    """The refusals of one app: at once an event about the first of a kind, then one a minute about those that followed.

    `event_of` makes the event of a refusal and a count; `client_of` the keyed hash of an address, for the first of a kind.
    """

    def __init__(
        self,
        append: Callable[[Sequence[Envelope[Event]]], Awaitable[Any]],
        context: Callable[[], Context],
        client_of: Callable[[str], Awaitable[str | None]],
        event_of: Callable[[Context, Refusal, int], Envelope[Event]],
        *,
        statuses: Container[int] = REFUSED,
    ) -> None:
        self.statuses = statuses
        self._append = append
        self._context = context
        self._client_of = client_of
        self._event_of = event_of
        self._silent: dict[Refusal, int] = {}
        """The number of refusals of each kind since the last event about it."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def note(self, refusal: Refusal, address: str) -> None:
        """Count a refusal; record the first of its kind."""
        if self._is_first(refusal):
            await self._record(refusal, 1, address)

    def note_soon(self, refusal: Refusal, address: str) -> None:
        """Count a refusal; record the first of its kind in the background."""
        if self._is_first(refusal):
            self._start(self._record(refusal, 1, address))

    async def close(self) -> None:
        """Record the refusals that were only counted so far."""
        for kind in [*self._silent]:
            self._record_silent(kind)
        await asyncio.gather(*self._tasks)

    def _is_first(self, refusal: Refusal) -> bool:
        kind = refusal.kind
        if kind not in self._silent and len(self._silent) >= KINDS_MAX:
            kind = replace(kind, who=None).kind
        if kind in self._silent:
            self._silent[kind] += 1
            return False
        self._wait(kind)
        return True

    def _wait(self, kind: Refusal) -> None:
        self._silent[kind] = 0
        asyncio.get_running_loop().call_later(EVERY_S, self._minute_over, kind)

    def _minute_over(self, kind: Refusal) -> None:
        if self._record_silent(kind):
            self._wait(kind)

    def _record_silent(self, kind: Refusal) -> bool:
        """Record the refusals of a kind since its last event, and forget it; return whether there were any."""
        if count := self._silent.pop(kind, 0):
            self._start(self._record(kind, count))
        return count > 0

    def _start(self, recording: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(recording)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, refusal: Refusal, count: int, address: str | None = None) -> None:
        calling_from(await self._client_of(address) if address else None)
        try:
            await self._append([self._event_of(self._context(), refusal, count)])
        except LogUnavailable as error:
            log.warning("refusal_not_recorded", error=str(error), route=refusal.route, status=refusal.status, reason=refusal.reason)


class Refused:
    """Notes refused requests. The request's state has `who` and `refusal` (the reason), as far as they are known."""

    def __init__(self, app: ASGIApp, *, refusals: Refusals) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; before the app ends, record the refusals that were only counted so far."""
        if scope["type"] != "http":
            await self._app(scope, before_shutdown(receive, self._refusals.close), send)
            return
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, receive, watch)
        state = scope.get("state", {})
        if status in self._refusals.statuses or (status == HTTPStatus.NOT_FOUND and "refusal" in state):
            route = getattr(scope.get("route"), "path", UNKNOWN)
            reason = state.get("refusal") or HTTPStatus(status).phrase
            client = scope["client"][0] if scope.get("client") else UNKNOWN
            await self._refusals.note(Refusal(state.get("who"), scope["method"], route, status, reason), client)
