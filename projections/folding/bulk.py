"""Folds a long stretch of history into a version without readers; rows stay in memory between writes.

Batches are small: the objects of 200 decoded events are still in the processor's cache when they are folded. With 2,000 an event
takes a quarter longer, with 20,000 half as long again. Where a projection gathers, its reader cuts them (`folding.fold.Gathered`).
Rows and positions are written in one transaction, as by `Runner`, but at intervals and not after each batch.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from math import inf
from typing import Any, TypeVar

from psycopg import AsyncConnection

from events.topics import Partition
from projections.folding.fold import Change, Gathered, Key
from projections.folding.log import LogReader
from projections.folding.pace import Pace
from projections.folding.runner import Batch, Runner, Slice, fold, touches
from projections.folding.store import SeenStore, TableStore

T = TypeVar("T")
BATCH_RECORDS = 200
GATHERED_RECORDS = 100_000
"""Records per batch where a projection gathers: few events have as many sums as events."""
ROWS_MAX = 50_000
"""Rows held in memory until they are written and dropped."""
EVENTS_MAX = 500_000
"""Maximum events between two writes of rows and positions."""
WRITTEN = 2_000
"""Rows or ids per statement, which takes a few milliseconds: PostgreSQL rests when we do."""


class BulkRunner:
    """Folds into the version of `runner`, of which it must be the only writer."""

    def __init__(self, runner: Runner, *, empty: bool, pace: Pace | None = None) -> None:
        """With `empty`, nothing is stored yet, and no row is looked up until the first ones are dropped from memory."""
        pace = pace or Pace()
        self._runner = runner
        self._tables = [_Rows(store, pace, complete=empty) for store in runner.stores]
        self._seen = _Ids(runner.seen, pace, complete=empty) if runner.seen else None
        self.records_max = BATCH_RECORDS if runner.projection.gathering is None else GATHERED_RECORDS
        self._passed: dict[tuple[str, int], Slice] = {}
        self._events = 0

    async def apply(self, connection: AsyncConnection[Any], batch: Batch) -> None:
        """Fold a batch; one of the next ones, or `flush`, stores its rows."""
        items: Sequence[Any] = batch.records
        if self._seen is not None:
            assert batch.gathered is not None, "a projection that gathers wants the batches of a reader that does"
            items = (await self._seen.new(connection, batch.gathered)).items()
        for rows in self._tables:
            if rows.table.of is None:
                await rows.fold(connection, items)
        for part in batch.slices:
            before = self._passed.get((part.topic, part.partition))
            self._passed[part.topic, part.partition] = part if before is None else before.joined(part)
            self._events += part.count
        if self._events >= EVENTS_MAX or any(len(rows) >= ROWS_MAX for rows in self._tables):
            await self.flush(connection)

    async def flush(self, connection: AsyncConnection[Any]) -> None:
        """Write rows and positions, all or nothing. Raises PositionConflict when another process moved them.

        Tables that fold changes do it now: a row that changed often since the last time is one change.
        """
        changes: dict[str, Sequence[Change[Any]]] = {}
        for rows in self._tables:
            if rows.table.of is not None:
                await rows.fold(connection, changes[rows.table.of])
            changes[rows.table.name] = rows.changes()
        async with connection.transaction():
            await self._runner.move(connection, Batch(tuple(self._passed.values()), ()))
            if self._seen:
                await self._seen.write(connection)
            for rows in self._tables:
                await rows.write(connection)
        self._passed, self._events = {}, 0


class _Ids:
    """Ids of events that are not stored yet; `complete` while none is stored.

    They are looked up and written in order, so that neighbours in the index are touched together.
    """

    def __init__(self, store: SeenStore, pace: Pace, *, complete: bool) -> None:
        self._store = store
        self._pace = pace
        self._complete = complete
        self._held: set[str] = set()

    async def new(self, connection: AsyncConnection[Any], gathered: Gathered) -> Gathered:
        """Return the gathered sums of the events whose ids are new."""
        repeated = self._held & gathered.ids
        if not self._complete:
            async for ids in _parts(sorted(gathered.ids), self._pace):
                repeated |= await self._store.known(connection, ids)
        if repeated:
            gathered = await gathered.without(repeated)
        self._held |= gathered.ids
        return gathered

    async def write(self, connection: AsyncConnection[Any]) -> None:
        async for ids in _parts(sorted(self._held), self._pace):
            await self._store.keep(connection, ids)
        self._held, self._complete = set(), False


class _Rows:
    """Rows of one table; `complete` while all stored rows are in memory. `stored` are the changed ones, as the table has them."""

    def __init__(self, store: TableStore, pace: Pace, *, complete: bool) -> None:
        self.table = store.table
        self._store = store
        self._pace = pace
        self._complete = complete
        self._held: dict[Key, Any | None] = {}
        self._stored: dict[Key, Any | None] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def fold(self, connection: AsyncConnection[Any], gathered: Sequence[Any]) -> None:
        """Fold records, gathered items or changes."""
        touching = touches(self.table, gathered)
        if not touching:
            return
        held = self._held
        if not self._complete:
            missing = dict.fromkeys(key for keys, _ in touching for key in keys if key not in held)
            held |= missing | (await self._store.fetch(connection, list(missing)) if missing else {})
        changed = fold(self.table, held, touching)
        for key in changed:
            if key not in self._stored:
                self._stored[key] = held.get(key)
        held.update(changed)

    def changes(self) -> list[Change[Any]]:
        """Return the changes since the last write, one for each row."""
        return [Change(before, self._held[key]) for key, before in self._stored.items()]

    async def write(self, connection: AsyncConnection[Any]) -> None:
        new = [row for key, before in self._stored.items() if before is None and (row := self._held[key]) is not None]
        async for rows in _parts(new, self._pace):
            await self._store.insert(connection, rows)
        async for keys in _parts([key for key, before in self._stored.items() if before is not None], self._pace):
            await self._store.save(connection, {key: self._held[key] for key in keys})
        if len(self._held) >= ROWS_MAX:
            self._held, self._complete = {}, False
        self._stored = {}


async def _parts(items: Sequence[T], pace: Pace) -> AsyncIterator[Sequence[T]]:
    """Yield slices for single statements, and rest after each."""
    for at in range(0, len(items), WRITTEN):
        yield items[at : at + WRITTEN]
        await pace.rest()


async def fold_until(
    reader: LogReader, bulk: BulkRunner, connection: AsyncConnection[Any], until: Mapping[Partition, int], events_max: float = inf
) -> None:
    """Fold the reader's records up to `until`, or about `events_max` events; skip dead letters."""
    folded = 0
    while reader.missing(until) and folded < events_max:
        batch, _dead = await reader.read(records_max=bulk.records_max, wait_s=0.5, until=until)
        if batch is not None:
            await bulk.apply(connection, batch)
            folded += batch.count
