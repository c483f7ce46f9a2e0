"""`kinolog projections`, `rebuild`, `verify`: the read models and the log that they are folds of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.errors import NotFound
from infra.commands.output import AsJson, document, line, note, table

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from projections.fold import Projection
    from projections.history import History


def projections(as_json: AsJson = False) -> None:
    """List the projections: version, position and how far each is behind the log.

    \b
    Examples:
      kinolog projections
      kinolog projections --json | jq '.[] | select(.lag_events > 0)'
    """
    table(
        asyncio.run(_projections()),
        {
            "projection": lambda row: row["projection"],
            "version": lambda row: row["version"],
            "topic": lambda row: row["topic"],
            "partition": lambda row: row["partition"],
            "position": lambda row: row["position"],
            "end": lambda row: row["end"],
            "lag": lambda row: row["lag_events"],
        },
        as_json=as_json,
        empty="no projection was started yet",
    )


def rebuild(
    name: Annotated[str, typer.Argument(help="The projection, as `kinolog projections` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Fold a projection again from the start of the log, beside the one that serves; compare; then flip the readers.

    Readers see no error. Ends with 1, and leaves everything as it was, when code and log did not change and the result
    differs all the same.

    \b
    Examples:
      kinolog rebuild catalog
      kinolog rebuild jobs --json
    """
    rebuilt = asyncio.run(_rebuild(_named(name)))
    if as_json:
        document(rebuilt)
    else:
        equal = {
            True: "equal to the one before",
            False: "different",
            None: "nothing to compare with",
        }
        line(f"{name} v{rebuilt['version']}: {rebuilt['events']} events folded; {equal[rebuilt['equal']]}")


def verify(as_json: AsJson = False) -> None:
    """Check that nothing is lost, doubled or out of order: every projection against a fold of the whole log.

    Ends with 1 when something is found; each finding is one line.

    \b
    Examples:
      kinolog verify
      kinolog verify --json
    """
    findings = asyncio.run(_verify())
    if as_json:
        document(findings)
    for finding in () if as_json else findings["findings"]:
        line(finding)
    if findings["findings"]:
        raise typer.Exit(1)
    note("nothing lost, doubled or out of order")


async def _verify() -> dict[str, Any]:
    from projections import verify as verifying

    async with _opened() as (connection, source):
        return await verifying.verify(connection, source)


def _named(name: str) -> "Projection":
    """Return the projection of that name. Raises NotFound."""
    from projections.registry import PROJECTIONS

    if name not in PROJECTIONS:
        raise NotFound(f"there is no projection {name}; there are: {', '.join(PROJECTIONS)}")
    return PROJECTIONS[name]


async def _rebuild(projection: "Projection") -> dict[str, Any]:
    from dataclasses import asdict

    from projections import rebuild as rebuilding

    async with _opened() as (connection, source):
        with _bar(projection.name) as report:
            done = await rebuilding.rebuild(projection, connection, source, report=report)
    return asdict(done)


async def _projections() -> list[dict[str, Any]]:
    from projections.registry import PROJECTIONS
    from projections.store import SQL

    rows: list[dict[str, Any]] = []
    async with _opened() as (connection, source):
        await connection.execute(SQL["create"])  # nothing happens when it is there
        for projection in PROJECTIONS.values():
            active = await (await connection.execute(SQL["active"], {"name": projection.name})).fetchone()
            if active is None:
                continue
            values = {"name": projection.name, "version": active[0]}
            positions = await (await connection.execute(SQL["positions"], values)).fetchall()
            ends = await source.ends([(row[0], row[1]) for row in positions])
            for topic, partition, position, *_ in sorted(positions):
                end = ends[topic, partition]
                rows.append(
                    {
                        "projection": projection.name,
                        "version": active[0],
                        "topic": topic,
                        "partition": partition,
                        "position": position,
                        "end": end,
                        "lag_events": max(0, end - position),
                    }
                )
    return rows


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple["AsyncConnection[Any]", "History"]]:
    """Yield a connection, and archive and log as one stream."""
    from psycopg import AsyncConnection

    from infra.commands.services import settings_of_services
    from infra.runtime.history import open_history

    settings = settings_of_services()
    url = settings.postgres_url.get_secret_value()
    connecting = AsyncConnection.connect(url, autocommit=True, connect_timeout=5, options="-c timezone=UTC")
    async with await connecting as found, open_history(settings) as source:
        yield found, source


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], Awaitable[None]]]:
    """Show a progress bar on standard error, none when nobody watches; yields what moves it."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(name, total=None)

        async def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report
