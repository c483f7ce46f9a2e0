"""How many events a second the telemetry app puts on the log, each acknowledged before its answer; and what that costs.

Everything is on: limits, validation, anonymity, ids of the clients' own. The limit is only higher than the load. On two
cores, what the load itself and the broker take is as much of a bound as the app: their shares are reported, too.
"""

import asyncio
import json
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter

import psutil

from infra.runtime import postgres
from infra.runtime.log_consumer import open_log
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.folding.runner import install
from projections.telemetry import projection as telemetry
from tests.bench.figures import Figure
from tests.support.platform import ROOT, environment
from tests.support.telemetry_server import TelemetryServer

RUNS = 3
SECONDS = 5.0
FLAT_EVENTS = 5_000_000
FLAT_SECONDS = 8.0


class StubbedServer(TelemetryServer):
    """The same server with the producer stubbed out."""

    command = ("-m", "tests.bench.telemetry_stub", "telemetry")


async def load(port: int, seconds: float, kind: str) -> dict[str, float]:
    """Run the load and return what it measured."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.load", str(port), str(seconds), kind),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found: dict[str, float] = json.loads(output)
    assert found["refused"] == 0, found
    return found


async def telemetry_ingest(settings: Settings) -> Sequence[Figure]:
    """Return the rates of single events and batches, with the stubbed server's in the same run, and the memory."""
    singles, p99s, stubs, stub_p99s, batches, stub_batches = [], [], [], [], [], []
    cpu = Cpu(settings)
    async with TelemetryServer(settings) as server:
        async with StubbedServer(settings) as stub:
            for each in (server, stub):
                await load(each.port, 1, "single")
            for _ in range(RUNS):
                with cpu.of(server):
                    found = await load(server.port, SECONDS, "single")
                singles.append(found["rate"])
                p99s.append(found["p99_ms"])
                found = await load(stub.port, SECONDS, "single")
                stubs.append(found["rate"])
                stub_p99s.append(found["p99_ms"])
                batches.append((await load(server.port, SECONDS, "batch"))["rate"])
                stub_batches.append((await load(stub.port, SECONDS, "batch"))["rate"])
        growth = await _growth(server)
        alone, beside = await _beside_rebuild(server)
    return [
        Figure("telemetry, one event a request, of a server without a log", "events/s", singles, 0.7, baseline=stubs),
        Figure("the same, p99", "ms", p99s, 2, at_least=False, baseline=stub_p99s),
        *cpu.figures(),
        Figure("telemetry, batches, of a server without a log", "events/s", batches, 0.7, baseline=stub_batches),
        Figure("telemetry, memory after 5,000,000 events more", "ratio", [growth], 1.1, at_least=False),
        Figure("telemetry, p99 while a rebuild runs against without", "ms", beside, 2, at_least=False, baseline=alone),
    ]


class Cpu:
    """Of how many cores the app, the broker, and the load with what starts it made use, run by run."""

    def __init__(self, settings: Settings) -> None:
        port = int(settings.kafka_bootstrap.rsplit(":", 1)[1])
        listening = (found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN)
        self._broker = next(found.pid for found in listening if found.pid and found.laddr and found.laddr.port == port)
        self.shares: dict[str, list[float]] = {"app": [], "broker": [], "load": []}

    @contextmanager
    def of(self, server: TelemetryServer) -> Iterator[None]:
        """Measure one run."""
        before, begun = self._seconds(server), perf_counter()
        yield
        took = perf_counter() - begun
        for name, seconds in self._seconds(server).items():
            self.shares[name].append((seconds - before[name]) / took)

    def _seconds(self, server: TelemetryServer) -> dict[str, float]:
        def of(pid: int) -> float:
            times = psutil.Process(pid).cpu_times()
            return times.user + times.system

        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"app": of(server.process.pid), "broker": of(self._broker), "load": children.ru_utime + children.ru_stime}

    def figures(self) -> list[Figure]:
        """Return what was measured."""
        return [Figure(f"telemetry, one event a request, {name}", "cores", shares) for name, shares in self.shares.items()]


async def _beside_rebuild(server: TelemetryServer) -> tuple[list[float], list[float]]:
    """Return the p99s without and with `kinolog rebuild telemetry` at work, in turns; between them it is stopped."""
    alone, beside = [], []
    async with rebuilding(server.settings) as rebuild:
        for _ in range(RUNS):
            rebuild.send_signal(signal.SIGSTOP)
            alone.append((await load(server.port, SECONDS, "single"))["p99_ms"])
            rebuild.send_signal(signal.SIGCONT)
            beside.append((await load(server.port, SECONDS, "single"))["p99_ms"])
            assert rebuild.returncode is None, "it was done before the load was"
    return alone, beside


@asynccontextmanager
async def rebuilding(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """Rebuild telemetry from all that is on the log, in a process of its own, once it has begun to fold."""
    await ObjectStore(settings).ensure_bucket()  # an archive is looked for
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        live = await install(connection, telemetry.PROJECTION)
        for (topic, partition), end in (await log.ends(await live.positions(connection))).items():  # as if it had folded that
            values = {"end": end, "topic": topic, "partition": partition}
            await connection.execute(
                "UPDATE kinolog.positions SET position = %(end)s WHERE topic = %(topic)s AND partition = %(partition)s", values
            )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.cli", "rebuild", telemetry.PROJECTION.name, "--json"),
            cwd=ROOT,
            env=environment(settings),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        folded = "SELECT coalesce(sum(position), 0) FROM kinolog.positions WHERE version > 1"
        try:
            async with asyncio.timeout(60):
                while (await (await connection.execute(folded)).fetchone()) == (0,):
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _growth(server: TelemetryServer) -> float:
    """Return memory after FLAT_EVENTS divided by memory before; the runs before have warmed it up."""
    process = psutil.Process(server.process.pid)
    before, sent = process.memory_info().rss, 0.0
    while sent < FLAT_EVENTS:
        sent += (await load(server.port, FLAT_SECONDS, "batch"))["accepted"]
    return process.memory_info().rss / before
