"""A network between a client and a server: it passes bytes on, late, half, or not at all, as the test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

PIECE_BYTES = 65_536


class Wire:
    """Connections to one server. Every piece of what they carry is `delay_s` late."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._state: Literal["whole", "cut", "half"] = "whole"
        self._mended = asyncio.Event()
        self._near: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()
        self.delay_s = 0.0
        self.url = ""

    def cut(self) -> None:
        """Break every connection, and every new one."""
        self._state = "cut"
        self._mended.clear()
        for writer in self._near | self._far:
            writer.transport.abort()

    def half_open(self) -> None:
        """Let the server see every connection broken and the client see nothing: what it says goes nowhere."""
        self._state = "half"
        self._mended.clear()
        for writer in self._far:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through; those that hang are broken, as by a router that does not know them any more."""
        self._state = "whole"
        self._mended.set()

    async def handle(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        self._near.add(near)
        try:
            if self._state == "whole":
                with suppress(OSError):
                    await self._carry(reader, near)
            if self._state == "half":
                await self._mended.wait()
        finally:
            self._near.discard(near)
            near.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        answer, far = await asyncio.open_connection(*self._server)
        self._far.add(far)
        ways = [asyncio.create_task(self._pass(reader, far)), asyncio.create_task(self._pass(answer, near))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._far.discard(far)
            far.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def wire(host: str, port: int) -> AsyncIterator[Wire]:
    """Yield a wire to a server; `url` is where it begins."""
    opened = Wire(host, port)
    server = await asyncio.start_server(opened.handle, "127.0.0.1", 0)
    opened.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield opened
    finally:
        server.close()
        opened.cut()
        opened.mend()
