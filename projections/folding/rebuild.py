"""Rebuilds a projection from the whole log beside the one that serves, compares, and flips the readers in one transaction."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from events.errors import KinologError, PositionConflict
from projections.folding.bulk import BulkRunner, fold_until
from projections.folding.fold import Projection
from projections.folding.log import LogReader, Place, Source
from projections.folding.pace import RESTS, Pace
from projections.folding.runner import Runner, install_any, start_rebuild
from projections.folding.store import SQL, activate, digest_of, drop_version

CLOSE = 1_000
"""When fewer events than this are missing, the flip may stop the live runner for the rest."""
REPORT_EVENTS = 20_000
"""After so many events the live version is asked where it is, and the progress is told."""


class RebuildDiffers(KinologError):
    """The rebuilt tables differ from the live ones at the same positions."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did. `events` counts the records that were folded.

    `equal` is None when there is nothing to compare: the live version had other tables, or the rebuild is `partial`,
    since the log keeps the topic for some time only and the live version has seen more.
    """

    name: str
    version: int
    events: int
    digests: dict[str, str]
    equal: bool | None
    partial: bool


async def rebuild(
    projection: Projection,
    connection: AsyncConnection[Any],
    source: Source,
    *,
    report: Callable[[int, int], Awaitable[None]] | None = None,
    shares: Callable[[Runner, Mapping[Place, int]], Awaitable[None]] | None = None,
    keep: bool = True,
) -> Rebuilt:
    """Fill version n+1 from the start of the log up to where the live version is, compare, and flip.

    With `keep=False` the new version is only compared and then dropped: a check that changes nothing.

    The live runner is held up only for the last few events. `report(folded, total)` is awaited now and then. `shares` may
    fold the new version up to where the live one is by other means first, of a `partitioned` projection. Raises
    RebuildDiffers, leaving the live version in place, when the digests differ although the code is the same.
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
    for _ in range(2):  # what comes while all is written is folded and written, too, before the live runner is held up
        target = await live.positions(connection)
        while (missing := reader.missing(target)) > CLOSE:
            await fold_until(reader, bulk, connection, target, events_max=REPORT_EVENTS)
            if report:
                total = sum(target.values())
                await report(total - missing, total)
            target = await live.positions(connection)
        await bulk.flush(connection)
    async with connection.transaction():
        cursor = await connection.execute(SQL["active_for_update"], {"name": projection.name})
        active = await cursor.fetchone()
        if active is None or active[0] != live.version:
            raise PositionConflict(f"{projection.name} was flipped by somebody else meanwhile; run the rebuild again")
        target = await live.positions(connection)
        await fold_until(reader, bulk, connection, target)
        await bulk.flush(connection)
        digests, counts = await runner.digest(connection), await runner.counts(connection)
        equal = None
        if active[1] == digest_of(projection) and not reader.truncated:
            equal = await live.digest(connection) == digests and await live.counts(connection) == counts
            if not equal and keep:
                raise RebuildDiffers(f"{projection.name}: v{runner.version} differs from v{live.version} at the same positions")
        if keep:
            await activate(connection, projection, runner.version)
        else:
            await drop_version(connection, projection.name, runner.version)
    if report:
        total = sum(target.values())
        await report(total, total)
    return Rebuilt(projection.name, runner.version, sum(counts.values()), digests, equal, reader.truncated)
