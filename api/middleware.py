"""What surrounds every request, as plain ASGI: metrics by route, correlation ids in the logs, a rate per client."""

import time
from collections.abc import Callable

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

UNLIMITED = ("/health", "/ready", "/metrics", "/media/", "/assets/", "/videos/")
Observe = Callable[[str, str, str, int, float], None]
"""(app, method, route template, status, seconds)."""


class Observed:
    """Measures requests and gives each a correlation id; the innermost of the three."""

    def __init__(self, app: ASGIApp, *, name: str, observe: Observe, new_id: Callable[[], str]) -> None:
        self._app = app
        self._name = name
        self._observe = observe
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=self._new_id()):
                await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._observe(self._name, scope["method"], route, status, time.perf_counter() - started)


class RateLimited:
    """Refuses with 429 what comes too often from one address. Media and health are free."""

    def __init__(self, app: ASGIApp, *, per_minute: int) -> None:
        self._app = app
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and not scope["path"].startswith(UNLIMITED):
            client = scope["client"][0] if scope.get("client") else "unknown"
            if not await self._limiter.hit(self._limit, client):
                await problem(429, "too many requests from this address; wait a moment", headers={"Retry-After": "5"})(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)


class SecurityHeaders:
    """Tells browsers to load nothing from elsewhere and to guess no types."""

    POLICY = (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
        "worker-src 'self' blob:; style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", self.POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)
