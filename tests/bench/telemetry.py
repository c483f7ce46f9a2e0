"""How many events a second the telemetry app puts on the log, each acknowledged before its answer; and what that costs.

Everything is on: limits, validation, anonymity, ids of the clients' own. The limit is only higher than the load.
"""

import asyncio
import json
import sys
from collections.abc import Sequence

import psutil

from infra.runtime.settings import Settings
from tests.bench.figures import Figure
from tests.support.platform import ROOT
from tests.support.telemetry_server import TelemetryServer

RUNS = 3
SECONDS = 5.0
FLAT_EVENTS = 5_000_000
FLAT_SECONDS = 8.0


class StubbedServer(TelemetryServer):
    """The same server with the producer stubbed out."""

    command = ("-m", "tests.bench.telemetry_stub", "telemetry")


async def load(server: TelemetryServer, seconds: float, kind: str) -> dict[str, float]:
    """Run the load and return what it measured."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.load", str(server.port), str(seconds), kind),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found: dict[str, float] = json.loads(output)
    assert found["refused"] == 0, found
    return found


async def telemetry_ingest(settings: Settings) -> Sequence[Figure]:
    """Return the rates of single events and batches, with the stubbed server's in the same run, and the memory."""
    singles, p99s, stubs = [], [], []
    async with TelemetryServer(settings) as server:
        async with StubbedServer(settings) as stub:
            for each in (server, stub):
                await load(each, 1, "single")
            for _ in range(RUNS):
                found = await load(server, SECONDS, "single")
                singles.append(found["rate"])
                p99s.append(found["p99_ms"])
                stubs.append((await load(stub, SECONDS, "single"))["rate"])
        batches = [(await load(server, SECONDS, "batch"))["rate"] for _ in range(RUNS)]
        growth = await _growth(server)
    return [
        Figure("telemetry, one event a request", "events/s", singles, 20_000),
        Figure("telemetry, one event a request, p99", "ms", p99s, 10, at_least=False),
        Figure("telemetry, of the server without a producer", "events/s", singles, 0.5, baseline=stubs),
        Figure("telemetry, batches", "events/s", batches, 200_000),
        Figure("telemetry, memory after 5,000,000 events more", "ratio", [growth], 1.1, at_least=False),
    ]


async def _growth(server: TelemetryServer) -> float:
    """Return memory after FLAT_EVENTS divided by memory before; the runs before have warmed it up."""
    process = psutil.Process(server.process.pid)
    before, sent = process.memory_info().rss, 0.0
    while sent < FLAT_EVENTS:
        sent += (await load(server, FLAT_SECONDS, "batch"))["accepted"]
    return process.memory_info().rss / before
