"""How fast history is read again into PostgreSQL: by one process, by two, and however long it is."""

import asyncio
import multiprocessing
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time
from typing import Any, NamedTuple

import psutil

from events.topics import PROGRESS, Partition
from infra.history.shares import fold_in_shares
from infra.runtime import memory, postgres
from infra.runtime.clock import new_id
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections import progress, timeline
from projections.folding.fold import Key
from projections.folding.runner import install
from projections.history.past import fold_to
from tests.bench.figures import Figure
from tests.bench.history import put_on_the_log
from tests.bench.log import faust_agent

EVENTS = 1_000_000
SHARED = 2_000_000
"""What two processes share: so long that their start weighs little."""
OF_AGENT = 25_000
"""A plain Faust agent takes seconds for them."""
LONG = 5_000_000
MEMORY_MAX_MB = 600
ROWS = 50_000
CORES = len(os.sched_getaffinity(0))
RUNS = 3
PARTITIONS = [(PROGRESS.name, number) for number in range(PROGRESS.partitions)]


class Took(NamedTuple):
    """What a rebuild took: `cpu_s` of its process, all threads, `memory_mb` at most."""

    events: int
    wall_s: float
    cpu_s: float
    memory_mb: float


async def rebuild_rate(settings: Settings) -> Sequence[Figure]:
    """Fold a million ticks again, cold, beside the usual way; then two million by one process and by two."""
    await ObjectStore(settings).ensure_bucket()
    await put_on_the_log(settings, SHARED)
    memory.collect_rarely()
    whole, part = await _until(settings, SHARED), await _until(settings, EVENTS)
    raw, alone, usual = [], [], []
    async with open_log(settings, idle_ms=50) as source:
        for _ in range(RUNS):
            raw.append(await _consumed(source, part))
            alone.append(await asyncio.to_thread(_in_a_process, settings, part))
            async with postgres.connected(settings) as connection:
                await connection.execute("TRUNCATE progress_v1.ticks")
            usual.append(await faust_agent(settings, OF_AGENT))
    one, two, room = [], [], []
    for _ in range(RUNS):
        before, begun = _busy_s(), perf_counter()
        one.append(SHARED / await _in_shares(settings, whole, 1))
        busy_cores = (_busy_s() - before) / (perf_counter() - begun)
        room.append(one[-1] * max(1.0, min(2.0, CORES / busy_cores)))
        two.append(SHARED / await _in_shares(settings, whole, 2))
    wall = [took.events / took.wall_s for took in alone]
    return [
        Figure("cold rebuild from Kafka into PostgreSQL", "events/s", wall),
        Figure("the same per core of its process", "events/s", [took.events / took.cpu_s for took in alone]),
        Figure("cold rebuild against raw consumption", "events/s", wall, 0.1, baseline=raw),
        Figure("cold rebuild against a Faust agent on the topic", "events/s", wall, 12, baseline=usual),
        Figure("cold rebuild by two processes against one", "events/s", two, baseline=one),
        Figure("the same, of what the cores have room for", "events/s", two, 0.9, baseline=room),
        await _new_rows(settings),
    ]


def _busy_s() -> float:
    """Return for how long cores of this machine have been at work: a rebuild keeps the broker and PostgreSQL busy as well."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


async def _new_rows(settings: Settings) -> Figure:
    """Write rows that are not there yet by COPY, as rebuilds do, and as JSON, as live folds do."""
    copied: list[float] = []
    upserted: list[float] = []
    async with postgres.connected(settings) as connection:
        (store,) = (await install(connection, timeline.PROJECTION)).stores
        for _ in range(RUNS):
            rows: dict[Key, Any] = {(n,): _entry(n) for n in range(ROWS)}
            for rates, write in ((copied, store.insert(connection, rows.values())), (upserted, store.save(connection, rows))):
                await connection.execute("TRUNCATE timeline_v1.entries")
                begun = perf_counter()
                await write
                rates.append(ROWS / (perf_counter() - begun))
    return Figure("new rows by COPY against the same as JSON", "rows/s", copied, 1, baseline=upserted)


def _entry(number: int) -> timeline.Entry:
    video, job, event, cause = (new_id() for _ in range(4))
    time, kind = datetime.now(UTC), "kinolog.job.queued.v1"
    return timeline.Entry("jobs", 0, number, video, job, event, kind, time, "bench", video, cause, "encode, chunk 7")


async def rebuild_growth(settings: Settings) -> Sequence[Figure]:
    """Fold a million ticks and five million; its baseline are a run before it and one after."""
    await ObjectStore(settings).ensure_bucket()
    await put_on_the_log(settings, LONG)
    part, whole = [await _until(settings, count) for count in (EVENTS, LONG)]
    short, long, base = [], [], []
    for _ in range(RUNS):
        took = [await asyncio.to_thread(_in_a_process, settings, until) for until in (part, whole, part)]
        long.append(took.pop(1))
        short += took
        base.append(fmean([one.wall_s for one in took]))
    walls = [one.wall_s for one in long]
    return [
        Figure("cold rebuild of five million against one", "s", walls, 5.5, at_least=False, baseline=base),
        Figure("cold rebuild of a million: memory", "MB", [took.memory_mb for took in short], MEMORY_MAX_MB, at_least=False),
        Figure("cold rebuild of five million: memory", "MB", [took.memory_mb for took in long], MEMORY_MAX_MB, at_least=False),
    ]


async def _until(settings: Settings, count: int) -> Mapping[Partition, int]:
    """Return positions before which that many events stand, about."""
    async with open_log(settings, idle_ms=50) as source:
        ends = await source.ends(PARTITIONS)
    return {partition: end * count // sum(ends.values()) for partition, end in ends.items()}


async def _consumed(source: LogConsumer, until: Mapping[Partition, int]) -> float:
    """Return the events a second when all are read and nothing else is done."""
    await source.assign(dict.fromkeys(PARTITIONS, 0))
    begun, count = perf_counter(), 0
    while count < sum(until.values()):
        count += sum(map(len, (await source.read(records_max=20_000, wait_s=0.5)).values()))
    return count / (perf_counter() - begun)


def _in_a_process(settings: Settings, until: Mapping[Partition, int]) -> Took:
    """Rebuild in a process of its own, whose memory and time are those of the rebuild; its start does not count."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_rebuild, settings, until).result()


def _rebuild(settings: Settings, until: Mapping[Partition, int]) -> Took:
    memory.collect_rarely()
    begun, cpu = perf_counter(), process_time()
    asyncio.run(_fold(settings, until))
    return Took(sum(until.values()), perf_counter() - begun, process_time() - cpu, _peak_mb())


def _peak_mb() -> float:
    """Return the most memory that this process had; `getrusage` would return that of its parent."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) / 1000


async def _fold(settings: Settings, until: Mapping[Partition, int]) -> None:
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as source:
        await connection.execute("DROP SCHEMA IF EXISTS progress_v1, progress, kinolog CASCADE")
        await fold_to(progress.PROJECTION, connection, source, until)


async def _in_shares(settings: Settings, until: Mapping[Partition, int], workers: int) -> float:
    """Return the seconds of a rebuild by so many processes of their own, their start included."""

    async def watch() -> None:
        """Show nothing."""

    async with postgres.connected(settings) as connection:
        await connection.execute("DROP SCHEMA IF EXISTS progress_v1, progress, kinolog CASCADE")
        runner = await install(connection, progress.PROJECTION)
        begun = perf_counter()
        await fold_in_shares(settings, runner, until, workers, watch)
        return perf_counter() - begun
