"""A process: a fold that also answers. It keeps a row per subject, like a projection, and derives events from it.

Derived events have derived ids and are acknowledged by the log before row and position are written: at least once,
idempotent by id. A rebuild folds the rows alone, so no event is derived a second time by it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from psycopg import AsyncConnection

from events.envelope import Envelope, Event, Recorded
from projections.fold import Key, Projection, Table
from projections.runner import Batch, Runner

R = TypeVar("R")
Step = tuple[R | None, list[Envelope[Event]]]


@dataclass(frozen=True)
class Process(Generic[R]):
    """A projection of one table, and `react(row, recorded) -> (row, events)`, called after `evolve` on each event.

    `react` is pure; it may change the row (what it did is part of its state) and return derived events.
    """

    projection: Projection
    react: Callable[[R | None, Recorded[Event]], Step[R]]

    @property
    def table(self) -> Table[R]:
        """The one table."""
        (table,) = self.projection.tables
        return table


def step(process: Process[Any], rows: dict[Key, Any | None], records: Sequence[Recorded[Event]]) -> list[Envelope[Event]]:
    """Fold records into `rows` (changed in place) and return the derived events, in order."""
    derived: list[Envelope[Event]] = []
    table = process.table
    for record in records:
        for key in table.keys_of(record):
            rows[key], events = process.react(table.evolve(rows[key], record), record)
            derived.extend(events)
    return derived


async def run_batch(
    process: Process[Any],
    runner: Runner,
    connection: AsyncConnection[Any],
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]],
    batch: Batch,
) -> None:
    """Handle a batch: lock and move the positions, derive, append, write the rows, commit."""
    (store,) = runner.stores
    async with connection.transaction():
        await runner.move(connection, batch)
        keys = {key for record in batch.records for key in process.table.keys_of(record)}
        rows: dict[Key, Any | None] = dict.fromkeys(keys)
        before = await store.fetch(connection, list(keys)) if keys else {}
        rows.update(before)
        if derived := step(process, rows, batch.records):
            await append(derived)
        await store.save(connection, {key: row for key, row in rows.items() if row != before.get(key)})
