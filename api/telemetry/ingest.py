"""The hot routes, as plain ASGI in front of the app: `POST /v1/event`, `POST /v1/events`, `GET /health`.

Whoever comes is limited first, then the type, length and content of the body are looked at, cheapest first, as the
predecessor of this service did. A 202 is said when the event is on the log. Nothing of a request is logged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from api.telemetry.batches import DECODERS, Batch, Damaged, TooMuch, Verdicts, slices
from api.telemetry.intake import Intake
from api.telemetry.limiter import Addresses, Limiter
from events.errors import KinologError, LogUnavailable
from producers.anonymity import Refused
from producers.reports import NotJson, read

EVENT = "/v1/event"
EVENTS = "/v1/events"
HEALTH = "/health"
PATHS = (EVENT, EVENTS, HEALTH)
EVENT_BYTES_MAX = 16_384
DRAINED_BYTES_MAX = 2 * 2**20
"""A body that is refused for its length is read up to here, so that the client gets to see the answer."""
SILENCE_S = 10.0
EVENTS_S = 300.0
"""Between two pieces of a batch, and for all of it. One event has the limit of `api.telemetry.connections`."""
BATCHES_MAX = 16
RETRY_AFTER_S = 1

JSON = (b"application/json",)
LINES = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines", b"application/json")

OPEN = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}
PREFLIGHT = OPEN | {
    "access-control-allow-methods": "*",
    "access-control-allow-headers": "*",
    "access-control-max-age": "86400",
}
_ACCEPTED: Message = {
    "type": "http.response.start",
    "status": 202,
    "headers": [(b"content-length", b"0"), (b"access-control-allow-origin", b"*")],
}
_EMPTY: Message = {"type": "http.response.body", "body": b""}

Observe = Callable[[str, int, float], None]
"""Told of every answer to a POST: path, status, seconds."""
Count = Callable[[int, int], None]
"""Told how many events were accepted and refused."""


class Gone(Exception):
    """The client has closed the connection."""


class TooLong(KinologError):
    """The body is longer than it may be. `unread` tells that there is more of it on its way."""

    def __init__(self, *, unread: bool) -> None:
        super().__init__(f"the body is longer than {EVENT_BYTES_MAX} bytes")
        self.unread = unread


class TooSlow(KinologError):
    """The body did not arrive in time."""


@dataclass(frozen=True)
class Ingest:
    """What the hot routes use. `single` and `batches` have a producer each, so that bulk does not delay what is small."""

    single: Intake
    batches: Intake
    limiter: Limiter
    addresses: Addresses
    observe: Observe
    count: Count


class HotRoutes:
    """Answers the hot routes and passes everything else on."""

    def __init__(self, app: ASGIApp, *, ingest: Ingest) -> None:
        self._app = app
        self._ingest = ingest
        self._batches = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        path = scope.get("path")
        if path not in PATHS or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        try:
            if path == EVENT and scope["method"] == "POST":
                response = await self._event(scope, receive)
            else:
                response = await self._other(scope, receive)
        except Gone:
            return
        if response is None:
            status = 202
            await send(_ACCEPTED)
            await send(_EMPTY)
        else:
            status = response.status_code
            await response(scope, receive, send)
        if scope["method"] == "POST":
            self._ingest.observe(path, status, perf_counter() - began)

    async def _event(self, scope: Scope, receive: Receive) -> Response | None:
        """Put one event on the log; return None when it is there, else what is wrong."""
        ingest = self._ingest
        if (wait_s := ingest.limiter.wait_s(ingest.addresses.of(scope), monotonic())) > 0:
            return _limited(wait_s)
        content_type, encoding, length = _described(scope)
        if content_type not in JSON or encoding not in (b"", b"identity"):
            return _refusal(415, "send one JSON object as application/json, without an encoding")
        try:
            body = await _body(receive, length)
        except TooLong as error:
            return _refusal(413, str(error), {"connection": "close"} if error.unread else {})
        try:
            await ingest.single.put((read(body),))
        except NotJson as error:
            ingest.count(0, 1)
            return _refusal(400, str(error))
        except Refused as error:
            ingest.count(0, 1)
            return _refusal(422, str(error), errors=[{"where": f"body.{error.field}", "what": error.reason}])
        except LogUnavailable as error:
            return _unavailable(error)
        ingest.count(1, 0)
        return None

    async def _other(self, scope: Scope, receive: Receive) -> Response:
        """Answer what is not one event."""
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS":
            return Response(status_code=204, headers=PREFLIGHT)
        if path == HEALTH:
            if method in ("GET", "HEAD"):
                return Response("OK", media_type="text/plain", headers=OPEN)
            return _refusal(405, "health is asked for with GET", {"allow": "GET, HEAD, OPTIONS"})
        if method != "POST":
            return _refusal(405, "events are sent with POST", {"allow": "POST, OPTIONS"})
        return await self._events(scope, receive)

    async def _events(self, scope: Scope, receive: Receive) -> Response:
        """Put the lines of a batch on the log."""
        ingest = self._ingest
        if (wait_s := ingest.limiter.wait_s(ingest.addresses.of(scope), monotonic())) > 0:
            return _limited(wait_s)
        content_type, encoding, _ = _described(scope)
        if content_type not in LINES or (decoder := DECODERS.get(encoding)) is None:
            detail = "send lines of JSON as application/x-ndjson; Content-Encoding may be gzip or zstd"
            return _refusal(415, detail, {"accept-encoding": "gzip, zstd"})
        if self._batches >= BATCHES_MAX:
            return _unavailable(LogUnavailable("as many batches as can be read at once are being read; try again in a moment"))
        self._batches += 1
        batch = Batch(ingest.batches)
        try:
            async with asyncio.timeout(EVENTS_S):
                return _verdicts(await batch.take(slices(_chunks(receive), decoder())))
        except TooMuch as error:
            return _refusal(413, str(error), {"connection": "close"}, done=batch.result)
        except Damaged as error:
            return _refusal(400, str(error), {"connection": "close"}, done=batch.result)
        except LogUnavailable as error:
            return _unavailable(error, done=batch.result)
        except (TimeoutError, TooSlow):
            return _refusal(408, "the body did not arrive in time", {"connection": "close"}, done=batch.result)
        finally:
            self._batches -= 1
            ingest.count(batch.result.accepted, batch.result.refused)


def _described(scope: Scope) -> tuple[bytes, bytes, int]:
    """Return (media type, encoding, announced length or 0) of a request's body."""
    content_type = encoding = b""
    length = 0
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value if value in JSON else value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            length = int(value)  # the server has read it already
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    return content_type, encoding, length


async def _body(receive: Receive, length: int) -> bytes:
    """Return the whole body. Raises TooLong, when it was read or is far too long, and Gone."""
    if length > DRAINED_BYTES_MAX:
        raise TooLong(unread=True)
    body = b""
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size <= EVENT_BYTES_MAX:
            body = body + part if body else part
        more = message.get("more_body", False)
        if size > DRAINED_BYTES_MAX or (size > EVENT_BYTES_MAX and not more):
            raise TooLong(unread=more)
        if not more:
            return body


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises TooSlow and Gone."""
    more = True
    while more:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError as error:
            raise TooSlow from error
        if message["type"] != "http.request":
            raise Gone
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _refusal(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Return a problem document. `done` are the verdicts so far of a batch."""
    if (done := more.pop("done", None)) is not None:
        more |= msgspec.to_builtins(done)
    return problem(status, detail, headers={**OPEN, **(headers or {})}, **more)


def _limited(wait_s: float) -> Response:
    detail = "too many requests from this address; wait as Retry-After says"
    return _refusal(429, detail, {"retry-after": str(int(wait_s) + 1)})


def _unavailable(error: LogUnavailable, done: Verdicts | None = None) -> Response:
    return _refusal(503, str(error), {"retry-after": str(RETRY_AFTER_S)}, **({} if done is None else {"done": done}))


def _verdicts(result: Verdicts) -> Response:
    return Response(msgspec.json.encode(result), media_type="application/json", headers=OPEN)
