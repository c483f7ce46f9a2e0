"""The one connection class of every app, and its limits before a request is complete and after its answer.

uvicorn handles the requests; this module limits how much a client may send, and how long it may keep the server waiting.
Limited are the bytes and headers of a head and the time that it takes, the wait for a first byte and for the next request,
and the waiting connections per address and in total. No client is refused for exceeding the last two: the connection that has
waited longest ends, of the address with most of them. So newcomers, and `/health`, always get in.

One pass over all connections per second costs requests nothing; a timer per request would add a tenth to its time.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.addresses import UNKNOWN, Addresses
from api.middleware import PLAIN
from api.problems import TYPE, problem

HEALTH = "/health"
"""Answered whatever the number of requests in progress."""
HEADERS_MAX = 100
PIPELINED_MAX = 100
LOOK_S = 1.0
PIECE_BYTES = 16 * 1024
"""A read brings up to 256 KiB; heads are counted in pieces of this size."""
ROOM = 0.9
"""Excess waiting connections are ended at once, down to this share of all connections."""
_HOST = re.compile(rb"[A-Za-z0-9._~%:\[\]-]{1,255}")

IDLE, HEAD, BODY, READING = range(4)
"""Goal of a connection's wait: a request, the rest of a head, the rest of a body, or a client that reads."""
SLOW, CROWDED = "slow", "crowded"
"""Reasons for ending connections."""


class Refused(Exception):
    """The head is refused; the protocol keeps the reason."""


@dataclass(frozen=True)
class Limits:
    """Limits of numbers, sizes and times. Times in seconds."""

    connections_max: int = 8000
    waiting_per_address_max: int = 256
    requests_max: int = 500
    head_bytes_max: int = 32 * 1024
    head_s: float = 10.0
    first_byte_s: float = 10.0
    idle_s: float = 30.0


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request beyond the limit of concurrent requests."""
    headers = {"Retry-After": "2", "Connection": "close"}
    await problem(503, "too many requests are being answered; try again in a moment", headers=headers)(scope, receive, send)


class Crowd:
    """All connections of a server. `ended` receives the reason for each end."""

    def __init__(self, limits: Limits, addresses: Addresses, ended: Callable[[str], None]) -> None:
        self.limits = limits
        self.addresses = addresses
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None

    def joined(self, connections: "Collection[Any]", loop: asyncio.AbstractEventLoop) -> None:
        """Make room for a new connection, and check regularly from now on."""
        if len(connections) > self.limits.connections_max:
            self.look(connections, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._look_again, connections, loop)

    def _look_again(self, connections: "Collection[Any]", loop: asyncio.AbstractEventLoop) -> None:
        self.look(connections, loop.time())
        self._timer = loop.call_later(LOOK_S, self._look_again, connections, loop) if connections else None

    def look(self, connections: "Collection[Any]", now: float) -> None:
        """End connections that have waited too long for their clients, and the longest waiting where there are too many."""
        waiting: dict[str, list[Any]] = defaultdict(list)
        for connection in tuple(connections):
            if connection.transport.is_closing() or not connection.waits(now):
                continue
            if now - connection.since > connection.patience_s():
                self._end(connection, SLOW)
            elif not self.addresses.is_trusted(connection.peer):
                waiting[connection.group].append(connection)
        for group in waiting.values():
            group.sort(key=_longest_last)
            while len(group) > self.limits.waiting_per_address_max and group[-1].since < now:
                self._end(group.pop(), CROWDED)  # a newcomer's request may be here, unread
        if len(connections) > self.limits.connections_max:
            self._make_room(waiting.values(), len(connections) - int(self.limits.connections_max * ROOM))

    def _make_room(self, groups: Iterable[list[Any]], excess: int) -> None:
        """End `excess` waiting connections, first those of the addresses with the most."""
        by_size: dict[int, list[list[Any]]] = defaultdict(list)
        for group in groups:
            by_size[len(group)].append(group)
        for size in range(max(by_size, default=0), 0, -1):
            for group in by_size[size]:
                if excess <= 0:
                    return
                self._end(group.pop(), CROWDED)
                excess -= 1
                by_size[size - 1].append(group)

    def _end(self, connection: Any, reason: str) -> None:
        self._ended(reason)
        connection.end()


def _longest_last(connection: Any) -> tuple[bool, float]:
    """Sort key: a connection with a request in progress ends after those without one."""
    return connection.wanted in (IDLE, HEAD), -connection.since


class Connection(HttpToolsProtocol):
    """A uvicorn connection with limits; `connection_class` gives it its crowd."""

    crowd: Crowd
    peer = group = UNKNOWN
    wanted, since = IDLE, 0.0
    _number = 0
    """Number of requests begun."""
    _seen: tuple[int, int] | None = None
    _in_head = False
    _hosts = 0
    _pending_bytes = 0
    """Bytes since the last complete head or piece of a body."""
    _refusal = (400, "this is not HTTP as it is spoken here")
    _refused = False
    """The refusal follows the answers to earlier requests; nothing more is read."""

    def connection_made(self, transport: Any) -> None:
        """Join the crowd."""
        super().connection_made(transport)
        self.limit_concurrency = None  # requests are counted in `_start_asgi_task`, connections by the crowd
        self.peer = self.client[0] if self.client else UNKNOWN
        self.group = self.crowd.addresses.group(self.peer) if ":" in self.peer else self.peer
        self.crowd.joined(self.connections, self.loop)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def waits(self, now: float) -> bool:
        """Return whether it is the client's turn; note the awaited goal, and the time."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            wanted = HEAD if self._in_head else IDLE
        elif self.flow.write_paused:
            wanted = READING
        elif cycle.more_body and not self.flow.read_paused:
            wanted = BODY
        else:
            self._seen = None
            return False
        if self._seen != (wanted, self._number):
            self._seen, self.wanted, self.since = (wanted, self._number), wanted, now
        return True

    def patience_s(self) -> float:
        """Return the maximum wait in seconds; bodies and readers have their limits in the app."""
        limits = self.crowd.limits
        if self.wanted == HEAD:
            return limits.head_s
        if self.wanted == IDLE:
            return limits.idle_s if self._number else limits.first_byte_s
        return float("inf")

    def end(self) -> None:
        """End the connection, with an answer to a client that has begun a request. Do not wait for one that does not read."""
        if self.wanted == HEAD or (self.wanted == BODY and not self.cycle.response_started):
            self._refuse(408, "the request did not arrive in time")
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # --- reading ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse the data; discard bytes that lead to nothing."""
        for start in range(0, len(data), PIECE_BYTES):
            if self._refused or self.transport.is_closing():
                return
            piece = data if len(data) <= PIECE_BYTES else data[start : start + PIECE_BYTES]
            self._pending_bytes += len(piece)
            super().data_received(piece)
            if self._pending_bytes > self.crowd.limits.head_bytes_max and not self.transport.is_closing():
                self._refusal = 431, f"a head has at most {self.crowd.limits.head_bytes_max} bytes"
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True
        self._number += 1
        self._hosts = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers after a body are left out."""
        if not self._in_head:
            return
        if len(self.headers) >= HEADERS_MAX:
            self._refusal = 431, f"a request has at most {HEADERS_MAX} headers"
            raise Refused
        name = name.lower()
        if name == b"host":
            self._hosts = self._hosts + 1 if _HOST.fullmatch(value) else -HEADERS_MAX
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin the request, if it names its host exactly once."""
        self._in_head, self._pending_bytes = False, 0
        if self._hosts != 1 and not (self._hosts == 0 and self.parser.get_http_version() == "1.0"):
            self._refusal = 400, "a request names one host, in one header `Host`"
            raise Refused
        if len(self.pipeline) >= PIPELINED_MAX:
            self._refusal = 429, f"at most {PIPELINED_MAX} requests are sent ahead of their answers"
            raise Refused
        self.begin_request()

    def begin_request(self) -> None:
        """Begin the request whose head is complete."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._pending_bytes = 0
        super().on_body(body)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer in HTTP/1.1, without a log line."""

    # --- answering --------------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if len(self.tasks) >= self.crowd.limits.requests_max and cycle.scope["path"] != HEALTH:
            app = overloaded
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Begin the next request, if it has arrived."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refused:
            self._refuse(*self._refusal)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse the input and end; complete requests before it are answered first."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._refused = True
            return
        if cycle is None or cycle.response_complete or not (cycle.response_started or self.pipeline):
            self._refuse(*self._refusal)
        self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        """Write a problem, the last answer of this connection."""
        body = bytes(problem(status, detail).body)
        again = ((b"retry-after", b"1"),) if status == 429 else ()
        length = (b"content-length", b"%d" % len(body))
        fields = (*PLAIN, *again, (b"content-type", TYPE.encode()), length, (b"connection", b"close"))
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n", body)))


def connection_class(
    limits: Limits, addresses: Addresses, ended: Callable[[str], None], kind: type[Connection] = Connection
) -> type[Connection]:
    """Return the class to give uvicorn as `http`."""
    return type(kind.__name__, (kind,), {"crowd": Crowd(limits, addresses, ended)})
