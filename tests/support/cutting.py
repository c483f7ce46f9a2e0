"""A TCP proxy that cuts connections: what a service looks like from behind a bad network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BLOCK_BYTES = 65_536


@dataclass
class Proxy:
    """`endpoint` is the proxy's own address. Each connection takes the next of `cuts`: how many bytes of answers it lets by."""

    endpoint: str
    cuts: list[int] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def cutting(endpoint: str, *cuts: int) -> AsyncIterator[Proxy]:
    """Stand in front of a service while the block runs; connections after those of `cuts` are left whole."""
    target = urlsplit(endpoint)
    proxy = Proxy("", list(cuts))
    tasks: set[asyncio.Task[None]] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        proxy.connections += 1
        allowed = proxy.cuts.pop(0) if proxy.cuts else None
        upstream_reader, upstream_writer = await asyncio.open_connection(target.hostname, target.port)
        there = asyncio.create_task(_copy(reader, upstream_writer, None))
        back = asyncio.create_task(_copy(upstream_reader, writer, allowed))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copying in (there, back):
                copying.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            for closing in (writer, upstream_writer):
                closing.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: int | None) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(BLOCK_BYTES):
            if allowed is not None:
                data, allowed = data[:allowed], allowed - len(data)
            writer.write(data)
            await writer.drain()
            if allowed is not None and allowed <= 0:
                return
