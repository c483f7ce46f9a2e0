"""A process: a fold that also answers. It keeps rows, like a projection, and decides from them what has to follow.

Rows are a fold of the log and of nothing else, so a process is rebuilt, compared and restated as projections are. `decide` is
a pure function of a row: it names the step that is due, in words that are the same however often it is asked. Its events get
their ids by this name, so a decision that is made again after a crash writes the same ids. Effects are appended first, then the
facts that record the decision; once the row has folded these, the step is no longer due. Until then its name is remembered
beside the rows (`kinolog.decided`, whatever the version), so that it is not made twice.

Nobody waits for somebody else's fault: whatever goes wrong with one subject, an error or an event that does not fit on
the log, fails that subject with a code and a sentence, and the others of the batch derive what they would alone.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Generic, LiteralString, TypeVar
from uuid import UUID, uuid5

import structlog
from psycopg import AsyncConnection

from events.envelope import E, Envelope, Event, Recorded
from events.errors import EventTooLarge
from events.media import Failure
from producers.appender import record_of
from projections.folding.fold import Key, Projection, Table
from projections.folding.queries import load
from projections.folding.runner import Batch, Runner, fold, touches
from projections.folding.store import TableStore

R = TypeVar("R")
Derived = tuple[Event, str]
"""An event that follows, and its subject."""
Append = Callable[[Sequence[Envelope[Event]]], Awaitable[object]]
Decided = MutableMapping[str, str]
"""Names of decisions by subject."""

SLICE_EVENTS = 1000
SLICE_BYTES = 8 * 2**20
"""What follows is appended in slices of about so many events or bytes: far below what an appender takes at once."""
SETTLED_ROWS = 200
"""Rows that are looked at together when nothing came."""
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
NAMESPACE = UUID("5f0c7a52-6c0c-4d0b-9f5e-0e6f7b1c8a11")
"""Of the ids of what is decided."""
SQL = load(Path(__file__).with_name("process.sql"))
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Decision:
    """A step that is due. `facts` record on the log that it was decided; they are appended when all `effects` are there."""

    name: str
    effects: tuple[Derived, ...] = ()
    facts: tuple[Derived, ...] = ()


def nothing(row: Any, failure: Failure) -> Decision | None:
    """Decide nothing about a subject that failed."""
    return None


@dataclass(frozen=True)
class Rule(Generic[R]):
    """How is decided about the rows of a table.

    `decide(row, now)` is pure and returns the step that is due, None when nothing is. `now` is the time of the log: that of the
    row's latest event, or that of a tick. `fail(row, failure)` says what everybody should know of a subject at which that went
    wrong; it must be simple, for nothing stands behind it. The query `undecided` returns the keys of rows at which something may
    be due although no event came: by the time that passes (`%(now)s`), or because other code decides than before.
    """

    table: Table[R]
    decide: Callable[[R, datetime], Decision | None]
    fail: Callable[[R, Failure], Decision | None] = nothing
    undecided: LiteralString | None = None


@dataclass(frozen=True)
class Process:
    """A projection, and rules for tables of it. `source` is that of the events that it writes."""

    projection: Projection
    source: str
    rules: tuple[Rule[Any], ...]


def isolated(
    process: str,
    keys_of: Callable[[Recorded[E]], Sequence[Key]],
    evolve: Callable[[R | None, Recorded[E]], R | None],
    noted: Callable[[Key, R | None, Failure], R],
) -> Callable[[R | None, Recorded[E]], R | None]:
    """Return the fold that notes in a row why an event could not be folded into it, and goes on.

    At such an event a projection stands still; of a process the one subject fails.
    """

    @wraps(evolve)
    def evolve_isolated(row: R | None, recorded: Recorded[E]) -> R | None:
        try:
            return evolve(row, recorded)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this subject's alone)
            (key,) = keys_of(recorded)
            place = {"topic": recorded.topic, "partition": recorded.partition, "offset": recorded.offset}
            return noted(key, row, _failure(error, process, key, **place))

    return evolve_isolated


def due(
    process: Process,
    rule: Rule[R],
    rows: Mapping[Key, R],
    decided: Decided,
    causes: Mapping[Key, Envelope[Event]],
    now: datetime,
) -> Iterator[list[Envelope[Event]]]:
    """Yield what follows from rows, in slices, in the order in which it must be appended; change `decided` accordingly.

    A row is judged at the time of the event that is its cause, or at `now` when it has none. What follows has the time `now`.
    """
    effects, facts = _Slice(), _Slice()
    for key, row in rows.items():
        subject = subject_of(key)
        name, follows, records = _decision(process, rule, key, row, causes.get(key), now)
        if name == decided.get(subject):
            continue  # made before; the log does not say so yet
        if name is None:
            del decided[subject]
            continue
        decided[subject] = name
        for one in follows:
            if effects.add(*one):
                yield effects.take()
        for one in records:
            if facts.add(*one):
                yield from filter(None, (effects.take(), facts.take()))
    yield from filter(None, (effects.take(), facts.take()))


def subject_of(key: Key) -> str:
    """Return a row's key as one text."""
    return "/".join(map(str, key))


@dataclass
class _Slice:
    """Events that are appended together."""

    events: list[Envelope[Event]] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, envelope: Envelope[Event], size_bytes: int) -> bool:
        """Take an event; tell whether these are enough."""
        self.events.append(envelope)
        self.size_bytes += size_bytes
        return len(self.events) >= SLICE_EVENTS or self.size_bytes >= SLICE_BYTES

    def take(self) -> list[Envelope[Event]]:
        """Return the events, and begin anew."""
        taken, self.events, self.size_bytes = self.events, [], 0
        return taken


Measured = list[tuple[Envelope[Event], int]]


def _decision(
    process: Process, rule: Rule[R], key: Key, row: R, cause: Envelope[Event] | None, now: datetime
) -> tuple[str | None, Measured, Measured]:
    """Return the name of what is due, its effects and its facts, with their bytes; of what becomes of a subject that fails."""
    try:
        return _measured(process, rule, key, rule.decide(row, cause.time if cause else now), cause, now)
    except Exception as error:  # noqa: BLE001  (as above)
        failure = _failure(error, process.projection.name, key, cause=cause.id if cause else None)
    try:
        return _measured(process, rule, key, rule.fail(row, failure), cause, now)
    except Exception as error:
        log.exception("subject_left", process=process.projection.name, subject=subject_of(key), error=str(error))
        return None, [], []


def _measured(
    process: Process, rule: Rule[R], key: Key, decision: Decision | None, cause: Envelope[Event] | None, now: datetime
) -> tuple[str | None, Measured, Measured]:
    """Return a decision's events as they are appended. Raises InvalidEvent for one that the log would not take."""
    if decision is None:
        return None, [], []
    subject = subject_of(key)
    named = f"{process.projection.name}/{rule.table.name}/{subject}/{decision.name}"
    measured: Measured = []
    for index, (event, about) in enumerate((*decision.effects, *decision.facts)):
        id_ = str(uuid5(NAMESPACE, f"{named}/{index}"))
        correlation, causation = (cause.correlationid, cause.id) if cause else (subject, None)
        envelope = Envelope(id_, process.source, about, now, event, correlation, causation)
        measured.append((envelope, len(record_of(envelope)[1])))
    count = len(decision.effects)
    return decision.name, measured[:count], measured[count:]


def _failure(error: Exception, process: str, key: Key, **where: object) -> Failure:
    """Return why a subject failed, in words for a person; the log has the place."""
    category, code, sentence = TOO_LARGE if isinstance(error, EventTooLarge) else UNEXPECTED
    unexpected = code == UNEXPECTED[1]
    log.error("subject_failed", code=code, error=str(error), process=process, subject=subject_of(key), exc_info=unexpected, **where)
    detail = f"{type(error).__name__}: {error}"[:DETAIL_MAX]
    return Failure(stage="analysis", category=category, code=code, message=sentence, detail=detail, retryable=False)


# --- effects --------------------------------------------------------------------------------------------------------


async def run_batch(
    process: Process, runner: Runner, connection: AsyncConnection[Any], append: Append, batch: Batch, now: datetime
) -> None:
    """Handle a batch: lock and move the positions, fold, append what follows, commit."""
    async with connection.transaction():
        await connection.execute(SQL["lock"], {"process": process.projection.name})
        await runner.move(connection, batch)
        await _handle(process, runner, connection, append, batch.records, now)


async def run_again(
    process: Process, runner: Runner, connection: AsyncConnection[Any], append: Append, recorded: Recorded[Event], now: datetime
) -> None:
    """Handle an event that was passed over when it came, after those that came since: no position moves, but all are locked."""
    async with connection.transaction():
        await connection.execute(SQL["lock"], {"process": process.projection.name})
        await runner.lock(connection)
        await _handle(process, runner, connection, append, [recorded], now)


async def _handle(
    process: Process,
    runner: Runner,
    connection: AsyncConnection[Any],
    append: Append,
    records: Sequence[Recorded[Event]],
    now: datetime,
) -> None:
    rules = {rule.table.name: rule for rule in process.rules}
    for store in runner.stores:
        touching = touches(store.table, records)
        causes = {key: record.envelope for keys, record in touching for key in keys}
        if not causes:
            continue
        stored = await store.fetch(connection, list(causes))
        changed = fold(store.table, stored, touching)
        await store.save(connection, changed)
        rows = {key: row for key in causes if (row := changed.get(key, stored.get(key))) is not None}
        if (rule := rules.get(store.table.name)) is not None:
            await _follow(process, rule, rows, causes, connection, append, now)


async def settle(process: Process, runner: Runner, connection: AsyncConnection[Any], append: Append, now: datetime) -> None:
    """Decide at the time `now` about rows of the active version to which nothing came.

    All that was on the log at that time must have been folded. Raises PositionConflict when another version was flipped to.
    """
    stores = {store.table.name: store for store in runner.stores}
    for rule in process.rules:
        if rule.undecided is None:
            continue
        keys = await (await connection.execute(rule.undecided, {"now": now})).fetchall()
        for at in range(0, len(keys), SETTLED_ROWS):
            await _settle(process, rule, runner, stores[rule.table.name], keys[at : at + SETTLED_ROWS], connection, append, now)


async def _settle(
    process: Process,
    rule: Rule[Any],
    runner: Runner,
    store: TableStore,
    keys: Sequence[Key],
    connection: AsyncConnection[Any],
    append: Append,
    now: datetime,
) -> None:
    async with connection.transaction():
        await connection.execute(SQL["lock"], {"process": process.projection.name})
        await runner.move(connection, Batch((), ()))
        await _follow(process, rule, await store.fetch(connection, keys), {}, connection, append, now)


async def _follow(
    process: Process,
    rule: Rule[Any],
    rows: Mapping[Key, Any],
    causes: Mapping[Key, Envelope[Event]],
    connection: AsyncConnection[Any],
    append: Append,
    now: datetime,
) -> None:
    """Append what follows from rows, and remember what was decided, in the caller's transaction."""
    place = {"process": process.projection.name, "rule": rule.table.name}
    cursor = await connection.execute(SQL["decided"], place | {"subjects": [subject_of(key) for key in rows]})
    before = dict(await cursor.fetchall())
    decided = dict(before)
    for part in due(process, rule, rows, decided, causes, now):
        await append(part)
    names = [(subject, name) for subject, name in decided.items() if before.get(subject) != name]
    if names:
        subjects, named = zip(*names, strict=True)
        await connection.execute(SQL["remember"], place | {"subjects": list(subjects), "names": list(named)})
    if gone := [subject for subject in before if subject not in decided]:
        await connection.execute(SQL["forget"], place | {"subjects": gone})
