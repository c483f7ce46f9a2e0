"""An app behind real connections, in the test's own process, with limits that the test chooses."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn

from api.addresses import Addresses, Network
from api.connections import Connection, Limits, connection_class
from tests.support.waiting import eventually


@dataclass
class Served:
    """The port of the server, and how many connections it has ended, by reason."""

    port: int
    ended: Counter[str] = field(default_factory=Counter)
    server: Any = None

    async def ask(self, head: str, *, source: str = "127.0.0.1") -> bytes:
        """Send this, with CRLF for its ends of lines, from an address of this machine; return all that comes back."""
        reader, writer = await self.connect(source)
        writer.write(head.replace("\n", "\r\n").encode("latin-1"))
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def get(self, path: str, *, source: str = "127.0.0.1") -> int:
        """Return the status with which a request is answered."""
        answer = await self.ask(f"GET {path} HTTP/1.1\nHost: h\nConnection: close\n\n", source=source)
        return int(answer.split(b" ", 2)[1])

    async def connect(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect from an address of this machine."""
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))

    async def crowd(self, count: int, data: bytes = b"", *, sources: Sequence[str] = ("127.0.0.1",)) -> list[Any]:
        """Open so many connections that send this and no more."""
        opened = []
        for number in range(count):
            reader, writer = await self.connect(sources[number % len(sources)])
            writer.write(data)
            opened.append((reader, writer))
        return opened


@asynccontextmanager
async def served(
    app: Any,
    *,
    trusted: Sequence[Network] = (),
    kind: type[Connection] = Connection,
    config: dict[str, Any] | None = None,
    **limits: Any,
) -> AsyncIterator[Served]:
    """Serve the app at a port of this machine."""
    found = Served(0)
    http = connection_class(replace(Limits(), **limits), Addresses(trusted), lambda reason: found.ended.update([reason]), kind)
    options: dict[str, Any] = {"lifespan": "off", "timeout_graceful_shutdown": 1} | (config or {})
    options |= {"http": http, "ws": "none", "log_config": None, "access_log": False, "proxy_headers": False, "server_header": False}
    found.server = server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", **({"port": 0} | options)))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started or serving.done())
    assert server.started
    found.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.should_exit = True
        await serving
