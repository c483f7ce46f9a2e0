"""History for SQL: a DuckDB with one view per topic over the archive's files and the newer part of the log."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

import duckdb
import pyarrow as pa

from events.envelope import REGISTRY
from events.errors import InvalidRequest
from events.topics import TOPICS, Partition, Topic
from infra.runtime.folders import private_folder
from infra.runtime.history import archived, fetch
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.folding.log import stretches
from projections.history.archive import Segment
from projections.history.parquet import NO_LINK, Record, parsed, write_segment
from projections.history.replay import EVERYTHING, Wanted

MEMORY_MAX = "512MB"
FETCHES = 8
FILE_RECORDS = 100_000
BATCH_RECORDS = 100_000


def view_name(topic: Topic) -> str:
    """Return the name of a topic's view: SQL wants no dashes."""
    return topic.name.replace("-", "_")


def topics_of(query: str) -> list[Topic]:
    """Return the topics whose views a query names."""
    return [topic for topic in TOPICS.values() if view_name(topic) in query]


async def open_warehouse(
    settings: Settings, topics: Iterable[Topic], scratch: Path, wanted: Wanted = EVERYTHING
) -> "duckdb.DuckDBPyConnection":
    """Return a connection with a view per topic, of the events that are wanted.

    Files of the archive are kept in `var/archive`; `scratch` takes the rest.
    """
    topics = list(topics)
    store = ObjectStore(settings)
    everything, names = await archived(store), {topic.name for topic in topics}
    segments = [segment for segment in everything if segment.topic in names]
    folder = private_folder(settings.var_dir / "archive")
    _forget(folder, everything)
    files = await _local(store, segments, folder, scratch)
    files += await _tail(settings, topics, segments, scratch)
    connection = duckdb.connect(config={"memory_limit": MEMORY_MAX, "temp_directory": str(scratch)})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # its default is the machine's zone, for days and for printed times
    for topic in topics:
        paths = [str(path) for name, path in files if name == topic.name]
        _create_view(connection, topic, paths, wanted)
    _lock(connection, [path for _, path in files])
    return connection


def ask(connection: "duckdb.DuckDBPyConnection", query: str) -> "duckdb.DuckDBPyRelation":
    """Return the answer to one SELECT, to be fetched, which may raise duckdb.Error. Raises InvalidRequest for anything else."""
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise InvalidRequest("ask one SELECT: no other statement, and no second one")
        return connection.sql(statements[0])
    except duckdb.Error as error:
        raise InvalidRequest(str(error)) from error


def names_of(answer: "duckdb.DuckDBPyRelation") -> list[str]:
    """Return the names of an answer's columns; those that repeat are numbered, so that none is lost."""
    names: list[str] = []
    for name in answer.columns:
        numbered = (f"{name}_{number}" if number else name for number in count())
        names.append(next(other for other in numbered if other not in names))
    return names


def _lock(connection: "duckdb.DuckDBPyConnection", files: Sequence[Path]) -> None:
    """Let queries read these files and nothing else: no other file, no network, no extension, no variable of this program."""
    listed = ", ".join(_quoted(str(path)) for path in files)
    for setting in (
        f"allowed_paths = [{listed}]",
        "python_enable_replacements = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def read_batches(connection: "duckdb.DuckDBPyConnection", topic: Topic, columns: Sequence[str]) -> pa.RecordBatchReader:
    """Return a topic's view as Arrow batches, each partition in order; of the columns those that it has, all when none is named."""
    view = connection.table(view_name(topic))
    named = [f'"{name}"' for name in view.columns if not columns or name in columns]
    reader = connection.cursor().sql(f"SELECT {', '.join(named)} FROM {view_name(topic)}").to_arrow_reader(BATCH_RECORDS)
    nothing = pa.RecordBatch.from_pylist([], reader.schema)  # Polars wants at least one
    return pa.RecordBatchReader.from_batches(reader.schema, chain([nothing], reader))


def _create_view(connection: "duckdb.DuckDBPyConnection", topic: Topic, paths: Sequence[str], wanted: Wanted) -> None:
    listed = ", ".join(map(_quoted, paths))
    data = "CASE WHEN type IS NOT NULL THEN decode(record)::json -> 'data' END AS data"
    files = f"read_parquet([{listed}], union_by_name=true)"
    where = " AND ".join(["true", *_conditions(wanted)])
    connection.execute(f"CREATE VIEW {view_name(topic)} AS SELECT * EXCLUDE record, {data} FROM {files} WHERE {where}")


def _conditions(wanted: Wanted) -> Iterator[str]:
    """Yield the conditions of `wanted`, in SQL."""
    if wanted.since is not None:
        yield f"time >= TIMESTAMPTZ '{wanted.since.isoformat()}'"
    if wanted.until is not None:
        yield f"time < TIMESTAMPTZ '{wanted.until.isoformat()}'"
    if wanted.key is not None:
        yield f"subject = {_quoted(wanted.key)}"
    if wanted.types:
        yield f"type IN ({', '.join(_quoted(event.TYPE) for event in REGISTRY.values() if wanted.has_type(event))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _forget(folder: Path, segments: Sequence[Segment]) -> None:
    """Delete local files that were joined into others in the archive, and halves that a killed command left."""
    kept = {segment.sha256 for segment in segments}
    for path in folder.glob("*"):
        if path.stem not in kept or path.suffix != ".parquet":
            path.unlink(missing_ok=True)


async def _local(store: ObjectStore, segments: Sequence[Segment], folder: Path, scratch: Path) -> list[tuple[str, Path]]:
    """Fetch missing files; a file's name is its SHA-256, so files that exist are right."""
    running = asyncio.Semaphore(FETCHES)

    async def get(segment: Segment) -> tuple[str, Path]:
        path = folder / f"{segment.sha256}.parquet"
        if not path.exists():
            async with running:
                unfinished = scratch / path.name  # another command may be fetching the same file
                unfinished.write_bytes(await fetch(store, segment))
                unfinished.rename(path)
        return segment.topic, path

    return list(await asyncio.gather(*map(get, segments)))


async def _tail(settings: Settings, topics: Sequence[Topic], segments: Sequence[Segment], scratch: Path) -> list[tuple[str, Path]]:
    """Write events that the archive lacks into files of our own; an empty one for a topic without any."""
    positions: dict[Partition, int] = {(topic.name, number): 0 for topic in topics for number in range(topic.partitions)}
    for segment in segments:
        partition = segment.topic, segment.partition
        positions[partition] = max(positions[partition], segment.next)
    written: list[tuple[str, Path]] = []

    def write(partition: Partition, records: Sequence[Record]) -> None:
        file, _ = write_segment(*partition, parsed(records), NO_LINK)
        path = scratch / f"{partition[0]}-{partition[1]}-{len(written)}.parquet"
        path.write_bytes(file)
        written.append((partition[0], path))

    log = LogConsumer(settings, idle_ms=50)
    try:
        starts, ends = await log.starts(positions), await log.ends(positions)
        begins = {partition: max(position, starts[partition]) for partition, position in positions.items()}
        async for partition, records in stretches(log, begins, ends, records_max=FILE_RECORDS):
            write(partition, records)
    finally:
        await log.close()
    for partition in positions:
        write(partition, [])  # so that there is a view, however empty
    return written
