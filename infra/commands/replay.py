"""`kinolog replay`: new questions to all of history, from the archive and the log."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, document, note

if TYPE_CHECKING:
    import pyarrow as pa

    from projections.folding.log import LogReader
    from projections.history.replay import Aggregation, View, Wanted


def replay(
    view: Annotated[Path, typer.Argument(help="A Python file with TABLE or aggregate(), or an .sql file with one SELECT.")],
    into: Annotated[str, typer.Option(help="postgresql://…, FILE.parquet, FILE.duckdb, or - for JSON lines.")] = "-",
    topic: Annotated[list[str] | None, typer.Option("--topic", help="Read this topic instead of TOPICS (repeatable).")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only events from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only events before this time (UTC).")] = None,
    types: Annotated[str, typer.Option(help="Only these types, comma separated; parts of names will do.")] = "",
    key: Annotated[str | None, typer.Option(help="Only this stream: a video's, a job's, a worker's id.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue with new events until Ctrl-C (PostgreSQL and -).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a table of your own of all of history: by a fold, by an aggregation of Arrow batches, or by a query.

    The project needs no change: see docs/tutorials/replay.md. A query names its topics itself; all other limits hold for it, too.
    When your fold fails, the command shows the event and keeps the state before it: repair the fold and run the same
    command again to continue from there.

    \b
    Examples:
      kinolog replay per_day.py
      kinolog replay per_day.py --into per_day.parquet --since 2026-01-01
      kinolog replay per_day.py --into postgresql://me@host/db --follow
      kinolog replay slowest.sql --into slowest.duckdb --since 2026-01-01 --types job.completed
    """
    from datetime import UTC

    from projections.history.replay import Wanted

    if not view.is_file():
        raise UsageFault(f"{view}: there is no such file")
    if into != "-" and not into.startswith("postgres") and Path(into).suffix not in (".parquet", ".duckdb"):
        raise UsageFault(f"{into}: wants postgresql://…, FILE.parquet, FILE.duckdb or -")
    if follow and not (into == "-" or into.startswith("postgres")):
        raise UsageFault("--follow wants --into postgresql://… or -: a file is written once")
    wanted = Wanted(
        since.replace(tzinfo=UTC) if since else None,
        until.replace(tzinfo=UTC) if until else None,
        tuple(word.strip() for word in types.split(",") if word.strip()),
        key,
    )
    done = asyncio.run(_replay(view, into, topic or [], wanted, follow=follow))
    if as_json and into != "-":
        document(done)
    else:
        note(", ".join(f"{name}: {value}" for name, value in done.items()))


async def _replay(path: Path, into: str, topics: Sequence[str], wanted: "Wanted", *, follow: bool) -> dict[str, Any]:
    from projections.history.replay import View, load_module, question_of

    if path.suffix == ".sql":
        if topics:
            raise UsageFault(f"{path} is a query, which names its topics itself: leave --topic out")
        _refuse_what_goes_on(path, into, follow=follow)
        return await _query(path, into, wanted)
    question = question_of(load_module(path), topics)
    if isinstance(question, View):
        return await _fold(question, into, wanted, follow=follow)
    _refuse_what_goes_on(path, into, follow=follow)
    return await _aggregate(question, into, wanted)


def _refuse_what_goes_on(path: Path, into: str, *, follow: bool) -> None:
    if follow or into.startswith("postgres"):
        raise UsageFault(f"{path} is asked once, as a whole: it goes into FILE.parquet, FILE.duckdb or -, without --follow")


async def _query(path: Path, into: str, wanted: "Wanted") -> dict[str, Any]:
    import duckdb

    from infra.commands.support.services import settings_of_services
    from infra.history.warehouse import ask, names_of, open_warehouse, topics_of
    from infra.runtime.scratch import scratch

    query = path.read_text().strip().rstrip(";")
    settings, topics = settings_of_services(), topics_of(query)
    with scratch(settings) as folder, await open_warehouse(settings, topics, folder, wanted) as connection:
        try:
            answer = ask(connection, query)
            names = names_of(answer)
            if into == "-":
                rows = answer.fetchall()
                _write([dict(zip(names, row, strict=True)) for row in rows], into, path.stem)
                return {"rows": len(rows), "into": into}
            found = answer.to_arrow_table().rename_columns(names)
        except duckdb.Error as error:
            raise UsageFault(str(error)) from error
    _write(found, into, path.stem)
    return {"rows": found.num_rows, "into": into}


async def _aggregate(question: "Aggregation", into: str, wanted: "Wanted") -> dict[str, Any]:
    from infra.commands.support.services import settings_of_services
    from infra.history.warehouse import open_warehouse, read_batches
    from infra.runtime.scratch import scratch

    settings, topics = settings_of_services(), question.topics
    with scratch(settings) as folder, await open_warehouse(settings, topics, folder, wanted) as connection:
        found = question([read_batches(connection, topic, question.columns) for topic in topics])
    _write(found, into, question.name)
    return {"rows": found.num_rows, "into": into}


async def _fold(view: "View", into: str, wanted: "Wanted", *, follow: bool) -> dict[str, Any]:
    from infra.commands.support.services import settings_of_services
    from infra.runtime.history import open_history
    from projections.folding.log import LogReader

    async with open_history(settings_of_services()) as history:
        reader = LogReader(history)
        if into.startswith("postgres"):
            return await _into_postgres(view, reader, wanted, into, follow=follow)
        return await _into_rows(view, reader, wanted, into, follow=follow)


async def _into_rows(view: "View", reader: "LogReader", wanted: "Wanted", into: str, *, follow: bool) -> dict[str, Any]:
    from infra.history.checkpoints import Checkpoint
    from projections.history.parquet import columns_of
    from projections.history.replay import FoldFailed, InMemory

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
    rows = [_as_mapping(state.rows[key]) for key in sorted(state.rows, key=repr)]
    _write(rows if rows or into == "-" else columns_of(view.table.row).empty_table(), into, view.table.name)
    return {"events": state.events, "rows": len(state.rows), "into": into}


async def _into_postgres(view: "View", reader: "LogReader", wanted: "Wanted", into: str, *, follow: bool) -> dict[str, Any]:
    from psycopg import AsyncConnection

    from projections.folding.runner import Batch, install

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


def _write(found: "pa.Table | Sequence[Mapping[str, Any]]", into: str, name: str) -> None:
    """Write a finished table: JSON lines, a Parquet file, or a table of a DuckDB file."""
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    if into == "-":
        for row in found.to_pylist() if isinstance(found, pa.Table) else found:
            document(row)
        return
    table = found if isinstance(found, pa.Table) else pa.Table.from_pylist(list(found))
    if into.endswith(".parquet"):
        pq.write_table(table, into, compression="zstd")
    else:
        with duckdb.connect(into) as connection:
            connection.register("found", table)
            connection.execute(f"CREATE OR REPLACE TABLE {_identifier(name)} AS SELECT * FROM found")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
