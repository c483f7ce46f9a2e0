"""How fast events get onto the log, and from there into PostgreSQL."""

import asyncio
import gc
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

from events.codec import encode
from infra.runtime import kafka, memory, postgres
from infra.runtime.appender import appender_of
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from producers.appender import Appender
from projections import progress
from projections.folding.log import LogReader
from projections.folding.runner import install
from tests.bench.bare import copied, produced, round_trips
from tests.bench.figures import Figure
from tests.support.counting import ticks
from tests.support.platform import environment

EVENTS = 100_000
CLIENTS = 16
GROUP = 200
SLICE = 100_000
RUNS = 3
AGENT_S = 120
"""An agent that takes longer stands still."""


async def _appender(settings: Settings) -> Appender:
    await kafka.ensure_topics(settings)
    appender = appender_of(settings, timeout_s=60, pending_max=2 * EVENTS)
    await appender.start()
    return appender


async def fill(settings: Settings, count: int, *, jobs: int) -> None:
    """Put ticks on a fresh log, of other jobs after each 100,000; then let the collector look as rarely as in our processes."""
    appender = await _appender(settings)
    start = datetime.now(UTC) - timedelta(days=2)  # Kafka deletes ticks that are older than a week
    for done in range(0, count, SLICE):
        events = ticks(min(SLICE, count - done), jobs=jobs, start=start)
        for at in range(0, len(events), 5000):
            await appender.append(events[at : at + 5000])
    await appender.stop()
    del events
    memory.collect_rarely()


async def append_rate(settings: Settings) -> Sequence[Figure]:
    """Append from one process with acks=all: 16 callers with 200 events a call, and one caller with one event."""
    appender = await _appender(settings)
    events = ticks(EVENTS, jobs=200)
    gc.freeze()
    rates, bare, single, round_trip = [], [], [], []
    values = [encode(event) for event in events]
    for _ in range(RUNS):

        async def call(client: int) -> None:
            share = EVENTS // CLIENTS
            for start in range(client * share, (client + 1) * share, GROUP):
                await appender.append(events[start : start + GROUP])

        begun = perf_counter()
        await asyncio.gather(*map(call, range(CLIENTS)))
        rates.append(EVENTS / (perf_counter() - begun))
        waits = []
        for event in events[:300]:
            begun = perf_counter()
            await appender.append([event])
            waits.append(1000 * (perf_counter() - begun))
        single.append(sorted(waits)[150])
        bare.append(await produced(settings, values))
        round_trip.append((await round_trips(settings, 300))[150])
    await appender.stop()
    return [
        Figure("append, of librdkafka's producer of encoded events", "events/s", rates, 0.1, baseline=bare),
        Figure("append one event, p50, of one that is read back", "ms", single, 2, at_least=False, baseline=round_trip),
    ]


async def fold_rate(settings: Settings) -> Sequence[Figure]:
    """Fold progress ticks into PostgreSQL, positions included; beside it the usual way, a Faust agent on the topic."""
    await fill(settings, EVENTS, jobs=200)
    pool = await postgres.open_pool(settings)
    source = LogConsumer(settings, idle_ms=50)
    reader = LogReader(source)
    rates, baseline, copies = [], [], []
    values = [encode(event) for event in ticks(EVENTS, jobs=200)]
    for _ in range(RUNS):
        async with pool.connection() as connection:
            runner = await install(connection, progress.PROJECTION)
            await connection.execute("UPDATE kinolog.positions SET position = 0, folded = 0")
            await connection.execute("DELETE FROM progress_v1.ticks")  # else the second run would change no row
            await reader.seek(await runner.positions(connection))
            folded = 0
            begun = perf_counter()
            while folded < EVENTS:
                batch, _ = await reader.read(records_max=10_000, wait_s=0.5)
                if batch is not None:
                    reader.begin(records_max=10_000, wait_s=0.5)  # as the feed does
                    await runner.apply(connection, batch)
                    folded += len(batch.records)
            rates.append(EVENTS / (perf_counter() - begun))
            await connection.execute("DELETE FROM progress_v1.ticks")
            copies.append(await copied(connection, values))
        baseline.append(await faust_agent(settings, EVENTS // 4))  # over a quarter: it was seen to stand still near the end
    await source.close()
    await pool.close()
    return [
        Figure("fold into PostgreSQL with position, of a COPY of the events", "events/s", rates, 0.2, baseline=copies),
        Figure("the same against a Faust agent on the topic", "events/s", rates, 8, baseline=baseline),
    ]


async def faust_agent(settings: Settings, events: int) -> float:
    """Return the events a second of the plain agent, over so many events."""
    command = [sys.executable, "-m", "tests.bench.faust_agent", str(events)]
    process = await asyncio.create_subprocess_exec(*command, env=environment(settings), stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(AGENT_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:  # it was interrupted, or stands still
            process.kill()
            await process.wait()
    return float(out.split()[-1])  # after the worker's spinner
