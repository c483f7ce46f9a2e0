"""`kinolog sql`: all of history as tables, from the archive and the log."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, table


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; each topic is a view: videos, jobs, job_requests, progress …")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Query history in SQL (DuckDB): one view per topic, over the archive and the newer part of the log.

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
    from infra.commands.support.services import settings_of_services
    from infra.history.warehouse import ask, names_of, open_warehouse, topics_of
    from infra.runtime.scratch import scratch

    settings = settings_of_services()
    with scratch(settings) as folder, await open_warehouse(settings, topics_of(query), folder) as connection:
        answer = ask(connection, query)
        return names_of(answer), answer.fetchall()


def _print_csv(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout)
    writer.writerow(headings)
    writer.writerows(rows)
