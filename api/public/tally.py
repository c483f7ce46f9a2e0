"""Bytes of media that this app sends to each stream, counted as they leave, and recorded every few seconds.

A player names its stream by CMCD's `sid` (CTA-5004), in the address or in the header CMCD-Session. Requests without one count for
nobody.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware import before_shutdown
from api.public.signatures import KeyOf
from api.public.stream_tokens import Stream, read
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import LogUnavailable, Retryable
from events.pulse import Pulse
from events.streams import StreamServed
from producers.streams import about

EVERY_S = 10.0
IDLE_ROUNDS = 30
"""A stream that gets nothing for so many rounds is forgotten; it counts under another server's name when it comes back."""
STREAMS_MAX = 100_000
MEDIA = ("/media/", "/videos/")
_SID = re.compile(r'(?:^|,)\s*sid="([A-Za-z0-9_.-]{1,64})"')
log = structlog.get_logger(__name__)


@dataclass
class _Count:
    server: str
    sent: int = 0
    recorded: int = 0
    idle: int = 0


class Tally:
    """The bytes of one app. `server` names this process; `key_of` returns the keys of tokens."""

    def __init__(
        self,
        server: str,
        key_of: KeyOf,
        append: Callable[[Sequence[Envelope[Event]]], Awaitable[Any]],
        context: Callable[[], Context],
    ) -> None:
        self._key_of = key_of
        self._server = server
        self._append = append
        self._context = context
        self._counts: dict[Stream, _Count] = {}
        self._made = 0

    async def stream_of(self, token: str) -> Stream | None:
        """Return the stream of a token; None for one that is not ours, and while its key cannot be read."""
        try:
            return await read(self._key_of, token, self._context().now.date())
        except Retryable:
            return None

    def add(self, stream: Stream, sent: int) -> None:
        """Count bytes that were sent to a stream. Beyond the maximum of streams, those of new ones are not counted."""
        count = self._counts.get(stream)
        if count is None:
            if len(self._counts) >= STREAMS_MAX:
                return
            self._made += 1
            count = self._counts[stream] = _Count(f"{self._server}.{self._made}")
        count.sent += sent
        count.idle = 0

    async def record(self) -> None:
        """Append the totals that have changed; they stay due while the log is away."""
        due = {stream: count.sent for stream, count in self._counts.items() if count.sent > count.recorded}
        context = self._context()
        events = [
            about(context, StreamServed(**stream._asdict(), server=self._counts[stream].server, bytes_served=sent))
            for stream, sent in due.items()
        ]
        if events:
            await self._append(events)
        for stream, sent in due.items():
            self._counts[stream].recorded = sent
        for stream, count in [*self._counts.items()]:
            count.idle += 1
            if count.idle > IDLE_ROUNDS and count.sent == count.recorded:
                del self._counts[stream]

    async def record_all(self) -> None:
        """Do what `record` does, or log why it cannot be done now."""
        try:
            await self.record()
        except (LogUnavailable, Retryable) as error:
            log.warning("bytes_not_recorded", error=str(error), streams=len(self._counts))

    async def run(self, pulse: Pulse) -> None:
        """Record for ever."""
        while True:
            pulse.beat()
            await asyncio.sleep(EVERY_S)
            await self.record_all()


class Counted:
    """Counts the bytes of media answers."""

    def __init__(self, app: ASGIApp, *, tally: Tally) -> None:
        self._app = app
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; before the app ends, record the totals."""
        if scope["type"] == "lifespan":
            await self._app(scope, before_shutdown(receive, self._tally.record_all), send)
            return
        token = sid_of(scope) if scope["type"] == "http" and scope["path"].startswith(MEDIA) else None
        stream = await self._tally.stream_of(token) if token else None
        if stream is None:
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and (body := message.get("body")):
                self._tally.add(stream, len(body))

        await self._app(scope, receive, counted)


def sid_of(scope: Scope) -> str | None:
    """Return CMCD's id of the session that a request names."""
    said = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"cmcd-session"), "")
    if not said and b"CMCD=" in scope["query_string"]:
        said = parse_qs(scope["query_string"].decode("latin-1")).get("CMCD", [""])[0]
    found = _SID.search(said)
    return found[1] if found else None
