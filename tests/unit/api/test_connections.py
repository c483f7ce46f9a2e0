"""Connections of every app: who is silent, slow or many ends, and nobody else notices."""

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from api import connections as module
from api.connections import HEADERS_MAX, PIPELINED_MAX
from tests.support.every_app import APPS
from tests.support.serving import Served, served
from tests.support.waiting import eventually

GET = "GET /health HTTP/1.1\nHost: h\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body; `/wait` takes its time."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if scope["path"] == "/wait":
        await asyncio.Event().wait()
    body = str(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


async def gone(readers: list[Any]) -> int:
    """Return how many of these connections have ended."""
    ended = 0
    for reader, _ in readers:
        ended += reader.at_eof() or reader.exception() is not None
    return ended


async def until_gone(opened: list[Any], count: int) -> None:
    """Wait until so many of these have ended."""

    async def drain(reader: asyncio.StreamReader) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            return

    draining = [asyncio.create_task(drain(reader)) for reader, _ in opened]
    await eventually(lambda: sum(task.done() for task in draining) >= count)
    for task in draining:
        task.cancel()
    await asyncio.gather(*draining, return_exceptions=True)


def answering(server: Served, count: int) -> bool:
    """Tell whether the server answers so many requests now."""
    return len(server.server.server_state.tasks) == count


def close(opened: list[Any]) -> None:
    """Close these connections."""
    for _, writer in opened:
        writer.close()


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("data", [b"", b"GET /hea"])
async def test_whoever_keeps_many_connections_waiting_takes_nothing_from_others(name: str, data: bytes) -> None:
    async with served(APPS[name](), connections_max=100, waiting_per_address_max=300, requests_max=50) as server:
        opened = await server.crowd(250, data)
        assert await server.get("/health") == 200, "from the same address"
        assert await server.get("/health", source="127.0.0.2") == 200
        assert await server.get("/nothing", source="127.0.0.2") == 404
        await until_gone(opened, 250 - 100)
        assert server.ended[module.CROWDED] >= 150
        close(opened)


async def test_one_address_keeps_only_so_many_connections_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    async with served(app, waiting_per_address_max=20) as server:
        honest = await server.crowd(5, sources=("127.0.0.2",))
        opened = await server.crowd(120)
        await until_gone(opened, 100)
        assert not await gone(honest)
        close(opened + honest)


async def test_no_newcomer_counts_as_waiting_before_its_request_can_be_read() -> None:
    """A thousand listeners of one address connect at once: a look between their connections and their requests ends nobody."""
    async with served(app, waiting_per_address_max=20) as server:
        opened = await server.crowd(60)
        http: Any = server.server.config.http_protocol_class
        connections = server.server.server_state.connections
        await eventually(lambda: len(connections) == 60)
        now = asyncio.get_running_loop().time()
        for connection in connections:
            connection._seen = None  # as if each had just come
        http.crowd.look(connections, now)
        assert not server.ended
        http.crowd.look(connections, now + 0.01)
        assert server.ended[module.CROWDED] == 40
        close(opened)


async def test_the_address_with_most_connections_makes_room() -> None:
    async with served(app, connections_max=60, waiting_per_address_max=1000) as server:
        honest = await server.crowd(2, sources=("127.0.0.2",))
        opened = await server.crowd(300, b"GET / HTTP/1.1\r\n", sources=[f"127.0.1.{n}" for n in range(1, 11)])
        for reader, writer in honest:
            writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        close(opened + honest)


async def test_requests_that_are_being_answered_are_nobodys_wait() -> None:
    """5,000 listeners from one address are 5,000 answers, not 5,000 clients that keep the server waiting."""
    async with served(app, waiting_per_address_max=10) as server:
        opened: list[Any] = []
        while len(opened) < 60:
            opened += await server.crowd(5, b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
            await eventually(partial(answering, server, len(opened)))
        http: Any = server.server.config.http_protocol_class
        http.crowd.look(server.server.server_state.connections, asyncio.get_running_loop().time())
        assert not server.ended
        close(opened)


async def test_health_is_answered_beside_as_many_requests_as_are_answered_at_once() -> None:
    async with served(app, requests_max=5) as server:
        opened = await server.crowd(5, b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        await eventually(partial(answering, server, 5))
        answer = await server.ask("GET / HTTP/1.1\nHost: h\n\n")
        assert answer.startswith(b"HTTP/1.1 503") and b"retry-after" in answer and b"try again" in answer
        assert await server.get("/health") == 200
        close(opened)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"", "first_byte_s"),
        (b"GET / HTTP/1.1\r\nHo", "head_s"),
        (b"\r\n", "first_byte_s"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "idle_s"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET", "head_s"),
    ],
)
async def test_what_does_not_get_on_ends(monkeypatch: pytest.MonkeyPatch, data: bytes, limit: str) -> None:
    limits: dict[str, Any] = {limit: 0.1}
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    async with served(app, **limits) as server:
        opened = await server.crowd(3, data)
        await until_gone(opened, 3)
        assert server.ended == {module.SLOW: 3}
        close(opened)


async def test_a_head_that_trickles_in_gets_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    async with served(app, head_s=0.2) as server:
        reader, writer = await server.connect()
        answer = asyncio.create_task(reader.read())

        def trickles_no_more() -> bool:
            writer.write(b"G" if not server.ended else b"")
            return answer.done() or writer.is_closing()

        await eventually(trickles_no_more)
        assert (await answer).startswith(b"HTTP/1.1 4")
        writer.close()


async def test_a_connection_in_use_lives_longer_than_any_of_its_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with served(app, first_byte_s=1.0, head_s=1.0, idle_s=1.0) as server:
        reader, writer = await server.connect()
        began = perf_counter()

        async def used_for_s() -> float:
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
            assert (await reader.readuntil(b"\r\n\r\n3")).startswith(b"HTTP/1.1 200")
            return perf_counter() - began

        await eventually(used_for_s, lambda seconds: seconds > 2)
        assert not server.ended
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 300_000,
        b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"a" * 300_000,
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"A%d: %s\r\n" % (n, b"a" * 1000) for n in range(90)),
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a:\r\n" * 2 * HEADERS_MAX,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nA: " + b"a" * 300_000,
        b"\r\n" * 200_000,
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 300_000,
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * 300_000,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * (3 * PIPELINED_MAX),
    ],
    ids=["target", "value", "values", "headers", "pipelined", "empty lines", "extension", "trailer", "requests"],
)
async def test_heads_without_end_are_not_kept(data: bytes) -> None:
    async with served(app) as server, asyncio.timeout(30):
        reader, writer = await server.connect()
        answer = asyncio.create_task(reader.read())
        writer.write(data)
        try:
            received = await answer
        except ConnectionResetError:
            received = b""
        assert received.count(b"HTTP/1.1 200") <= PIPELINED_MAX + 1
        assert b"HTTP/1.1 5" not in received
        writer.close()


async def test_too_many_requests_ahead_of_their_answers_are_refused_until_a_moment_later() -> None:
    async with served(app) as server, asyncio.timeout(30):
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * (3 * PIPELINED_MAX))
        refusal = (await reader.read()).rpartition(b"HTTP/1.1 ")[2]
        assert refusal.startswith(b"429 ") and b"\r\nretry-after: 1\r\n" in refusal
        writer.close()


async def test_pipelined_requests_are_answered_in_order_whatever_the_length_of_what_comes_at_once() -> None:
    async with served(app) as server, asyncio.timeout(30):
        reader, writer = await server.connect()
        sizes = [20_000 + n for n in range(40)]
        writer.write(b"".join(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n for n in sizes))
        for size in sizes:
            assert (await reader.readuntil(b"\r\n\r\n" + str(size).encode())).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\n\n", 400),
        ("GET / HTTP/1.1\nHost: a\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\nHost:\n\n", 400),
        ("GET / HTTP/1.1\nHost: a/b\n\n", 400),
        ("GET / HTTP/1.1\nHost: a b\n\n", 400),
        ("GET / HTTP/1.0\nHost: a\nHost: b\n\n", 400),
        ("GET / HTTP/1.0\n\n", 200),
        ("GET http://elsewhere/ HTTP/1.1\nHost: a\nConnection: close\n\n", 200),
        ("GET / HTTP/1.1\nHost: [::1]:9000\nConnection: close\n\n", 200),
        ("GET / HTTP/3.7\nHost: a\n\n", 400),
        ("GET /\xe9 HTTP/1.1\nHost: a\n\n", 400),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 4\n\nabc", 400),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: -1\n\n", 400),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 99999999999999999999999\n\n", 400),
        ("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: identity\n\n", 400),
        ("\x16\x03\x01\x02", 400),
        ("PRI * HTTP/2.0\n\nSM\n\n", 400),
    ],
)
async def test_a_request_is_taken_when_it_has_one_host_and_one_length(head: str, status: int) -> None:
    async with served(app) as server:
        answer = await server.ask(head)
        assert int(answer.split(b" ", 2)[1]) == status
        if status == 400:
            assert b"application/problem+json" in answer and b"nosniff" in answer and b"connection: close" in answer


async def test_trailers_are_no_headers() -> None:
    seen: list[Any] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        seen.extend(scope["headers"])

    async with served(look) as server:
        body = "1\nx\n0\nAuthorization: Bearer t\n\n"
        answer = await server.ask(f"POST / HTTP/1.1\nHost: h\nConnection: close\nTransfer-Encoding: chunked\n\n{body}")
        assert b" 200 " in answer
        assert b"authorization" not in dict(seen)
