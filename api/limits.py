"""What a client may ask for, as plain ASGI: how often, how much, and how slowly. What is refused gets a problem document."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from time import monotonic

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limiter import Limiter
from api.problems import problem

UNLIMITED = ("/health", "/ready", "/metrics", "/media/", "/assets/", "/videos/")
PROBES = ("/health", "/ready")
FORM = ("POST", "/api/videos")
WORKERS_FILE = re.compile(r"/api/worker/upload/[^/]+/(segment/[^/]+/[^/]+|file/[^/]+|archive)")
"""The requests whose body is a file: it is as long as a source or an archive may be, and takes as long as it takes."""
BODY_BYTES_MAX = 2**20
ANSWER_S = 30.0
JOIN_S = 600.0
"""For the answer to a completed upload: stores join parts at about 1 GB/s."""
SILENCE_S = 60.0
FAULTS_PER_MINUTE = 30
"""Wrong secrets per address at once, and per minute after that: each of them may cost a proof."""


class TooManyAttempts(HTTPException):
    """An address has tried too many wrong secrets."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(429, "too many wrong keys from this address; wait a moment", headers={"Retry-After": str(ceil(wait_s))})


class Attempts:
    """How often one address may present a secret that is wrong.

    An attempt counts before its secret is looked at, and is given back when it was right: however many come at once, no
    more are tried.
    """

    def __init__(self, per_minute: int = FAULTS_PER_MINUTE) -> None:
        self._limiter = Limiter(per_minute, per_minute)

    def check(self, address: str) -> None:
        """Raise TooManyAttempts when the address has to wait."""
        if wait_s := self._limiter.would_wait_s(address, monotonic()):
            raise TooManyAttempts(wait_s)

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """Count an attempt; an error within means that the secret was wrong. Raises TooManyAttempts."""
        if wait_s := self._limiter.wait_s(address, monotonic()):
            raise TooManyAttempts(wait_s)
        yield
        self._limiter.give_back(address, monotonic())


def is_form(scope: Scope) -> bool:
    """Tell whether the request sends a file."""
    return (scope["method"], scope["path"]) == FORM or (scope["method"] == "POST" and bool(WORKERS_FILE.fullmatch(scope["path"])))


def is_completion(scope: Scope) -> bool:
    """Tell whether the request has the parts of an upload joined."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.startswith("/api/uploads/") and path.endswith("/complete")


class RateLimited:
    """Refuses with 429 what comes too often from one address. Media and health are free, mistakes about them are not."""

    def __init__(self, app: ASGIApp, *, per_minute: int) -> None:
        self._app = app
        self._requests = Limiter(per_minute, per_minute)
        self._faults = Limiter(per_minute, per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope["client"][0] if scope.get("client") else "unknown"
        free = scope["path"].startswith(UNLIMITED)
        now = monotonic()
        wait_s = self._faults.would_wait_s(client, now) if free else self._requests.wait_s(client, now)
        if wait_s and scope["path"] not in PROBES:
            detail = "too many requests from this address; wait a moment"
            await problem(429, detail, headers={"Retry-After": str(ceil(wait_s))})(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if 400 <= message.get("status", 200) < 500:
                self._faults.wait_s(client, monotonic())
            await send(message)

        await self._app(scope, receive, watch if free else send)


class BodyLimited:
    """Refuses with 413 a body that is too long, whether its length was announced or not."""

    def __init__(self, app: ASGIApp, *, max_bytes: int = BODY_BYTES_MAX, form_max_bytes: int = BODY_BYTES_MAX) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._form_max_bytes = form_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._form_max_bytes if is_form(scope) else self._max_bytes
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
    """Answers 503 when an answer does not begin in time, 408 when a body stops coming, and ends what nobody reads.

    `answer_s` (`join_s` when an upload is completed) runs from the first byte to the beginning of the answer, not for a
    form; `silence_s` between two pieces of a body in either direction.
    """

    def __init__(self, app: ASGIApp, *, answer_s: float = ANSWER_S, join_s: float = JOIN_S, silence_s: float = SILENCE_S) -> None:
        self._app = app
        self._answer_s = answer_s
        self._join_s = join_s
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, within limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = False
        answer_s = self._join_s if is_completion(scope) else self._answer_s

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
            async with asyncio.timeout(None if is_form(scope) else answer_s) as limit:

                async def watched(message: Message) -> None:
                    limit.reschedule(None)
                    async with asyncio.timeout(self._silence_s):
                        await send(message)

                await self._app(scope, patient, watched)
        except TimeoutError:
            if not limit.expired():
                raise  # somebody has stopped reading: the server closes the connection
            detail = f"no answer within {answer_s:g} s; try again"
            await problem(503, detail, headers={"Retry-After": "5"})(scope, receive, send)
