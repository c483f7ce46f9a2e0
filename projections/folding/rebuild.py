"""Rebuilds a projection from the whole log beside the one that serves, compares, and flips the readers in one transaction.

Where the same code has made both and rows differ all the same, something is wrong: rows were lost, doubled or changed by hand.
Where the code is another, the new version is a restatement: what the events mean now. Either way it is said what changes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg import AsyncConnection

from events.errors import KinologError, PositionConflict
from projections.folding.bulk import BulkRunner, fold_until
from projections.folding.changes import TableChanges, changes_between
from projections.folding.code import code_of
from projections.folding.fold import Projection
from projections.folding.log import LogReader, Place, Source
from projections.folding.pace import RESTS, Pace
from projections.folding.runner import ProjectionOutdated, Runner, install_any, start_rebuild
from projections.folding.store import SQL, activate, digest_of, drop_version

CLOSE = 1_000
"""When fewer events than this are missing, the flip may stop the live runner for the rest."""
REPORT_EVENTS = 20_000
"""After so many events the live version is asked where it is, and the progress is told."""
Report = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did. `events` counts the records that were folded.

    `equal` is None when there is nothing to compare: the live version had other tables, or the rebuild is `partial`,
    since the log keeps the topic for some time only and the live version has seen more. `same_code`: the code that runs has
    folded all of the live version. `changes` are the rows that differ; `flipped`: readers see the new version.
    """

    name: str
    version: int
    events: int
    digests: dict[str, str]
    equal: bool | None
    partial: bool
    same_code: bool
    changes: tuple[TableChanges, ...]
    flipped: bool

    @property
    def is_restatement(self) -> bool:
        """Whether rows differ because the code does."""
        return self.equal is False and not self.same_code


class RebuildDiffers(KinologError):
    """The rebuilt tables differ from the live ones at the same positions, although the same code made both."""

    def __init__(self, rebuilt: Rebuilt) -> None:
        where = ", ".join(f"{one.added + one.gone + one.changed} rows of {one.table}" for one in rebuilt.changes)
        super().__init__(
            f"{rebuilt.name}: {where or 'the counts of events'} differ at the same positions, although the same code made both "
            "versions: rows were lost, doubled or changed by hand; when you know why, rebuild with --accept"
        )
        self.rebuilt = rebuilt


async def rebuild(
    projection: Projection,
    connection: AsyncConnection[Any],
    source: Source,
    *,
    report: Report | None = None,
    shares: Callable[[Runner, Mapping[Place, int]], Awaitable[None]] | None = None,
    keep: bool = True,
    accept: bool = False,
) -> Rebuilt:
    """Fill version n+1 from the start of the log up to where the live version is, compare, and flip.

    With `keep=False` the new version is only compared and then dropped: a check that changes nothing.

    The live runner is held up only for the last few events. `report(folded, total)` is awaited now and then. `shares` may
    fold the new version up to where the live one is by other means first, of a `partitioned` projection. Raises
    RebuildDiffers, leaving the live version in place, when rows differ although the code is the same, unless they are to be
    accepted.
    """
    live = await install_any(connection, projection)
    runner = await start_rebuild(connection, projection)
    pace = Pace(RESTS)
    reader, bulk = LogReader(source, projection, pace), BulkRunner(runner, empty=True, pace=pace)
    await reader.seek(await runner.positions(connection))
    if shares:
        await shares(runner, await live.positions(connection))
        await reader.seek(await runner.positions(connection))
        bulk = BulkRunner(runner, empty=False, pace=pace)
    await _approach(live, reader, bulk, connection, report)
    async with connection.transaction():
        made_for = await _catch_up(live, reader, bulk, connection)
        compared = made_for == digest_of(projection) and not reader.truncated
        rebuilt = await _compared(live, runner, connection, compared=compared, partial=reader.truncated, flip=keep)
        if rebuilt.equal is False and rebuilt.same_code and keep and not accept:
            raise RebuildDiffers(replace(rebuilt, flipped=False))
        if keep:
            await activate(connection, projection, runner.version)
        else:
            await drop_version(connection, projection.name, runner.version)
    if report:
        await report(rebuilt.events, rebuilt.events)
    return rebuilt


async def flip_back(
    projection: Projection, connection: AsyncConnection[Any], source: Source, *, report: Report | None = None
) -> int:
    """Let the version before the active one serve again; return its number. It is folded up to where the active one is first.

    Raises ProjectionOutdated when there is none, or it was made for other tables than the code's.
    """
    live = await install_any(connection, projection)
    cursor = await connection.execute(SQL["versions"], {"name": projection.name})
    before: list[tuple[int, str]] = [row[:2] for row in await cursor.fetchall() if row[0] < live.version]
    if not before:
        raise ProjectionOutdated(f"{projection.name} has no earlier version; a rebuild keeps the one that it replaces")
    version, made_for = before[-1]
    if made_for != digest_of(projection):
        raise ProjectionOutdated(f"{projection.name} v{version} was made for other tables: start the code of that time first")
    runner, pace = Runner(projection, version, live=False), Pace(RESTS)
    reader, bulk = LogReader(source, projection, pace), BulkRunner(runner, empty=False, pace=pace)
    await reader.seek(await runner.positions(connection))
    await runner.add_code(connection)
    await _approach(live, reader, bulk, connection, report)
    async with connection.transaction():
        await _catch_up(live, reader, bulk, connection)
        await activate(connection, projection, version)
    return version


async def _approach(
    live: Runner, reader: LogReader, bulk: BulkRunner, connection: AsyncConnection[Any], report: Report | None
) -> None:
    """Fold until little is missing to where the live version is."""
    for _ in range(2):  # what comes while all is written is folded and written, too, before the live runner is held up
        target = await live.positions(connection)
        while (missing := reader.missing(target)) > CLOSE:
            await fold_until(reader, bulk, connection, target, events_max=REPORT_EVENTS)
            if report:
                total = sum(target.values())
                await report(total - missing, total)
            target = await live.positions(connection)
        await bulk.flush(connection)


async def _catch_up(live: Runner, reader: LogReader, bulk: BulkRunner, connection: AsyncConnection[Any]) -> str:
    """Hold the live runner up and fold the rest, in the caller's transaction; return the digest of the tables it was made for."""
    name = live.projection.name
    active = await (await connection.execute(SQL["active_for_update"], {"name": name})).fetchone()
    if active is None or active[0] != live.version:
        raise PositionConflict(f"{name} was flipped by somebody else meanwhile; try again")
    await fold_until(reader, bulk, connection, await live.positions(connection))
    await bulk.flush(connection)
    return str(active[1])


async def _compared(
    live: Runner, runner: Runner, connection: AsyncConnection[Any], *, compared: bool, partial: bool, flip: bool
) -> Rebuilt:
    """Return how a new version differs from the live one, at the same positions."""
    projection = runner.projection
    digests, counts = await runner.digest(connection), await runner.counts(connection)
    equal, changes = None, tuple[TableChanges, ...]()
    if compared:
        equal = await live.digest(connection) == digests and await live.counts(connection) == counts
        if not equal:
            changes = await changes_between(connection, projection, live.version, runner.version)
    return Rebuilt(
        name=projection.name,
        version=runner.version,
        events=sum(counts.values()),
        digests=digests,
        equal=equal,
        partial=partial,
        same_code=await live.codes(connection) == [code_of(projection)],
        changes=changes,
        flipped=flip,
    )
