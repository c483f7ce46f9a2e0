"""Load on the telemetry app, from a process of its own: `python -m tests.bench.load PORT SECONDS KIND`.

32 keep-alive connections with one event or one look at the insights a request, or 4 with batches of 10,000 lines. Raw
sockets, prepared bytes: what the load costs is not the server's. Prints one JSON document.
"""

import asyncio
import gc
import json
import sys
from time import perf_counter
from typing import Any, ClassVar

import uuid_utils
import uvloop

from tests.support.telemetry import FINISHED

CONNECTIONS = 32
BATCHES = 4
LINES = 10_000
_EVENT = json.dumps(FINISHED, separators=(",", ":")).encode()
_BODY_BYTES = len(_EVENT) + len(',"event_id":""') + 36
_SINGLE = (
    b"POST /v1/event HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % _BODY_BYTES
    + _EVENT[:-1]
    + b',"event_id":"'
)
_INSIGHTS = b"GET /api/v1/stats/insights HTTP/1.1\r\nHost: bench\r\n\r\n"
_COMPARED = b"GET /api/v2/insights?limit=10 HTTP/1.1\r\nHost: bench\r\n\r\n"


class Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last is in."""

    expected = b"HTTP/1.1 202"
    until = 0.0
    took_s: ClassVar[list[float]] = []
    refused = 0

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send an event with an id of its own."""
        self.began = perf_counter()
        self.transport.write(_SINGLE + str(uuid_utils.uuid7()).encode() + b'"}')

    def data_received(self, data: bytes) -> None:
        """Take the answer; it has no body."""
        now = perf_counter()
        self.took_s.append(now - self.began)
        Client.refused += not data.startswith(self.expected)
        if now < self.until:
            self.send()
        else:
            self.transport.close()


class Reader(Client):
    """Reads the insights; an answer fits into what one read of a local socket brings."""

    expected = b"HTTP/1.1 200"
    request = _INSIGHTS

    def send(self) -> None:
        """Ask."""
        self.began = perf_counter()
        self.transport.write(self.request)


class Comparer(Reader):
    """Reads a page of version 2; head and body may come apart."""

    request = _COMPARED
    _answer = b""

    def data_received(self, data: bytes) -> None:
        """Take the answer when it is whole."""
        self._answer += data
        head, _, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length and len(body) >= int(length):
            whole, self._answer = self._answer, b""
            super().data_received(whole)


async def single(port: int, seconds: float, kind: type[Client] = Client) -> dict[str, float]:
    """Return requests/s and how long answers took."""
    loop = asyncio.get_running_loop()
    Client.until = perf_counter() + seconds
    for _ in range(CONNECTIONS):
        await loop.create_connection(kind, "127.0.0.1", port)
    await asyncio.sleep(seconds + 0.5)
    took = sorted(Client.took_s)
    return {
        "rate": len(took) / seconds,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[len(took) * 99 // 100],
        "refused": Client.refused,
    }


async def insights(port: int, seconds: float) -> dict[str, float]:
    """Return reads/s and how long answers took."""
    return await single(port, seconds, Reader)


async def compared(port: int, seconds: float) -> dict[str, float]:
    """Return reads/s of version 2 and how long answers took."""
    return await single(port, seconds, Comparer)


async def batch(port: int, seconds: float) -> dict[str, float]:
    """Return events/s."""
    body = (_EVENT + b"\n") * LINES
    head = b"POST /v1/events HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    accepted = refused = 0
    began = perf_counter()

    async def send() -> None:
        nonlocal accepted, refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while perf_counter() < began + seconds:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            counts = json.loads(await reader.readexactly(length))
            accepted += counts["accepted"]
            refused += counts.get("refused", LINES)
        writer.close()

    await asyncio.gather(*(send() for _ in range(BATCHES)))
    return {"rate": accepted / (perf_counter() - began), "accepted": accepted, "refused": refused}


KINDS = {"single": single, "batch": batch, "insights": insights, "compared": compared}

if __name__ == "__main__":
    gc.disable()
    print(json.dumps(uvloop.run(KINDS[sys.argv[3]](int(sys.argv[1]), float(sys.argv[2])))))
