"""Workers that tick, from a process of their own: `python -m tests.bench.crowd PORT SECONDS RUNS`, their claims on stdin.

Each has a connection, says once a second how far it is and gives a sign of life every ten seconds. Raw sockets, prepared
bytes: what the load costs is not the server's. An answer is late by what has gone by since its request was due, so that a
server which holds the crowd up does not look fast. Prints one JSON document a run.
"""

import asyncio
import gc
import json
import sys
from functools import partial
from time import perf_counter
from typing import Any

import httptools
import uvloop

TICK_S = 1.0
HEARTBEAT_S = 10.0
WARM_UP_S = 2.0


class Worker(asyncio.Protocol):
    """One worker; it sends the next request when the answer to the last is in and the next is due."""

    def __init__(self, number: int, claim: dict[str, Any], began: float, late_s: list[float]) -> None:
        self._tick = request(
            f"/api/worker/{claim['job_id']}/progress",
            claim["key"],
            {"epoch": claim["epoch"], "current_step": "encode", "progress_percent": 50.0},
        )
        self._beat = request("/api/worker/heartbeat", claim["key"], {"status": "busy", "job_ids": [claim["job_id"]]})
        self._ticks = number
        self._due = began + TICK_S * claim["share"]
        self._late_s = late_s
        self._ticking = False

    def connection_made(self, transport: Any) -> None:
        """Wait for the first moment."""
        self._transport = transport
        self._plan()

    def _plan(self) -> None:
        asyncio.get_running_loop().call_later(max(0.0, self._due - perf_counter()), self._send, self._tick)

    def _send(self, request: bytes) -> None:
        self._ticking = request is self._tick
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def connection_lost(self, error: Exception | None) -> None:
        """End the crowd: the server was to keep every worker."""
        sys.exit(f"the worker app closed a connection: {error}")

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Take an answer. Anything but a success ends the crowd."""
        if self._parser.get_status_code() != 200:
            sys.exit(f"the worker app answered {self._parser.get_status_code()}")
        if not self._ticking:
            self._plan()
            return
        self._late_s.append(perf_counter() - self._due)
        self._due += TICK_S
        self._ticks += 1
        if self._ticks % round(HEARTBEAT_S / TICK_S) == 0:
            self._send(self._beat)
        else:
            self._plan()


def request(path: str, key: str, body: dict[str, Any]) -> bytes:
    """Return a request as it goes over the wire. Pure."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-Worker-API-Key: {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def crowd(port: int, seconds: float, runs: int, claims: list[dict[str, Any]]) -> None:
    """Let everybody work; after a while of warming up, report each run."""
    loop = asyncio.get_running_loop()
    late_s: list[float] = []
    began = perf_counter() + 1.0
    for number, claim in enumerate(claims):
        await loop.create_connection(
            partial(Worker, number, claim | {"share": number / len(claims)}, began, late_s),
            "127.0.0.1",
            port,
        )
    await asyncio.sleep(WARM_UP_S)
    for _ in range(runs):
        late_s.clear()
        print(json.dumps({"began": True}), flush=True)
        since = perf_counter()
        await asyncio.sleep(seconds)
        took, found = perf_counter() - since, sorted(late_s)
        p50, p99 = (1000 * found[int(len(found) * share)] for share in (0.5, 0.99))
        print(json.dumps({"rate": len(found) / took, "p50_ms": p50, "p99_ms": p99}), flush=True)


if __name__ == "__main__":
    gc.disable()
    uvloop.run(crowd(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), json.load(sys.stdin)))
