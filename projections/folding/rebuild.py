"""Rebuilds a projection from the whole log beside the serving version, compares both, and flips the readers in one transaction.

Different rows of equal code are a fault: rows were lost, doubled or changed by hand. With other code the new version is a
restatement of the same events. Either way the changes are reported.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg import AsyncConnection

from events.errors import KinologError, PositionConflict
from events.topics import Partition
from projections.folding.bulk import BulkRunner, fold_until
from projections.folding.changes import TableChanges, changes_between
from projections.folding.code import code_of
from projections.folding.fold import Projection
from projections.folding.log import LogReader, Source
from projections.folding.pace import RESTS, Pace
from projections.folding.runner import ProjectionOutdated, Runner, as_made, install_any, start_rebuild
from projections.folding.store import SQL, activate, digest_of, drop_version

CLOSE = 1_000
"""Missing events below which the flip may block the live runner for the rest."""
REPORT_EVENTS = 20_000
"""Events between two progress reports, each of which asks the live version for its positions."""
OnProgress = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild. `events` counts the folded records.

    `equal` is None without a comparison: the live version had other tables, or the rebuild is `partial`, since the log has lost
    events that the live version has folded. `same_code`: the running code has folded all of the live version. `changes` are the
    differing rows; `flipped`: readers see the new version.
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
        """Whether rows differ because of other code."""
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
    on_progress: OnProgress | None = None,
    shares: Callable[[Runner, Mapping[Partition, int]], Awaitable[None]] | None = None,
    keep: bool = True,
    accept: bool = False,
) -> Rebuilt:
    """Fill version n+1 from the start of the log to the position of the live version, compare, and flip.

    The new version is made under the rules of `projection`, whichever the live one has; other rules count as other code.
    With `keep=False` the new version is only compared and then dropped: a check that changes nothing.

    The live runner is blocked only for the last few events. `on_progress(folded, total)` is awaited at intervals. `shares` may
    first fold a `partitioned` projection in other ways, up to the position of the live version. Raises RebuildDiffers and leaves
    the live version active when rows differ although the code is the same, unless `accept` is set.
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
    await _approach(live, reader, bulk, connection, on_progress)
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
    if on_progress:
        await on_progress(rebuilt.events, rebuilt.events)
    return rebuilt


async def flip_back(
    projection: Projection, connection: AsyncConnection[Any], source: Source, *, on_progress: OnProgress | None = None
) -> int:
    """Activate the version before the active one, once it has folded up to the same position; return its number.

    Raises ProjectionOutdated when there is none, or when this code has other tables.
    """
    live = await install_any(connection, projection)
    cursor = await connection.execute(SQL["versions"], {"name": projection.name})
    before: list[tuple[int, str]] = [row[:2] for row in await cursor.fetchall() if row[0] < live.version]
    if not before:
        raise ProjectionOutdated(f"{projection.name} has no earlier version; a rebuild keeps the one that it replaces")
    version, made_for = before[-1]
    if made_for != digest_of(projection):
        raise ProjectionOutdated(f"{projection.name} v{version} was made for other tables: start the code of that time first")
    runner, pace = Runner(await as_made(connection, projection, version), version, live=False), Pace(RESTS)
    reader, bulk = LogReader(source, projection, pace), BulkRunner(runner, empty=False, pace=pace)
    await reader.seek(await runner.positions(connection))
    await runner.add_code(connection)
    await _approach(live, reader, bulk, connection, on_progress)
    async with connection.transaction():
        await _catch_up(live, reader, bulk, connection)
        await activate(connection, projection, version)
    return version


async def _approach(
    live: Runner, reader: LogReader, bulk: BulkRunner, connection: AsyncConnection[Any], on_progress: OnProgress | None
) -> None:
    """Fold until few events are missing to the position of the live version."""
    for _ in range(2):  # events that come during this write are folded and written, too, before the live runner is blocked
        target = await live.positions(connection)
        while (missing := reader.missing(target)) > CLOSE:
            await fold_until(reader, bulk, connection, target, events_max=REPORT_EVENTS)
            if on_progress:
                total = sum(target.values())
                await on_progress(total - missing, total)
            target = await live.positions(connection)
        await bulk.flush(connection)


async def _catch_up(live: Runner, reader: LogReader, bulk: BulkRunner, connection: AsyncConnection[Any]) -> str:
    """Block the live runner and fold the rest, in the caller's transaction; return the digest of its tables."""
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
    """Return the differences of a new version from the live one, at the same positions."""
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
