"""Limits on a client's requests, as plain ASGI: rate, size, and slowness. A refused request gets a problem document."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Any, Literal, TypeVar, cast

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limiter import Limiter
from api.problems import problem

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Rate = Literal["all", "faults", "none"]
Kind = Literal["reading", "writing", "uploads", "media", "login", "playback"]
"""Classes of endpoints; each has a limit of its own."""
PerMinute = Callable[[Kind], int]
"""The present limit of a class, requests a minute per address."""
BODY_BYTES_MAX = 2**20
ANSWER_S = 30.0
SILENCE_S = 60.0
FAULTS_PER_MINUTE = 30
"""Wrong secrets per address: this burst, and this number per minute after it. Each one may cost a proof."""


class TooManyAttempts(HTTPException):
    """Too many wrong secrets came from an address, or for an account. `reason` goes into the audit."""

    reason = "too_many_attempts"

    def __init__(self, wait_s: float) -> None:
        detail = f"too many wrong keys, passwords or codes; try again in {ceil(wait_s)} s"
        super().__init__(429, detail, headers={"Retry-After": str(ceil(wait_s))})


class Attempts:
    """Limits how often one address, or one account, may present a wrong secret: `burst` at once, then `per_minute`.

    An attempt counts before its secret is checked, and is given back when the secret was right. So concurrent attempts cannot
    exceed the limit.
    """

    def __init__(self, per_minute: float = FAULTS_PER_MINUTE, burst: int | None = None) -> None:
        self._limiter = Limiter(per_minute, burst or int(per_minute))

    def check(self, address: str) -> None:
        """Raise TooManyAttempts when the address has to wait."""
        if wait_s := self._limiter.would_wait_s(address, monotonic()):
            raise TooManyAttempts(wait_s)

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """Count an attempt; an exception inside means that the secret was wrong. Raises TooManyAttempts."""
        if wait_s := self._limiter.wait_s(address, monotonic()):
            raise TooManyAttempts(wait_s)
        yield
        self._limiter.give_back(address, monotonic())


@dataclass(frozen=True)
class Allowance:
    """Limits of one route that differ from the defaults; declared on it with `allowing`.

    `file`: the body is a file; it may have the app's file size, and take as long as it keeps coming. `answer_s`: seconds
    until the answer begins. `rate`: whether all requests count, only mistakes do, or none is ever refused. `kind`: the class whose
    limit counts all of them, whatever `rate` is; without one it follows from the method.
    """

    file: bool = False
    answer_s: float | None = None
    rate: Rate = "all"
    kind: Kind | None = None


USUAL = Allowance()
_DECLARED = "__allowance__"


def allowing(
    *, file: bool = False, answer_s: float | None = None, rate: Rate = "all", kind: Kind | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Declare the limits of a route; stands below the route's own decorator."""
    allowance = Allowance(file, answer_s, rate, kind)

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _DECLARED, allowance)
        return endpoint

    return declare


class Allowed:
    """Finds the limits that a request's route declares, for `allowance_of`; stands around all limiting middleware."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._declared = [
            (route, declared)
            for route in flat(routes)
            if (declared := getattr(getattr(route, "endpoint", None), _DECLARED, None)) is not None
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            scope[_DECLARED] = self.of(scope)
        await self._app(scope, receive, send)

    def of(self, scope: Scope) -> Allowance:
        """Return the limits that the route of a request declares."""
        return next((declared for route, declared in self._declared if route.matches(scope)[0] is Match.FULL), USUAL)


def flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield routes, including those of included routers. No router is included under a prefix, which would be missing here."""
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from flat(router.routes)
        else:
            yield route


def allowance_of(scope: Scope) -> Allowance:
    """Return the limits of a request."""
    return cast(Allowance, scope.get(_DECLARED, USUAL))


class Rates:
    """A limiter per class of endpoints, each by the present limit of its class."""

    def __init__(self, per_minute: PerMinute) -> None:
        self._per_minute = per_minute
        self._limiters: dict[Kind, tuple[int, Limiter]] = {}

    def of(self, kind: Kind) -> Limiter:
        """Return the limiter of a class."""
        wanted = self._per_minute(kind)
        used, limiter = self._limiters.get(kind) or (wanted, Limiter(wanted, wanted))
        if used != wanted:
            limiter.use(wanted, wanted)
        self._limiters[kind] = wanted, limiter
        return limiter


class RateLimited:
    """Refuses with 429 requests that come too often from one address, as far as their route counts them (`Allowance`).

    Each process counts for itself: with several instances of an app, a client has the limit at each of them.
    """

    def __init__(self, app: ASGIApp, *, per_minute: PerMinute) -> None:
        self._app = app
        self._requests = Rates(per_minute)
        self._faults = Rates(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope["client"][0] if scope.get("client") else "unknown"
        allowance = allowance_of(scope)
        if allowance.rate == "none":
            await self._app(scope, receive, send)
            return
        by_method: Kind = "reading" if scope["method"] in ("GET", "HEAD", "OPTIONS") else "writing"
        kind = allowance.kind or by_method
        free, now, faults = allowance.rate == "faults", monotonic(), self._faults.of(by_method)
        wait_s = faults.would_wait_s(client, now) if free else 0.0
        if not wait_s and (not free or allowance.kind is not None):
            wait_s = self._requests.of(kind).wait_s(client, now)
        if wait_s:
            scope.setdefault("state", {})["refusal"] = f"rate_{kind}"
            detail = "too many requests from this address; wait a moment"
            await problem(429, detail, headers={"Retry-After": str(ceil(wait_s))})(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if 400 <= message.get("status", 200) < 500:
                faults.wait_s(client, monotonic())
            await send(message)

        await self._app(scope, receive, watch if free else send)


class BodyLimited:
    """Refuses with 413 a body that is too long, with or without an announced length."""

    def __init__(
        self, app: ASGIApp, *, max_bytes: int = BODY_BYTES_MAX, file_max_bytes: Callable[[], int] = lambda: BODY_BYTES_MAX
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._file_max_bytes = file_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._file_max_bytes() if allowance_of(scope).file else self._max_bytes
        detail = f"the body is longer than {most} bytes"
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > most:
            await problem(413, detail, headers={"Connection": "close"})(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise HTTPException(413, detail, headers={"Connection": "close"})
            return message

        await self._app(scope, counted, send)


class TimeLimited:
    """Answers 503 when an answer does not begin in time, 408 when a body stops coming; ends answers that the client stops
    reading.

    `answer_s`, unless the route declares another, runs from the first byte to the beginning of the answer; it does not apply
    to files. `silence_s` is the maximum gap between two pieces of a body in either direction.
    """

    def __init__(self, app: ASGIApp, *, answer_s: float = ANSWER_S, silence_s: float = SILENCE_S) -> None:
        self._app = app
        self._answer_s = answer_s
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, within limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = False
        allowance = allowance_of(scope)
        answer_s = allowance.answer_s or self._answer_s

        async def patient() -> Message:
            nonlocal complete
            if complete:
                return await receive()  # only a disconnect can come
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await receive()
            except TimeoutError as error:
                detail = f"nothing of the body came for {self._silence_s:g} s"
                raise HTTPException(408, detail, headers={"Connection": "close"}) from error
            complete = not message.get("more_body", False)
            return message

        try:
            async with asyncio.timeout(None if allowance.file else answer_s) as limit:

                async def watched(message: Message) -> None:
                    limit.reschedule(None)
                    async with asyncio.timeout(self._silence_s):
                        await send(message)

                await self._app(scope, patient, watched)
        except TimeoutError:
            if not limit.expired():
                raise  # the client has stopped reading: the server closes the connection
            detail = f"no answer within {answer_s:g} s; try again"
            await problem(503, detail, headers={"Retry-After": "5"})(scope, receive, send)
