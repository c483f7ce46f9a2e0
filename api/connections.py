"""The server's side of a connection, the same for every app: what a client may hold without asking for anything.

uvicorn keeps a connection for as long as nothing is asked on it, reads a head of any length, and counts every connection
against the requests that it answers at once: some hundred silent ones shut everybody out. Here a head has an end, in bytes
and in seconds; waiting costs no place, and of one address the connection that has waited longest goes when there are too
many. Requests have places; `/health` needs none.

A look around once a second costs the requests nothing, where a timer for each would cost a tenth of the time they take.
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.addresses import UNKNOWN, Addresses
from api.problems import problem

HEAD_BYTES_MAX = 32 * 1024
HEAD_S = 10.0
"""For a whole head, from the first moment that it is the client's turn; also for the body of one telemetry event."""
LOOK_S = 1.0
HEADER_SIGNS = 4
"""Colon, space and the end of the line."""
PIPELINED_MAX = 16
"""Requests on one connection that wait for the answer to the one before."""
WAITING_MAX = 4_000
"""Connections of one address that wait: more than come in one burst."""
HELD_MAX = 15_000
"""Connections at all, where the system grants as many open files."""
FILES_KEPT = 500
"""Open files for everything else."""
IDLE_S = 30
"""A connection without a request is closed after this."""
SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
HOST = re.compile(rb"[A-Za-z0-9._~-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")

Waiting = dict[Any, tuple[Any, float]]
"""By connection: its request, and the time in seconds at which it was first seen to wait for more of it."""


class Connections:
    """The connections of one server. `requests_max` are answered at once, `share_max` of them for one address."""

    def __init__(
        self,
        addresses: Addresses,
        *,
        requests_max: int,
        share_max: int,
        waiting_max: int = WAITING_MAX,
        held_max: int = HELD_MAX,
    ) -> None:
        self._addresses = addresses
        self._requests_max = requests_max
        self._share_max = share_max
        self._waiting_max = waiting_max
        self._held_max = held_max
        self._all: dict[Connection, None] = {}  # in the order in which they came
        self._of: dict[str, dict[Connection, None]] = {}

    def add(self, connection: "Connection") -> None:
        """Take a connection in; let the longest waiting go when there are too many."""
        scope = {"client": connection.client, "headers": ()}
        connection.address = "" if self._addresses.trusts(scope) else self._addresses.of(scope)
        mine = self._of.setdefault(connection.address, {})
        mine[connection] = self._all[connection] = None
        if connection.address and len(mine) > self._waiting_max:
            _thin(mine, self._waiting_max)
        if len(self._all) > self._held_max:
            _thin(self._all, self._held_max - sum(not one.waits for one in self._all))

    def remove(self, connection: "Connection") -> None:
        """A connection has ended."""
        self._all.pop(connection, None)
        mine = self._of.get(connection.address, {})
        mine.pop(connection, None)
        if not mine:
            self._of.pop(connection.address, None)

    def refusal(self, connection: "Connection") -> ASGIApp | None:
        """Return what answers instead of the app when there is no place for one more request."""
        if len(connection.tasks) >= self._requests_max:
            return problem(503, "as many requests as can be answered at once are being answered; try again", headers=_AGAIN)
        mine = self._of.get(connection.address, {})
        if connection.address and len(mine) > self._share_max and sum(not one.waits for one in mine) >= self._share_max:
            return problem(429, "too many requests at once from this address; wait for the answers", headers=_AGAIN)
        return None


_AGAIN = {"Retry-After": "5"}
_CLOSE = {"Connection": "close"}


def _thin(connections: "dict[Connection, None]", most: int) -> None:
    """Close the connections that have waited longest until `most` wait."""
    waiting = [one for one in connections if one.waits]
    for one in waiting[: max(0, len(waiting) - max(most, 0))]:
        one.transport.close()


class Connection(HttpToolsProtocol):
    """One connection. `connections` is the server's, set by `protocol_for`."""

    connections_of_server: Connections
    address = UNKNOWN
    _head_bytes = 0

    @property
    def waits(self) -> bool:
        """Whether no request is being read or answered on it."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in."""
        super().connection_made(transport)
        self.connections_of_server.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it go."""
        self.connections_of_server.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head without end is not kept."""
        if self.waits:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES_MAX and self.waits and not self.transport.is_closing():
            self.transport.write(TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless there were too many bytes of them."""
        self._header_bytes += len(name) + len(value) + HEADER_SIGNS
        if self._header_bytes <= HEAD_BYTES_MAX:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request, or answer it here."""
        self._head_bytes = 0
        if len(self.pipeline) >= PIPELINED_MAX:
            self.transport.close()
            return
        refusal = self.refusal()
        if refusal is None:
            super().on_headers_complete()
            return
        usual: Any = refusal
        app, self.app = self.app, usual
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def refusal(self) -> ASGIApp | None:
        """Return what answers instead of the app, None for a request that may pass."""
        if self._header_bytes + len(self.url) > HEAD_BYTES_MAX:
            return problem(431, f"the request's head is longer than {HEAD_BYTES_MAX} bytes", headers=_CLOSE)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and self.parser.get_http_version() == "1.1") or not all(map(HOST.fullmatch, hosts)):
            return problem(400, "send one Host header, with a name or address and perhaps a port", headers=_CLOSE)
        return None if self.url == b"/health" else self.connections_of_server.refusal(self)

    def awaits_body(self, cycle: Any) -> bool:
        """Tell whether a body that does not get on is ended here; the apps have limits of their own."""
        return False


def protocol_for(connections: Connections, kind: type[Connection] = Connection, **more: Any) -> type[Connection]:
    """Return the class to give uvicorn as `http`; `more` are attributes of a kind of its own."""
    return type(kind.__name__, (kind,), {"connections_of_server": connections, **more})


class Server(uvicorn.Server):
    """A server that ends connections whose request does not get on."""

    async def serve(self, sockets: list[Any] | None = None) -> None:
        """Serve until SIGTERM."""
        ending = asyncio.create_task(end_slow(self.server_state.connections), name="slow connections")
        try:
            await super().serve(sockets)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def end_slow(connections: Iterable[Any]) -> None:
    """Look at the connections of a `uvicorn.Server` for ever."""
    clock = asyncio.get_running_loop().time
    waiting: Waiting = {}
    while True:
        waiting = look(connections, waiting, now=clock())
        await asyncio.sleep(LOOK_S)


def look(connections: Iterable[Any], waiting: Waiting, *, now: float) -> Waiting:
    """End those that wait for one request for longer than `HEAD_S`; return which wait for what, and since when."""
    still: Waiting = {}
    for connection in tuple(connections):
        if not _waits_for_client(connection):
            continue
        cycle, since = waiting.get(connection, (None, now))
        if cycle is not connection.cycle:
            since = now
        still[connection] = connection.cycle, since
        if now - since > HEAD_S:
            connection.transport.write(SLOW)
            connection.transport.close()
    return still


def _waits_for_client(connection: Any) -> bool:
    """Tell whether it is the client's turn to send, and no other limit holds."""
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return connection.timeout_keep_alive_task is None  # some of a head has come, or a first one is due
    return bool(connection.awaits_body(cycle))
