"""Live status over real connections: who does not read is dropped with the reason, and nobody else notices."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from api.admin.live.hub import Hub
from tests.support.apps import TOKEN, make
from tests.support.live import Heard, parse, percents, running, tick
from tests.support.memory_log import MemoryLog

KEPT = 50
MESSAGES = 1000
BUFFER_BYTES = 4096
"""Of the sockets on both sides: the kernel keeps no more than a few messages, so that the server sees who does not read."""


@asynccontextmanager
async def served(hub: Hub) -> AsyncIterator[int]:
    """Serve the admin app at a port of this machine; yields the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)  # connections inherit it
    config = uvicorn.Config(make("admin", live=hub), log_config=None, access_log=False, timeout_graceful_shutdown=30)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        hub.stop()
        server.should_exit = True
        await serving


class Listener:
    """One connection. It reads when the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.heard: list[Heard] = []

    @classmethod
    async def open(cls, port: int, last: str) -> "Listener":
        """Connect, and go on after a message."""
        connecting = socket.socket()
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=connecting, limit=BUFFER_BYTES)
        head = f"GET /api/events/progress HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nLast-Event-ID: {last}\r\n\r\n"
        writer.write(head.encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    async def hear(self, count: int) -> list[Heard]:
        """Read until that many messages about jobs came, or the server ended the stream."""
        while len(percents(self.heard)) < count:
            size = int(await self._reader.readline(), 16)
            self.heard += parse((await self._reader.readexactly(size + 2))[:size])
            if not size:
                break
        return self.heard


async def test_who_does_not_read_is_dropped_while_others_hear_everything() -> None:
    log = MemoryLog()
    async with running(log, kept_max=KEPT) as hub, asyncio.timeout(60):
        await hub.progress.news(1)
        start = hub.progress.id_of(hub.progress.reached)
        async with served(hub) as port:
            slow, fast = await Listener.open(port, start), await Listener.open(port, start)
            for number in range(0, MESSAGES, KEPT // 2):
                await log.append(*(tick(n) for n in range(number, number + KEPT // 2)))
                await fast.hear(number + KEPT // 2)
            heard = await slow.hear(MESSAGES)
            again = await Listener.open(port, [one.id for one in heard if one.id][-1])
            rest = await again.hear(MESSAGES - len(percents(heard)))
            for listener in (slow, fast, again):
                listener.writer.close()

    everything = [float(number) for number in range(MESSAGES)]
    assert percents(fast.heard) == everything
    assert heard[-1].event == "dropped" and "too slow" in heard[-1].data["reason"]
    assert 0 < len(percents(heard)) < MESSAGES // 2, "most of it was never buffered"
    assert percents(heard) + percents(rest) == everything, "who comes back gets the rest, without gap or repetition"
    assert hub.listeners == 0
