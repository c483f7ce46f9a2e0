"""History for SQL: a DuckDB with one view per topic over the archive's files and what the log has after them."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from events.topics import Topic
from infra.runtime.history import archived, fetch
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.archive import Segment
from projections.log import Place, stretches
from projections.parquet import NO_LINK, Record, write_segment

MEMORY_MAX = "512MB"
FETCHES = 8
FILE_RECORDS = 100_000


def view_name(topic: Topic) -> str:
    """Return the name of a topic's view: SQL wants no dashes."""
    return topic.name.replace("-", "_")


async def open_warehouse(settings: Settings, topics: Iterable[Topic], scratch: Path) -> "duckdb.DuckDBPyConnection":
    """Return a connection with a view per topic. Files of the archive are kept in `var/archive`; `scratch` takes the rest."""
    topics = list(topics)
    store = ObjectStore(settings)
    segments = [segment for segment in await archived(store) if segment.topic in {topic.name for topic in topics}]
    files = await _local(store, segments, settings.var_dir / "archive")
    files += await _tail(settings, topics, segments, scratch)
    connection = duckdb.connect(config={"memory_limit": MEMORY_MAX, "temp_directory": str(scratch)})
    for topic in topics:
        paths = [str(path) for name, path in files if name == topic.name]
        _create_view(connection, topic, paths)
    return connection


def _create_view(connection: "duckdb.DuckDBPyConnection", topic: Topic, paths: Sequence[str]) -> None:
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    data = "CASE WHEN type IS NOT NULL THEN decode(record)::json -> 'data' END AS data"
    files = f"read_parquet([{listed}], union_by_name=true)"
    connection.execute(f"CREATE VIEW {view_name(topic)} AS SELECT * EXCLUDE record, {data} FROM {files}")


async def _local(store: ObjectStore, segments: Sequence[Segment], folder: Path) -> list[tuple[str, Path]]:
    """Fetch what is not there yet; a file's name is its SHA-256, so what is there is right."""
    folder.mkdir(parents=True, exist_ok=True)
    running = asyncio.Semaphore(FETCHES)

    async def get(segment: Segment) -> tuple[str, Path]:
        path = folder / f"{segment.sha256}.parquet"
        if not path.exists():
            async with running:
                unfinished = path.with_suffix(".part")
                unfinished.write_bytes(await fetch(store, segment))
                unfinished.rename(path)
        return segment.topic, path

    return list(await asyncio.gather(*map(get, segments)))


async def _tail(settings: Settings, topics: Sequence[Topic], segments: Sequence[Segment], scratch: Path) -> list[tuple[str, Path]]:
    """Write what is on the log and in no file yet into files of our own; an empty one for a topic without any."""
    positions: dict[Place, int] = {(topic.name, number): 0 for topic in topics for number in range(topic.partitions)}
    for segment in segments:
        place = segment.topic, segment.partition
        positions[place] = max(positions[place], segment.next)
    written: list[tuple[str, Path]] = []

    def write(place: Place, records: Sequence[Record]) -> None:
        file, _ = write_segment(*place, records, NO_LINK)
        path = scratch / f"{place[0]}-{place[1]}-{len(written)}.parquet"
        path.write_bytes(file)
        written.append((place[0], path))

    log = LogConsumer(settings, idle_ms=50)
    try:
        starts, ends = await log.starts(positions), await log.ends(positions)
        begins = {place: max(position, starts[place]) for place, position in positions.items()}
        async for place, records in stretches(log, begins, ends, records_max=FILE_RECORDS):
            write(place, records)
    finally:
        await log.close()
    for place in positions:
        write(place, [])  # so that there is a view, however empty
    return written
