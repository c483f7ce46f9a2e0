"""The hot routes, as plain ASGI in front of the app: `POST /v1/event`, `POST /v1/events`, `GET /health`, and the insights.

Rate limits come first, then checks of the body's type, length and content, cheapest first, as in the predecessor of this
service. 202 means that the event is on the log. Nothing of a request is logged.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.addresses import Addresses
from api.connections import HEALTH
from api.limiter import Limiter
from api.middleware import PLAIN
from api.problems import problem
from api.refusals import Refusal, Refusals
from api.telemetry.batches import DECODERS, Batch, Damaged, TooMuch, Verdicts, slices
from api.telemetry.insights import INSIGHTS, Prepared, Snapshots
from api.telemetry.intake import Intake
from events.errors import KinologError, LogUnavailable
from producers.anonymity import Refused
from producers.appender import OutcomeUnknown
from producers.reports import NotJson, read

EVENT = "/v1/event"
EVENTS = "/v1/events"
PATHS = (EVENT, EVENTS, HEALTH, INSIGHTS)
OBSERVED = {EVENT: "POST", EVENTS: "POST", INSIGHTS: "GET"}
"""The methods whose answers are counted; any other is a mistake, a preflight or a probe."""
API = "/api/"
EVENT_BYTES_MAX = 16_384
DRAINED_BYTES_MAX = 2 * 2**20
"""A body refused for its length is read up to this size, so that the client gets to see the answer."""
SILENCE_S = 10.0
EVENTS_S = 300.0
"""Maximum gap between two pieces of a batch, and maximum time for all of it. `api.telemetry.protocol` limits single events."""
BATCHES_MAX = 16
RETRY_AFTER_S = 1

JSON = (b"application/json",)
LINES = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines", b"application/json")

OPEN = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}
OPEN |= {name.decode(): value.decode() for name, value in PLAIN}
PREFLIGHT = OPEN | {
    "access-control-allow-methods": "*",
    "access-control-allow-headers": "*",
    "access-control-max-age": "86400",
}
ACCEPTED = Prepared(202, "Accepted", OPEN)

log = structlog.get_logger(__name__)

Observe = Callable[[str, int, float], None]
"""Receives every answer to a method of OBSERVED: path, status, seconds."""
Count = Callable[[int, int], None]
"""Receives the numbers of accepted and refused events."""


class Gone(Exception):
    """The client has closed the connection."""


class TooLong(KinologError):
    """The body is longer than it may be. `unread`: more of it is on its way."""

    def __init__(self, *, unread: bool) -> None:
        super().__init__(f"the body is longer than {EVENT_BYTES_MAX} bytes")
        self.unread = unread


class TooSlow(KinologError):
    """The body did not arrive in time."""


@dataclass(frozen=True)
class Ingest:
    """Parts of the hot routes. `single` and `batches` have a producer each, so that bulk does not delay single events."""

    single: Intake
    batches: Intake
    limiter: Limiter
    addresses: Addresses
    snapshots: Snapshots
    observe: Observe
    count: Count
    refusals: Refusals

    def too_often(self, scope: Scope, route: str) -> Response | None:
        """Count a request; return 429 when its address comes too often."""
        address = self.addresses.of(scope)
        wait_s = self.limiter.wait_s(address, monotonic())
        if wait_s <= 0:
            return None
        self.refusals.note_soon(Refusal(None, scope["method"], route, 429, "rate_telemetry"), address)
        return _limited(wait_s)


Begun = tuple["asyncio.Future[Any]", str | None]
"""The outcome of an event on its way to the log, and its id when the client chose it."""


class EventRoute:
    """The steps of `POST /v1/event`, shared by both readers of the request: `HotRoutes` and the server's own protocol."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def refuse(self, scope: Scope) -> Response | None:
        """Return the refusal of a client or of an announced body, if any."""
        if (refusal := self._ingest.too_often(scope, EVENT)) is not None:
            return refusal
        content_type, encoding, _ = _described(scope)
        if content_type not in JSON or encoding not in (b"", b"identity"):
            return _refusal(415, "send one JSON object as application/json, without an encoding")
        return None

    def begin(self, body: bytes) -> Begun | Response:
        """Begin to put the event on the log; return a refusal if it is invalid."""
        try:
            report = read(body)
            event_id = report.event_id
            return self._ingest.single.begin(report), event_id
        except NotJson as error:
            self._ingest.count(0, 1)
            return _refusal(400, str(error))
        except Refused as error:
            self._ingest.count(0, 1)
            return _refusal(422, str(error), errors=[{"where": f"body.{error.field}", "what": error.reason}])
        except LogUnavailable as error:
            return _unavailable(error)

    def end(self, outcome: "asyncio.Future[Any]", event_id: str | None) -> Response | None:
        """Return None when the event is on the log, else the error; `outcome` is done."""
        try:
            outcome.result()
        except OutcomeUnknown as unknown:
            if event_id is not None:
                self._ingest.single.noted((event_id,), unknown)
            return _unavailable(unknown)
        except LogUnavailable as error:
            return _unavailable(error)
        self._ingest.count(1, 0)
        return None


def answer_insights(ingest: Ingest, scope: Scope) -> Response:
    """Answer GET or HEAD of the insights from the present snapshot."""
    if (refusal := ingest.too_often(scope, INSIGHTS)) is not None:
        return refusal
    if (snapshot := ingest.snapshots.current) is None:
        return _refusal(503, "there are no insights yet; do the processors run?", {"retry-after": str(RETRY_AFTER_S)})
    asked = dict(scope["headers"])
    return snapshot.answer(scope["method"], asked.get(b"if-none-match"), asked.get(b"accept-encoding", b""))


class HotRoutes:
    """Answers the hot routes and passes everything else on."""

    def __init__(self, app: ASGIApp, *, ingest: Ingest) -> None:
        self._app = app
        self._ingest = ingest
        self._batches = 0
        self.event = EventRoute(ingest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        path = scope.get("path")
        if path not in PATHS or scope["type"] != "http":
            await self._pass_on(scope, receive, send)
            return
        began = perf_counter()
        try:
            if path == EVENT and scope["method"] == "POST":
                response = await self._event(scope, receive)
            else:
                response = await self._other(scope, receive)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001
            response = bug(error)
        await response(scope, receive, send)
        if scope["method"] == OBSERVED.get(path):
            self._ingest.observe(path, response.status_code, perf_counter() - began)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer; its routes under /api/ are limited, too."""
        limited = scope["type"] == "http" and scope["path"].startswith(API) and scope["method"] != "OPTIONS"
        refusal = self._ingest.too_often(scope, API) if limited else None
        await (refusal or self._app)(scope, receive, send)

    async def _event(self, scope: Scope, receive: Receive) -> Response:
        """Put one event on the log."""
        if (refusal := self.event.refuse(scope)) is not None:
            return refusal
        try:
            body = await _body(receive, _described(scope)[2])
        except TooLong as error:
            return _refusal(413, str(error), {"connection": "close"} if error.unread else {})
        begun = self.event.begin(body)
        if isinstance(begun, Response):
            return begun
        outcome, event_id = begun
        await asyncio.wait([outcome])
        return self.event.end(outcome, event_id) or ACCEPTED

    async def _other(self, scope: Scope, receive: Receive) -> Response:
        """Answer all routes but the single event."""
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS":
            return Response(status_code=204, headers=PREFLIGHT)
        if path == HEALTH:
            if method in ("GET", "HEAD"):
                return Response("OK", media_type="text/plain", headers=OPEN)
            return _refusal(405, "health is asked for with GET", {"allow": "GET, HEAD, OPTIONS"})
        if path == INSIGHTS:
            if method in ("GET", "HEAD"):
                return answer_insights(self._ingest, scope)
            return _refusal(405, "insights are asked for with GET", {"allow": "GET, HEAD, OPTIONS"})
        if method != "POST":
            return _refusal(405, "events are sent with POST", {"allow": "POST, OPTIONS"})
        return await self._events(scope, receive)

    async def _events(self, scope: Scope, receive: Receive) -> Response:
        """Put the lines of a batch on the log."""
        ingest = self._ingest
        if (refusal := ingest.too_often(scope, EVENTS)) is not None:
            return refusal
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


def bug(error: Exception) -> Response:
    """Answer a bug of ours. Its message may repeat the input, so the log line has the line of code and not the words."""
    log.error("ingest_failed", error=type(error).__name__, where=traceback.format_tb(error.__traceback__)[-1].strip())
    return _refusal(500, "something is wrong with Kinolog; its log says more")


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
    """Return the whole body. Raises TooLong, after reading it or when it is far too long, and Gone."""
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
    """Yield the body as it arrives. Raises TooSlow and Gone."""
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
