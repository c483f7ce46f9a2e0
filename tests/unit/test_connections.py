"""What clients may hold without asking for anything: silent ones, heads without end, many of one address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api import connections as slow
from api.addresses import Addresses
from api.connections import HEAD_BYTES_MAX, HEAD_S, PIPELINED_MAX, SLOW, Connections, Server, Waiting, look, protocol_for
from api.telemetry.protocol import IngestConnection

Answer = tuple[int, bytes]


class Served:
    """A server with an app of which `/held` answers when it is let go."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.let_go = asyncio.Event()
        self.holding = 0

    async def connect(self, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(host, 0))

    async def holds(self, count: int) -> None:
        """Wait until so many requests are being answered."""
        async with asyncio.timeout(30):
            while self.holding < count:
                await asyncio.sleep(0.01)

    async def ask(self, head: str, host: str = "127.0.0.1") -> bytes:
        """Send a head as it is; return everything that comes until the connection is closed."""
        reader, writer = await self.connect(host)
        writer.write(head.encode("latin-1"))
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        return answer

    async def status(self, path: str = "/", host: str = "127.0.0.1") -> int:
        answer = await self.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", host)
        return int(answer.split(b" ", 2)[1]) if answer else 0


@asynccontextmanager
async def serving(addresses: Addresses | None = None, **limits: int) -> AsyncIterator[Served]:
    app = FastAPI()
    made = Served(0)

    @app.get("/")
    async def root() -> str:
        return "here"

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.get("/held")
    async def held() -> str:
        made.holding += 1
        await made.let_go.wait()
        return "let go"

    bounds = {"requests_max": 20, "share_max": 10, "waiting_max": 50, "held_max": 200} | limits
    connections = Connections(addresses or Addresses(), **bounds)
    config = uvicorn.Config(app, port=0, http=protocol_for(connections), log_config=None, access_log=False, timeout_keep_alive=30)
    server = Server(config)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.01)
    made.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.let_go.set()
        server.should_exit = True
        await running


@asynccontextmanager
async def silent(served: Served, count: int, hosts: int = 1, said: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """Hold connections on which little or nothing was said, from so many addresses."""
    made = [await served.connect(f"127.0.1.{number % hosts + 1}") for number in range(count)]
    for _, writer in made:
        writer.write(said)
    try:
        yield [reader for reader, _ in made]
    finally:
        for _, writer in made:
            writer.close()


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
async def test_connections_on_which_nothing_is_asked_take_nobodys_place(said: bytes) -> None:
    async with serving() as served, silent(served, 150, hosts=5, said=said):
        for host in ("127.0.0.1", "127.0.1.1"):
            assert await served.status("/", host) == 200
            assert await served.status("/health", host) == 200


async def test_of_an_address_with_too_many_the_one_that_waited_longest_goes() -> None:
    async with serving() as served, silent(served, 60) as readers:
        async with asyncio.timeout(30):
            for reader in readers[:10]:
                assert await reader.read() == b""
        assert await served.status("/", "127.0.1.1") == 200
        assert not any(reader.at_eof() for reader in readers[20:])


async def test_when_all_are_taken_the_one_that_waited_longest_goes_whoever_has_it() -> None:
    async with serving(held_max=40) as served, silent(served, 60, hosts=20) as readers:
        assert await served.status() == 200
        async with asyncio.timeout(30):
            await readers[0].read()
        assert not readers[-1].at_eof()


async def test_requests_have_places_and_health_needs_none() -> None:
    async with serving(requests_max=4, share_max=4) as served:
        held = [asyncio.create_task(served.status("/held", f"127.0.2.{number + 1}")) for number in range(4)]
        await served.holds(4)
        assert await served.status() == 503
        assert await served.status("/health") == 200
        served.let_go.set()
        assert await asyncio.gather(*held) == [200] * 4
        assert await served.status() == 200


async def test_one_address_leaves_places_to_others() -> None:
    async with serving(requests_max=20, share_max=3) as served:
        held = [asyncio.create_task(served.status("/held")) for _ in range(3)]
        await served.holds(3)
        assert await served.status() == 429
        assert await served.status("/", "127.0.0.2") == 200
        served.let_go.set()
        assert await asyncio.gather(*held) == [200] * 3


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nHost: a\r\nX: " + "x" * HEAD_BYTES_MAX + "\r\n\r\n",
        "GET /" + "x" * HEAD_BYTES_MAX + " HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * (HEAD_BYTES_MAX // 6) + "\r\n",
    ],
)
async def test_a_head_has_an_end(head: str) -> None:
    async with serving() as served:
        assert (await served.ask(head)).startswith(b"HTTP/1.1 431 ")


async def test_a_head_without_end_is_not_kept() -> None:
    async with serving() as served:
        _, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(30):
                while True:
                    writer.write(b"x" * 4096)
                    await writer.drain()
        assert await served.status() == 200


@pytest.mark.parametrize(
    "hosts",
    ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n", "Host: a/b\r\n", "Host: a@b\r\n", "Host:\r\n", "Host: a b\r\n"],
)
async def test_a_request_names_one_host(hosts: str) -> None:
    async with serving() as served:
        answer = await served.ask(f"GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("host", ["example.org", "example.org:9000", "127.0.0.1:80", "[::1]:9000", "a_b"])
async def test_hosts_as_there_are(host: str) -> None:
    async with serving() as served:
        assert (await served.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await served.ask("GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_requests_are_not_piled_up_behind_one() -> None:
    async with serving() as served:
        answer = await served.ask("GET /held HTTP/1.1\r\nHost: a\r\n\r\n" * (PIPELINED_MAX + 2))
        assert answer == b""


async def test_keep_alive_goes_on_as_ever() -> None:
    async with serving() as served, AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}"))
        for _ in range(5):
            assert (await http.get("/")).text == '"here"'


# --- slow ones ------------------------------------------------------------------------------------------------------


@dataclass
class Transport:
    """What was written before it was closed."""

    written: bytes = b""
    closed: bool = False

    def write(self, data: bytes) -> None:
        """Remember it."""
        self.written += data

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class Fake(SimpleNamespace):
    """A connection as uvicorn has it."""

    __hash__ = object.__hash__


def connection(*, cycle: object = None, idle: bool = False) -> Any:
    """Return one, with a request on its way or none."""
    timer = object() if idle else None
    made = Fake(cycle=cycle, timeout_keep_alive_task=timer, transport=Transport())
    made.awaits_body = lambda cycle: IngestConnection.awaits_body(made, cycle)
    return made


def cycle(path: str, *, more_body: bool, complete: bool = False) -> object:
    """A request on its way."""
    return SimpleNamespace(scope={"path": path}, more_body=more_body, response_complete=complete)


@pytest.mark.parametrize(
    ("one", "ended"),
    [
        (connection(), True),  # no head yet
        (connection(idle=True), False),  # the server's own limit holds
        (connection(cycle=cycle("/v1/event", more_body=True)), True),
        (connection(cycle=cycle("/v1/event", more_body=False)), False),  # it is our turn
        (connection(cycle=cycle("/v1/events", more_body=True)), False),  # batches have limits of their own
        (connection(cycle=cycle("/v1/event", more_body=False, complete=True)), True),  # a second head that trickles in
        (connection(cycle=cycle("/v1/event", more_body=False, complete=True), idle=True), False),
    ],
)
def test_a_connection_that_does_not_get_on_is_ended(one: Any, ended: bool) -> None:
    waiting = look([one], {}, now=100.0)
    waiting = look([one], waiting, now=100.0 + HEAD_S)
    assert not one.transport.closed
    look([one], waiting, now=100.1 + HEAD_S)
    assert one.transport.closed is ended
    assert one.transport.written.startswith(SLOW) is ended


def test_a_connection_that_gets_on_is_left_alone() -> None:
    one = connection(cycle=cycle("/v1/event", more_body=True))
    waiting: Waiting = {}
    for beat in range(10):
        one.cycle = cycle("/v1/event", more_body=True)
        waiting = look([one], waiting, now=beat * HEAD_S)
        waiting = look([one], waiting, now=(beat + 0.9) * HEAD_S)
    assert not one.transport.closed


async def test_slow_connections_are_looked_for_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "HEAD_S", 0.02)
    monkeypatch.setattr(slow, "LOOK_S", 0.005)
    one = connection(cycle=cycle("/v1/event", more_body=True))
    guard = asyncio.create_task(slow.end_slow({one}))
    async with asyncio.timeout(30):
        while not one.transport.closed:
            await asyncio.sleep(0.005)
    guard.cancel()
