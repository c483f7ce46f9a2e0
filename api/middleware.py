"""Middleware around every request, as plain ASGI: metrics by route, correlation ids in the logs, headers for browsers."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLAIN = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""For answers that no browser shows as a page."""


def before_shutdown(receive: Receive, act: Callable[[], Awaitable[None]]) -> Receive:
    """Return a lifespan's `receive` that acts before the app ends: uvicorn raises SIGTERM again, and no code behind it runs."""

    async def received() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await act()
        return message

    return received


class Observer(Protocol):
    """Receives every request; `route` is the template, never the path. The composition root gives it to Prometheus."""

    def began(self, app: str) -> None:
        """A request came."""

    def ended(self, app: str, method: str, route: str, status: int, seconds: float, body_bytes: int) -> None:
        """Its answer is complete."""


class Observed:
    """Measures requests and gives each a correlation id. It is the outermost, so that refused requests are counted, too."""

    def __init__(self, app: ASGIApp, *, name: str, observer: Observer, new_id: Callable[[], str]) -> None:
        self._app = app
        self._name = name
        self._observer = observer
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, body_bytes = 500, 0
        request_id = self._new_id()

        async def watch(message: Message) -> None:
            nonlocal status, body_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            else:
                body_bytes += len(message.get("body", b""))
            await send(message)

        self._observer.began(self._name)
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - started
            self._observer.ended(self._name, scope["method"], route, status, seconds, body_bytes)


class SecurityHeaders:
    """Forbids browsers to load anything from elsewhere and to guess types.

    `media_origin` is the only other allowed origin of media: the store, when browsers fetch from it directly.
    """

    def __init__(self, app: ASGIApp, *, media_origin: str = "") -> None:
        self._app = app
        media = f"'self' {media_origin}".strip()
        policy = (
            f"default-src 'self'; img-src {media} data: blob:; media-src {media} blob:; connect-src {media}; "
            "worker-src 'self' blob:; style-src 'self'; script-src 'self'; object-src 'none'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._app(scope, receive, _adding(send, self._headers) if scope["type"] == "http" else send)


class NeverKept:
    """Lets no browser and no proxy keep an answer below `/api/`: it is for one caller, and true for a moment."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def forbid(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() != b"cache-control"]
                message = {**message, "headers": [*kept, (b"cache-control", b"no-store")]}
            await send(message)

        ours = scope["type"] == "http" and scope["path"].startswith("/api/")
        await self._app(scope, receive, forbid if ours else send)


class CrossOrigin:
    """Lets players of any site read public content; preflights are answered here.

    The header is on every answer, with or without an Origin in the request, because caches keep one answer for both.
    """

    ALLOWED = ((b"access-control-allow-origin", b"*"),)
    EXPOSED = (*ALLOWED, (b"access-control-expose-headers", b"Content-Range, Content-Length, ETag, X-Log-Position, Retry-After"))
    PREFLIGHT = (
        *ALLOWED,
        (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
        (b"access-control-allow-headers", b"Range, If-None-Match, If-Range, X-Min-Position"),
        (b"access-control-max-age", b"86400"),
        (b"content-length", b"0"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer the preflight."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": list(self.PREFLIGHT)})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, _adding(send, self.EXPOSED) if scope["type"] == "http" else send)


def _adding(send: Send, headers: "tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]]") -> Send:
    """Return a `send` that adds headers to the answer."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return add
