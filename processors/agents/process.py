"""A process: a fold that also answers. It keeps a row per subject, like a projection, and derives events from it.

Derived events have derived ids and are acknowledged by the log before row and position are written: at least once,
idempotent by id. A rebuild folds the rows alone, so no event is derived a second time by it.

Nobody waits for somebody else's fault: whatever goes wrong with one subject, an error or an event that does not fit on
the log, fails that subject with a code and a sentence, and the others of the batch derive what they would alone.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from psycopg import AsyncConnection

from events.envelope import Envelope, Event, Recorded
from events.errors import EventTooLarge
from events.media import Failure
from producers.appender import record_of
from projections.folding.fold import Key, Projection, Table
from projections.folding.runner import Batch, Runner

R = TypeVar("R")
Step = tuple[R | None, list[Envelope[Event]]]

SLICE_EVENTS = 1000
SLICE_BYTES = 8 * 2**20
"""What a batch derives is appended in slices of about so many events or bytes: far below what an appender takes at once."""
DETAIL_MAX = 4000
TOO_LARGE = (
    "size_limits",
    "PLAN_TOO_LARGE",
    "More would have to be written down about this file than fits on the log: split it, or leave tracks out.",
)
UNEXPECTED = (
    "unknown",
    "PLANNING_ERROR",
    "Something unexpected happened while this was planned; the log of the processors says more.",
)
"""Category, code and sentence of a subject that failed."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Process(Generic[R]):
    """A projection of one table, and `react(row, recorded) -> (row, events)`, called after `evolve` on each event.

    `react` is pure; it may change the row (what it did is part of its state) and return derived events. `fail(key, row,
    recorded, failure)` says what becomes of a subject at which that went wrong: its row, None when there is none yet,
    and what everybody should know. It must be simple, for nothing stands behind it.
    """

    projection: Projection
    react: Callable[[R | None, Recorded[Event]], Step[R]]
    fail: Callable[[Key, R | None, Recorded[Event], Failure], Step[R]]

    @property
    def table(self) -> Table[R]:
        """The one table."""
        (table,) = self.projection.tables
        return table


def step(process: Process[Any], rows: dict[Key, Any | None], records: Sequence[Recorded[Event]]) -> list[Envelope[Event]]:
    """Fold records into `rows` (changed in place) and return the derived events, in order."""
    return [envelope for part in slices(process, rows, records) for envelope in part]


def slices(
    process: Process[Any], rows: dict[Key, Any | None], records: Sequence[Recorded[Event]]
) -> Iterator[list[Envelope[Event]]]:
    """Fold records into `rows` (changed in place) and yield the derived events in slices, in order: memory stays flat."""
    derived: list[Envelope[Event]] = []
    size_bytes = 0
    for record in records:
        for key in process.table.keys_of(record):
            rows[key], events = _isolated(process, key, rows.get(key), record)
            for envelope, length in events:
                derived.append(envelope)
                size_bytes += length
                if len(derived) >= SLICE_EVENTS or size_bytes >= SLICE_BYTES:
                    yield derived
                    derived, size_bytes = [], 0
    if derived:
        yield derived


def _isolated(
    process: Process[Any], key: Key, row: Any | None, record: Recorded[Event]
) -> tuple[Any | None, list[tuple[Envelope[Event], int]]]:
    """Return a subject's row and what it derives, each with its bytes; what becomes of it when that cannot be done."""
    where: dict[str, Any] = {"process": process.projection.name, "subject": "/".join(map(str, key))}
    where |= {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    try:
        row = process.table.evolve(row, record)
        after, events = process.react(row, record)
        return after, _measured(events)
    except Exception as error:  # whatever it is, it is this subject's alone
        failure = _failure(error)
        log.error("subject_failed", code=failure.code, error=str(error), exc_info=failure.code == UNEXPECTED[1], **where)
    try:
        after, events = process.fail(key, row, record, failure)
        return after, _measured(events)
    except Exception as error:
        log.exception("subject_left", error=str(error), **where)
        return row, []


def _measured(events: Sequence[Envelope[Event]]) -> list[tuple[Envelope[Event], int]]:
    """Return events with their encoded lengths. Raises InvalidEvent for one that the log would not take."""
    return [(envelope, len(record_of(envelope)[1])) for envelope in events]


def _failure(error: Exception) -> Failure:
    """Return why a subject failed, in words for a person."""
    if isinstance(error, EventTooLarge):
        category, code, sentence = TOO_LARGE
    else:
        category, code, sentence = UNEXPECTED
    detail = f"{type(error).__name__}: {error}"[:DETAIL_MAX]
    return Failure(stage="analysis", category=category, code=code, message=sentence, detail=detail, retryable=False)


Append = Callable[[Sequence[Envelope[Event]]], Awaitable[object]]


async def run_batch(process: Process[Any], runner: Runner, connection: AsyncConnection[Any], append: Append, batch: Batch) -> None:
    """Handle a batch: lock and move the positions, derive and append in slices, write the rows, commit."""
    async with connection.transaction():
        await runner.move(connection, batch)
        await _handle(process, runner, connection, append, batch.records)


async def run_again(
    process: Process[Any], runner: Runner, connection: AsyncConnection[Any], append: Append, recorded: Recorded[Event]
) -> None:
    """Handle an event that was passed over when it came, after those that came since: no position moves, but all are locked."""
    async with connection.transaction():
        await runner.lock(connection)
        await _handle(process, runner, connection, append, [recorded])


async def _handle(
    process: Process[Any], runner: Runner, connection: AsyncConnection[Any], append: Append, records: Sequence[Recorded[Event]]
) -> None:
    (store,) = runner.stores
    keys = {key for record in records for key in process.table.keys_of(record)}
    rows: dict[Key, Any | None] = dict.fromkeys(keys)
    before = await store.fetch(connection, list(keys)) if keys else {}
    rows.update(before)
    for derived in slices(process, rows, records):
        await append(derived)
    await store.save(connection, {key: row for key, row in rows.items() if row != before.get(key)})
