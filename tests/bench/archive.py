"""The archive: how fast its files are written, read, folded and asked, and how large they are."""

import asyncio
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter, process_time

import duckdb

from events.topics import PROGRESS
from infra.runtime import memory
from infra.runtime.settings import Settings
from projections import progress
from projections.folding.bulk import BATCH_RECORDS
from projections.folding.log import decoded
from projections.history.parquet import NO_LINK, Record, parsed, read_batches, read_segment, write_segment
from projections.history.replay import InMemory, View
from tests.bench.figures import Figure
from tests.bench.history import JOBS, SLICE, history
from tests.bench.pace import slower

FILE_RECORDS = 100_000
EVENTS = 1_000_000
LONG = 5_000_000
PROCESSES = 2
RUNS = 3
FOLDED_PER_S = 250_000
"""Events a second and core, at REFERENCE_PACE."""
QUERY = "SELECT subject, count(*), max(progress_ticked.percent) FROM read_parquet(?) GROUP BY subject"
SCAN = "SELECT max(subject), max(progress_ticked.percent) FROM read_parquet(?)"
"""The same columns, not grouped."""


async def archive_rate(settings: Settings) -> Sequence[Figure]:
    """Write five million ticks into files; fold a million of them in Python; ask DuckDB about one million and about all."""
    with tempfile.TemporaryDirectory() as folder:
        return await asyncio.to_thread(_measure, Path(folder))


def _measure(folder: Path) -> list[Figure]:
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        written = list(pool.map(_write, [(folder, number) for number in range(LONG // FILE_RECORDS)]))
    json_bytes, writes = sum(size for size, _ in written), [FILE_RECORDS / cpu_s for _, cpu_s in written]
    paths = sorted(folder.iterdir())
    few = paths[: EVENTS // FILE_RECORDS]
    memory.collect_rarely()
    reads, folds, allowed, queries, scans, long_queries, long_scans = [], [], [], [], [], [], []
    for _ in range(RUNS):
        begun = perf_counter()
        assert sum(1 for path in few for _ in read_segment(path.read_bytes())) == EVENTS
        reads.append(EVENTS / (perf_counter() - begun))
        cpu = process_time()
        assert _fold(few) == EVENTS
        folds.append(EVENTS / (process_time() - cpu))
        allowed.append(FOLDED_PER_S / slower())
        queries.append(EVENTS / _ask(QUERY, few, JOBS * EVENTS // SLICE))
        scans.append(EVENTS / _ask(SCAN, few, 1))
        long_queries.append(LONG / _ask(QUERY, paths, JOBS * LONG // SLICE))
        long_scans.append(LONG / _ask(SCAN, paths, 1))
    size = float(sum(path.stat().st_size for path in paths))
    return [
        Figure("archive: written, per core", "events/s", writes),
        Figure("archive: records read back", "events/s", reads),
        Figure("archive: typed Python fold, per core, at this pace", "events/s", folds, 1, baseline=allowed),
        Figure("archive: aggregation of a million by DuckDB, of a scan", "events/s", queries, 0.4, baseline=scans),
        Figure("archive: aggregation of five million by DuckDB, of a scan", "events/s", long_queries, 0.6, baseline=long_scans),
        Figure("archive: size against NDJSON", "bytes", [size], 0.15, at_least=False, baseline=[float(json_bytes)]),
    ]


def _write(task: tuple[Path, int]) -> tuple[int, float]:
    """Write one file; return how large its records are as NDJSON and what it took of the processor."""
    folder, number = task
    records: list[Record] = [(offset, value) for offset, (_, _, _, value) in enumerate(history(FILE_RECORDS))]
    cpu = process_time()
    file, _ = write_segment(PROGRESS.name, 0, parsed(records), NO_LINK)
    (folder / f"{number:04}.parquet").write_bytes(file)
    return sum(len(value) + 1 for _, value in records), process_time() - cpu


def _ask(query: str, paths: Sequence[Path], rows: int) -> float:
    """Return the seconds of a query."""
    begun = perf_counter()
    with duckdb.connect() as connection:
        assert len(connection.execute(query, [[str(path) for path in paths]]).fetchall()) == rows
    return perf_counter() - begun


def _fold(paths: Sequence[Path]) -> int:
    """Fold the files in memory, as `kinolog replay` does."""
    (table,) = progress.PROJECTION.tables
    state = InMemory(View(table, (PROGRESS,)))
    for path in paths:
        for batch in read_batches(path.read_bytes(), BATCH_RECORDS):
            state.apply(decoded(PROGRESS.name, 0, batch)[0])
    return state.events
