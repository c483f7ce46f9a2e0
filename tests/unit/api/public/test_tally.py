"""Bytes that leave for a stream are recorded once each, also when the log was away, and a forgotten stream counts anew."""

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any

from api.public.stream_tokens import Stream, issue
from api.public.tally import IDLE_ROUNDS, Counted, Tally
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from events.streams import StreamServed
from infra.runtime.clock import system_context

ONE, OTHER = Stream("viewer", "one"), Stream("viewer", "other")


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []
        self.away = False

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        if self.away:
            raise LogUnavailable("away")
        for envelope in envelopes:
            assert isinstance(envelope.data, StreamServed) and envelope.subject == "viewer"
            self.events.append((envelope.data.session_id, envelope.data.server, envelope.data.bytes_served))


async def key_of(day: date) -> bytes:
    return day.isoformat().encode()


def test_totals_are_recorded_when_they_change_and_stay_due_while_the_log_is_away() -> None:
    async def run() -> None:
        log = Log()
        tally = Tally("here", key_of, log.append, lambda: system_context("test"))
        tally.add(ONE, 5)
        tally.add(ONE, 6)
        log.away = True
        try:
            await tally.record()
        except LogUnavailable:
            log.away = False
        tally.add(OTHER, 1)
        await tally.record()
        await tally.record()
        assert log.events == [("one", "here.1", 11), ("other", "here.2", 1)]
        for _ in range(IDLE_ROUNDS + 1):
            await tally.record()
        tally.add(ONE, 7)
        await tally.record()
        assert log.events[2:] == [("one", "here.3", 7)], "another server's name: the fold adds it"

    asyncio.run(run())


def test_only_media_answers_of_a_known_stream_count() -> None:
    async def run() -> None:
        log = Log()
        tally = Tally("here", key_of, log.append, lambda: system_context("test"))

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 206, "headers": []})
            for part in (b"abc", b"", b"de"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})

        async def nothing(message: Any = None) -> Any:
            return None

        token = await issue(key_of, ONE, system_context("test").now.date())
        for path, sid in (("/media/x", token), ("/videos/y.m3u8", token), ("/media/x", "nobody"), ("/api/videos", token)):
            scope = {"type": "http", "path": path, "query_string": f"CMCD=sid%3D%22{sid}%22".encode(), "headers": []}
            await Counted(answer, tally=tally)(scope, nothing, nothing)
        await tally.record()
        assert log.events == [("one", "here.1", 10)]

    asyncio.run(run())
