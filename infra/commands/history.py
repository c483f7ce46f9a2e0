"""`kinolog sql` and `kinolog replay`: new questions to all of history, from the archive and the log."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.exits import UsageFault
from infra.commands.output import AsJson, document, note, table

if TYPE_CHECKING:
    from projections.log import LogReader
    from projections.replay import View, Wanted

Topics = Annotated[list[str] | None, typer.Option("--topic", help="Only this topic (repeatable).")]


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; each topic is a view: videos, jobs, job_requests, progress …")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask history in SQL (DuckDB): one view per topic, over the archive and what is on the log after it.

    A row is an event: partition, offset, id, type, source, subject, time, correlationid, causationid, data (JSON), and a
    struct per type with its fields, as video_uploaded.size_bytes.

    \b
    Examples:
      kinolog sql "SELECT type, count(*) FROM jobs GROUP BY type ORDER BY 2 DESC"
      kinolog sql "SELECT job_completed.worker_id, count(*) FROM jobs WHERE job_completed IS NOT NULL GROUP BY 1"
      kinolog sql --csv "SELECT time, data->>'title' FROM videos WHERE type LIKE '%uploaded%'" > uploads.csv
    """
    import duckdb

    try:
        headings, rows = asyncio.run(_query(query))
    except duckdb.Error as error:
        raise UsageFault(str(error)) from error
    if csv:
        _print_csv(headings, rows)
        return
    named = [dict(zip(headings, row, strict=True)) for row in rows]
    table(named, {name: lambda row, name=name: row[name] for name in headings}, as_json=as_json, empty="no rows")  # type: ignore[misc]


async def _query(query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    from events.topics import TOPICS
    from infra.commands.services import settings_of_services
    from infra.warehouse import open_warehouse, view_name

    wanted = [topic for topic in TOPICS.values() if view_name(topic) in query]
    with tempfile.TemporaryDirectory() as scratch:
        connection = await open_warehouse(settings_of_services(), wanted, Path(scratch))
        with connection:
            answer = connection.execute(query)
            return [column[0] for column in answer.description or ()], answer.fetchall()


def _print_csv(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout)
    writer.writerow(headings)
    writer.writerows(rows)


def replay(
    view: Annotated[Path, typer.Argument(help="A Python file with TABLE (a fold), or an .sql file with one SELECT.")],
    into: Annotated[str, typer.Option(help="postgresql://…, FILE.parquet, FILE.duckdb, or - for JSON lines.")] = "-",
    topic: Topics = None,
    since: Annotated[datetime | None, typer.Option(help="Only events from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only events before this time (UTC).")] = None,
    types: Annotated[str, typer.Option(help="Only these types, comma separated; parts of names will do.")] = "",
    key: Annotated[str | None, typer.Option(help="Only this stream: a video's, a job's, a worker's id.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C (PostgreSQL and -).")] = False,
    as_json: AsJson = False,
) -> None:
    """Fold all of history into a table of your own. The project needs no change; docs/replay.md is a tutorial.

    When your fold fails, the event is shown. What was folded before it is kept: repair the fold and run the same command,
    it goes on from there.

    \b
    Examples:
      kinolog replay per_day.py
      kinolog replay per_day.py --into per_day.parquet --since 2026-01-01
      kinolog replay per_day.py --into postgresql://me@host/db --follow
      kinolog replay slowest.sql --into slowest.duckdb
    """
    from datetime import UTC

    from projections.replay import Wanted

    if not view.is_file():
        raise UsageFault(f"{view}: there is no such file")
    if into != "-" and not into.startswith("postgres") and Path(into).suffix not in (".parquet", ".duckdb"):
        raise UsageFault(f"{into}: wants postgresql://…, FILE.parquet, FILE.duckdb or -")
    if view.suffix == ".sql" and (follow or into.startswith("postgres")):
        raise UsageFault(f"{view} is a query, asked once: it goes into FILE.parquet, FILE.duckdb or -, without --follow")
    if follow and not (into == "-" or into.startswith("postgres")):
        raise UsageFault("--follow wants --into postgresql://… or -: a file is written once")
    wanted = Wanted(
        since.replace(tzinfo=UTC) if since else None,
        until.replace(tzinfo=UTC) if until else None,
        tuple(word.strip() for word in types.split(",") if word.strip()),
        key,
    )
    if view.suffix == ".sql":
        done = asyncio.run(_replay_sql(view, into))
    else:
        done = asyncio.run(_replay_fold(view, into, topic or [], wanted, follow=follow))
    if as_json and into != "-":
        document(done)
    else:
        note(", ".join(f"{name}: {value}" for name, value in done.items()))


async def _replay_sql(view: Path, into: str) -> dict[str, Any]:
    headings, rows = await _query(view.read_text().strip().rstrip(";"))
    found = [dict(zip(headings, row, strict=True)) for row in rows]
    _write(found, into, view.stem)
    return {"rows": len(found), "into": into}


async def _replay_fold(path: Path, into: str, topics: Sequence[str], wanted: "Wanted", *, follow: bool) -> dict[str, Any]:
    from infra.commands.services import settings_of_services
    from infra.runtime.history import open_history
    from projections.log import LogReader
    from projections.replay import load_module, view_of

    view = view_of(load_module(path), topics)
    async with open_history(settings_of_services()) as history:
        reader = LogReader(history)
        if into.startswith("postgres"):
            return await _into_postgres(view, reader, wanted, into, follow=follow)
        return await _into_rows(view, reader, wanted, into, follow=follow)


async def _into_rows(view: "View", reader: "LogReader", wanted: "Wanted", into: str, *, follow: bool) -> dict[str, Any]:
    from infra.checkpoints import Checkpoint
    from projections.replay import FoldFailed, InMemory

    checkpoint = Checkpoint(Path(f"{into}.checkpoint" if into != "-" else f"{view.table.name}.checkpoint"))
    state = checkpoint.load(view) or InMemory(view)
    if state.rows:
        note(f"going on from {checkpoint.path}")
    try:
        async for changed in state.read_to_end(reader, wanted):
            if follow:
                _print_rows(row for row in changed.values() if row is not None)
        while follow:
            batch, _dead = await reader.read(records_max=10_000, wait_s=1.0)
            changed = state.apply([recorded for recorded in batch.records if wanted(recorded)]) if batch else {}
            _print_rows(row for row in changed.values() if row is not None)
    except FoldFailed:
        checkpoint.save(state)
        note(f"{state.events} events were folded and are kept in {checkpoint.path}; repair the fold and run this again")
        raise
    checkpoint.clear()
    _write([_as_mapping(state.rows[key]) for key in sorted(state.rows, key=repr)], into, view.table.name)
    return {"events": state.events, "rows": len(state.rows), "into": into}


async def _into_postgres(view: "View", reader: "LogReader", wanted: "Wanted", into: str, *, follow: bool) -> dict[str, Any]:
    from psycopg import AsyncConnection

    from projections.runner import Batch, install

    projection, events = view.projection(), 0
    async with await AsyncConnection.connect(into, autocommit=True, options="-c timezone=UTC") as connection:
        runner = await install(connection, projection)
        await reader.seek(await runner.positions(connection))
        ends = await reader.ends()
        while follow or reader.missing(ends):
            batch, _dead = await reader.read(records_max=10_000, wait_s=0.5)
            if batch is not None:
                seen = [recorded for recorded in batch.records if wanted(recorded)]
                await runner.apply(connection, Batch(batch.slices, seen))
                events += len(seen)
    return {"events": events, "into": f"{projection.name}.{view.table.name}"}


def _as_mapping(row: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {field.name: getattr(row, field.name) for field in fields(row)}


def _print_rows(rows: Any) -> None:
    for row in rows:
        document(_as_mapping(row))


def _write(rows: Sequence[Mapping[str, Any]], into: str, name: str) -> None:
    """Write finished rows: JSON lines, a Parquet file, or a table of a DuckDB file."""
    if into == "-":
        for row in rows:
            document(row)
        return
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pa.Table.from_pylist(list(rows))
    if into.endswith(".parquet"):
        pq.write_table(found, into, compression="zstd")
    else:
        with duckdb.connect(into) as connection:
            connection.register("found", found)
            connection.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM found')
