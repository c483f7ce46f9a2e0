"""How fast history is read again: into PostgreSQL from Kafka, and from the archive's files."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time

import duckdb

from events.topics import PROGRESS
from infra.runtime import postgres
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from infra.shares import fold_in_shares
from projections import progress
from projections.bulk import BATCH_RECORDS
from projections.log import decoded
from projections.parquet import NO_LINK, Record, read_segment, write_segment
from projections.past import fold_to
from projections.replay import InMemory, View
from projections.runner import install
from tests.bench.figures import Figure
from tests.bench.log import SLICE, fill

EVENTS = 1_000_000
JOBS = 500
RUNS = 3
PLACES = [(PROGRESS.name, number) for number in range(PROGRESS.partitions)]


async def replay(settings: Settings) -> Sequence[Figure]:
    """Fold a million ticks again, cold; write and read their Parquet files; ask DuckDB."""
    await ObjectStore(settings).ensure_bucket()
    await fill(settings, EVENTS, jobs=JOBS)
    source = LogConsumer(settings, idle_ms=50)
    wall, core, raw = [], [], []
    for _ in range(RUNS):
        raw.append(EVENTS / await _consume(source))
        begun, cpu = perf_counter(), process_time()
        await _rebuild(settings, source)
        wall.append(EVENTS / (perf_counter() - begun))
        core.append(EVENTS / (process_time() - cpu))
    shared = [EVENTS / await _rebuild_in_shares(settings, source, workers) for _ in range(RUNS) for workers in (1, 2)]
    records = await _records(source)
    await source.close()
    with tempfile.TemporaryDirectory() as folder:
        figures = await asyncio.to_thread(_archive, Path(folder), records)
    return [
        Figure("cold rebuild from Kafka into PostgreSQL", "events/s", wall, 150_000),
        Figure("the same per core of its process", "events/s", core, 150_000),
        Figure("cold rebuild against raw consumption", "events/s", wall, baseline=raw),
        Figure("cold rebuild by two processes against one", "events/s", shared[1::2], 1.7, baseline=shared[::2]),
        *figures,
    ]


async def _consume(source: LogConsumer) -> float:
    """Return the seconds in which all records are read and nothing else is done."""
    await source.assign(dict.fromkeys(PLACES, 0))
    begun, count = perf_counter(), 0
    while count < EVENTS:
        count += sum(map(len, (await source.read(records_max=20_000, wait_s=0.5)).values()))
    return perf_counter() - begun


async def _rebuild(settings: Settings, source: LogConsumer) -> None:
    async with postgres.connected(settings) as connection:
        await connection.execute("DROP SCHEMA IF EXISTS progress_v1, progress, kinolog CASCADE")
        await fold_to(progress.PROJECTION, connection, source, await source.ends(PLACES))


async def _rebuild_in_shares(settings: Settings, source: LogConsumer, workers: int) -> float:
    """Return the seconds of a rebuild by so many processes of their own, their start included."""

    async def watch() -> None:
        """Show nothing."""

    async with postgres.connected(settings) as connection:
        await connection.execute("DROP SCHEMA IF EXISTS progress_v1, progress, kinolog CASCADE")
        runner, until = await install(connection, progress.PROJECTION), await source.ends(PLACES)
        begun = perf_counter()
        await fold_in_shares(settings, runner, until, workers, watch)
        return perf_counter() - begun


async def _records(source: LogConsumer) -> dict[int, list[Record]]:
    """Return all records by partition."""
    await source.assign(dict.fromkeys(PLACES, 0))
    found: dict[int, list[Record]] = {number: [] for _, number in PLACES}
    while sum(map(len, found.values())) < EVENTS:
        for (_, number), records in (await source.read(records_max=20_000, wait_s=0.5)).items():
            found[number] += records
    return found


def _archive(folder: Path, records: dict[int, list[Record]]) -> list[Figure]:
    json_bytes = sum(len(value) + 1 for found in records.values() for _, value in found)
    writes, reads, folds, queries = [], [], [], []
    paths = [folder / f"{number}.parquet" for number in records]
    for _ in range(RUNS):
        begun = perf_counter()
        for path, (number, found) in zip(paths, records.items(), strict=True):
            path.write_bytes(write_segment(PROGRESS.name, number, found, NO_LINK)[0])
        writes.append(EVENTS / (perf_counter() - begun))
        begun = perf_counter()
        assert sum(1 for path in paths for _ in read_segment(path.read_bytes())) == EVENTS
        reads.append(EVENTS / (perf_counter() - begun))
        cpu = process_time()
        assert _fold(paths) == EVENTS
        folds.append(EVENTS / (process_time() - cpu))
        begun = perf_counter()
        with duckdb.connect() as connection:
            query = "SELECT subject, count(*), max(progress_ticked.percent) FROM read_parquet(?) GROUP BY subject"
            assert len(connection.execute(query, [[str(path) for path in paths]]).fetchall()) == JOBS * EVENTS // SLICE
        queries.append(EVENTS / (perf_counter() - begun))
    size = sum(path.stat().st_size for path in paths)
    return [
        Figure("archive: written", "events/s", writes),
        Figure("archive: records read back", "events/s", reads),
        Figure("archive: typed Python fold, per core", "events/s", folds, 250_000),
        Figure("archive: aggregation by DuckDB", "events/s", queries, 5_000_000),
        Figure("archive: size against NDJSON", "bytes", [float(size)], 0.15, at_least=False, baseline=[float(json_bytes)]),
    ]


def _fold(paths: Sequence[Path]) -> int:
    """Fold the files in memory, as `kinolog replay` does."""
    (table,) = progress.PROJECTION.tables
    state = InMemory(View(table, (PROGRESS,)))
    for number, path in enumerate(paths):
        found = list(read_segment(path.read_bytes()))
        for at in range(0, len(found), BATCH_RECORDS):
            state.apply(decoded(PROGRESS.name, number, found[at : at + BATCH_RECORDS])[0])
    return state.events
