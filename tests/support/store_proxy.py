"""Stands before the object store and refuses writes on demand, as a store that is full or overloaded does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 65_536
READ_BYTES = 65_536
REFUSALS = {
    503: b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    507: b"",
}


class StoreProxy:
    """One request a connection. While `refuses` is a status, every PUT is answered with it; `refused` counts them."""

    def __init__(self, endpoint: str) -> None:
        self._upstream = urlsplit(endpoint)
        self.refuses: int | None = None
        self.refused = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one request on, or refuse it."""
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):  # whoever asked has gone: its own affair
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
            length = int(fields.get(b"content-length", b"0"))
            if self.refuses is not None and head.startswith(b"PUT "):
                await reader.readexactly(length)
                self.refused += 1
                writer.write(self._refusal(self.refuses))
            else:
                await self._pass_on(b"\r\n".join([*lines, b"Connection: close", b"", b""]), length, reader, writer)
            await writer.drain()

    def _refusal(self, status: int) -> bytes:
        body = REFUSALS[status]
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
        return head.encode() + b"\r\n\r\n" + body

    async def _pass_on(self, head: bytes, length: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer, request = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        with closing(request):
            request.write(head)
            while length and (piece := await reader.read(min(length, READ_BYTES))):
                request.write(piece)
                await request.drain()
                length -= len(piece)
            while piece := await answer.read(READ_BYTES):
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def store_proxy(endpoint: str) -> AsyncIterator[tuple[StoreProxy, str]]:
    """Yield a proxy before the store, and its address."""
    proxy = StoreProxy(endpoint)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    try:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
