"""Folds record batches into a projection's tables: exactly once in effect.

Rows and positions are written in one transaction. Each position moves by compare-and-set: the batch must start exactly at the
stored position, else nothing is written. So a killed, paused or doubled runner neither loses an event nor counts it twice.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from events.envelope import Event, Recorded
from events.errors import KinologError, PositionConflict
from projections.folding.code import code_of
from projections.folding.fold import Change, Gathered, Key, Projection, Table
from projections.folding.positions import is_served
from projections.folding.store import (
    SQL,
    SeenStore,
    TableStore,
    activate,
    add_positions,
    create_version,
    digest_of,
    drop_version,
    schema_of,
)


class ProjectionOutdated(KinologError):
    """The stored version of a projection was made for other tables than the code's; run `kinolog rebuild NAME`."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of one partition: offsets `start` (incl.) to `next` (excl.), `count` records, newest `event_time`."""

    topic: str
    partition: int
    start: int
    next: int
    count: int
    event_time: datetime | None

    def joined(self, after: "Slice") -> "Slice":
        """Return this and the stretch right after it as one."""
        times = [time for time in (self.event_time, after.event_time) if time is not None]
        count = self.count + after.count
        return Slice(self.topic, self.partition, self.start, after.next, count, max(times, default=None))


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of some partitions, in the order of each, and the stretches of the log that they cover.

    Where the projection gathers, `gathered` replaces the records.
    """

    slices: tuple[Slice, ...]
    records: Sequence[Recorded[Event]]
    gathered: Gathered | None = None

    @property
    def count(self) -> int:
        """Number of records on the log."""
        return sum([part.count for part in self.slices])


def touches(table: Table[Any], records: Iterable[Any]) -> list[tuple[Collection[Key], Any]]:
    """Return the records, gathered items or changes for this table, each with the keys of the rows that it may change."""
    keys_of = table.keys_of
    if table.source is not None:
        records = (item for change in records for item in table.source.items(change))
    return [(keys, record) for record in records if (keys := keys_of(record))]


def fold(
    table: Table[Any], rows: Mapping[Key, Any | None], touching: Iterable[tuple[Collection[Key], Any]]
) -> dict[Key, Any | None]:
    """Return the changed rows by key, None for a deleted one; a key that is not in `rows` has no row yet."""
    changed: dict[Key, Any | None] = {}
    evolve, stored = table.evolve, rows.get
    for keys, record in touching:
        for key in keys:
            row = changed[key] if key in changed else stored(key)
            after = evolve(row, record)
            if after is not row:
                changed[key] = after
    return changed


def changes(rows: Mapping[Key, Any | None], changed: Mapping[Key, Any | None]) -> list[Change[Any]]:
    """Return the changes that `fold` made of these rows, for tables `of` this one."""
    return [Change(rows.get(key), after) for key, after in changed.items()]


class Runner:
    """Writes one version of one projection; a `live` one refuses when the readers were flipped to another version."""

    def __init__(self, projection: Projection, version: int, *, live: bool) -> None:
        self.projection = projection
        self.version = version
        self._live = live
        schema = schema_of(projection.name, version)
        self.stores = [TableStore(table, schema) for table in projection.tables]
        self.seen = SeenStore(projection.seen, schema) if projection.seen else None

    async def positions(self, connection: AsyncConnection[Any]) -> dict[tuple[str, int], int]:
        """Return the stored next offset of each (topic, partition)."""
        values = {"name": self.projection.name, "version": self.version}
        cursor = await connection.execute(SQL["positions"], values)
        return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}

    async def counts(self, connection: AsyncConnection[Any]) -> dict[tuple[str, int], int]:
        """Return the number of folded records of each (topic, partition): equal counts at equal positions mean no gap."""
        values = {"name": self.projection.name, "version": self.version}
        cursor = await connection.execute(SQL["positions"], values)
        return {(row[0], row[1]): row[3] for row in await cursor.fetchall()}

    async def codes(self, connection: AsyncConnection[Any]) -> list[str] | None:
        """Return the digests of all code that has folded into this version; None for a version older than these records."""
        cursor = await connection.execute(SQL["codes"], {"name": self.projection.name, "version": self.version})
        found = await cursor.fetchone()
        return found[0] if found else None

    async def add_code(self, connection: AsyncConnection[Any]) -> None:
        """Record that the running code folds into this version from now on."""
        values = {"name": self.projection.name, "version": self.version, "code": code_of(self.projection)}
        await connection.execute(SQL["add_code"], values)

    async def apply(self, connection: AsyncConnection[Any], batch: Batch) -> None:
        """Fold the batch and move the positions, all or nothing. Raises PositionConflict when another process moved them."""
        async with connection.transaction():
            await self.write(connection, batch)

    async def write(self, connection: AsyncConnection[Any], batch: Batch) -> None:
        """Do the work of `apply` inside the caller's transaction."""
        await self.move(connection, batch)
        items: dict[str | None, Sequence[Any]] = {None: await self._items(connection, batch)}
        for store in self.stores:
            touching = touches(store.table, items.get(store.table.of, ()))
            if touching:
                wanted = list(dict.fromkeys(key for keys, _ in touching for key in keys))
                rows = await store.fetch(connection, wanted)
                changed = fold(store.table, rows, touching)
                await store.save(connection, changed)
                items[store.table.name] = changes(rows, changed)

    async def _items(self, connection: AsyncConnection[Any], batch: Batch) -> Sequence[Any]:
        """Return the items that tables fold: the records, or the sums of those with new ids."""
        if self.seen is None:
            return batch.records
        assert batch.gathered is not None, "a projection that gathers wants the batches of a reader that does"
        looking = asyncio.create_task(self.seen.add(connection, batch.gathered.ids))
        await asyncio.sleep(0)  # PostgreSQL gets the ids now, and looks them up while sums are made here
        items = batch.gathered.items()
        if repeated := await looking:  # seldom
            items = (await batch.gathered.without(repeated)).items()
        return items

    async def move(self, connection: AsyncConnection[Any], batch: Batch) -> None:
        """Move the positions over the batch, inside the caller's transaction. Raises PositionConflict."""
        if self._live:
            cursor = await connection.execute(SQL["active_for_share"], {"name": self.projection.name})
            if await cursor.fetchone() != (self.version,):
                raise PositionConflict(f"{self.projection.name} was flipped to another version")
        for part in batch.slices:
            await self._move(connection, part)

    async def lock(self, connection: AsyncConnection[Any]) -> None:
        """Lock every position until the caller's transaction ends, which blocks all other writers."""
        await connection.execute(SQL["lock_positions"], {"name": self.projection.name, "version": self.version})

    async def _move(self, connection: AsyncConnection[Any], part: Slice) -> None:
        values = {
            "name": self.projection.name,
            "version": self.version,
            "topic": part.topic,
            "partition": part.partition,
            "start": part.start,
            "next": part.next,
            "folded": part.count,
            "event_time": part.event_time,
        }
        cursor = await connection.execute(SQL["move_position"], values)
        if cursor.rowcount != 1:
            raise PositionConflict(f"{self.projection.name} v{self.version}: {part.topic}/{part.partition} is not at {part.start}")

    async def digest(self, connection: AsyncConnection[Any]) -> dict[str, str]:
        """Return the digest of each table."""
        return {store.table.name: await store.digest(connection) for store in self.stores}


async def install_any(connection: AsyncConnection[Any], projection: Projection) -> Runner:
    """Create the projection's first version if there is none; return the runner of the active one, even with other tables.

    A topic that the version has not read yet is read from its start.
    """
    async with connection.transaction():
        await connection.execute(SQL["lock_installation"])
        await connection.execute(SQL["create"])
        cursor = await connection.execute(SQL["active"], {"name": projection.name})
        found = await cursor.fetchone()
        if found is None:
            await create_version(connection, projection, 1)
            await activate(connection, projection, 1)
        else:
            await add_positions(connection, projection, found[0])
    return Runner(await as_made(connection, projection, found[0] if found else 1), found[0] if found else 1, live=True)


async def as_made(connection: AsyncConnection[Any], projection: Projection, version: int) -> Projection:
    """Return the projection under the rules with which a version was made."""
    if projection.under is None:
        return projection
    cursor = await connection.execute(SQL["rules"], {"name": projection.name, "version": version})
    return _under(projection, await cursor.fetchone())


async def as_served(connection: AsyncConnection[Any], projection: Projection) -> Projection:
    """Return the projection under the rules of the version that serves, or under its own when none does."""
    if projection.under is None or not await is_served(connection, projection.name):
        return projection
    cursor = await connection.execute(SQL["serving_rules"], {"name": projection.name})
    return _under(projection, await cursor.fetchone())


def _under(projection: Projection, found: tuple[Any, ...] | None) -> Projection:
    assert projection.under is not None and found is not None
    return projection.under(tuple((found[0] or {}).items()))


async def install(connection: AsyncConnection[Any], projection: Projection) -> Runner:
    """Return the runner of the active version; create the first version if there is none.

    Raises ProjectionOutdated when this code has other tables.
    """
    runner = await install_any(connection, projection)
    cursor = await connection.execute(SQL["active"], {"name": projection.name})
    found = await cursor.fetchone()
    if found is None or found[1] != digest_of(projection):
        name = projection.name
        raise ProjectionOutdated(f"{name} v{runner.version} was made for other tables; run: kinolog rebuild {name}")
    return runner


async def start_rebuild(connection: AsyncConnection[Any], projection: Projection) -> Runner:
    """Create a new, empty version beside the active one; return its runner.

    The version before the active one stays, for `rebuild.flip_back`; leftovers of broken rebuilds are dropped.
    """
    async with connection.transaction():
        await connection.execute(SQL["lock_installation"])
        await connection.execute(SQL["create"])
        cursor = await connection.execute(SQL["active"], {"name": projection.name})
        found = await cursor.fetchone()
        active = found[0] if found else 0
        cursor = await connection.execute(SQL["versions"], {"name": projection.name})
        versions = [version for version, *_ in await cursor.fetchall()]
        kept = {active, max((version for version in versions if version < active), default=active)}
        for version in versions:
            if version not in kept:
                await drop_version(connection, projection.name, version)
        await create_version(connection, projection, active + 1)
    return Runner(projection, active + 1, live=False)
