"""A process: a fold that answers with events. It keeps rows, like a projection, and decides from them.

Rows are a fold of the log alone, so a process is rebuilt, compared and restated as projections are. `decide` is a pure function of
a row: it names the due step, always by the same name. The ids of its events derive from that name, so a decision repeated after a
crash writes the same ids. Effects are appended first, then the facts that record the decision. Once the row has folded these
facts, the step is no longer due. Until then its name is remembered beside the rows (`kinolog.decided`, for all versions), so that
it is not made twice.

Subjects fail alone: an error, or an event too large for the log, fails its subject with a code and a sentence. The other subjects
of the batch derive the same events as without it.
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

from events.envelope import E, Envelope, Event, Recorded, program
from events.errors import EventTooLarge
from events.media import Failure
from producers.appender import record_of
from projections.folding.fold import Key, Projection, Table
from projections.folding.queries import load
from projections.folding.runner import Batch, Runner, fold, touches
from projections.folding.store import TableStore

R = TypeVar("R")
Derived = tuple[Event, str]
"""A derived event and its subject."""
Append = Callable[[Sequence[Envelope[Event]]], Awaitable[object]]
Decided = MutableMapping[str, str]
"""Names of decisions by subject."""

SLICE_EVENTS = 1000
SLICE_BYTES = 8 * 2**20
"""Approximate size of the slices in which derived events are appended, in events and bytes: far below an appender's limit."""
SETTLED_ROWS = 200
"""Rows per pass when there is no new event."""
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
"""Namespace of the ids of decided events."""
SQL = load(Path(__file__).with_name("process.sql"))
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Decision:
    """A due step. `facts` record the decision on the log; they are appended after all `effects`."""

    name: str
    effects: tuple[Derived, ...] = ()
    facts: tuple[Derived, ...] = ()


def nothing(row: Any, failure: Failure) -> Decision | None:
    """Decide nothing about a subject that failed."""
    return None


@dataclass(frozen=True)
class Rule(Generic[R]):
    """The rule for the rows of a table.

    `decide(row, now)` is pure and returns the due step, None when there is none. `now` is the time of the log: that of the row's
    latest event, or of a tick. `fail(row, failure)` returns the decision that publishes a subject's failure; keep it simple, for
    its own errors have no fallback. The query `undecided` returns the keys of rows that may be due without an event: because time
    passed (`%(now)s`), or because the code has changed.
    """

    table: Table[R]
    decide: Callable[[R, datetime], Decision | None]
    fail: Callable[[R, Failure], Decision | None] = nothing
    undecided: LiteralString | None = None


@dataclass(frozen=True)
class Process:
    """A projection, and rules for its tables. `source` is the source of the events that it writes."""

    projection: Projection
    source: str
    rules: tuple[Rule[Any], ...]


def isolated(
    process: str,
    keys_of: Callable[[Recorded[E]], Sequence[Key]],
    evolve: Callable[[R | None, Recorded[E]], R | None],
    noted: Callable[[Key, R | None, Failure], R],
) -> Callable[[R | None, Recorded[E]], R | None]:
    """Return a fold that notes its own errors in the row and goes on.

    At such an event a projection stands still; in a process only the subject fails.
    """

    @wraps(evolve)
    def evolve_isolated(row: R | None, recorded: Recorded[E]) -> R | None:
        try:
            return evolve(row, recorded)
        except Exception as error:  # noqa: BLE001  (any error is this subject's alone)
            (key,) = keys_of(recorded)
            position = {"topic": recorded.topic, "partition": recorded.partition, "offset": recorded.offset}
            return noted(key, row, _failure(error, process, key, **position))

    return evolve_isolated


def due(
    process: Process,
    rule: Rule[R],
    rows: Mapping[Key, R],
    decided: Decided,
    causes: Mapping[Key, Envelope[Event]],
    now: datetime,
) -> Iterator[list[Envelope[Event]]]:
    """Yield the derived events of rows in slices, in the order of appending; update `decided`.

    Each row is decided at the time of its cause, the latest event, or at `now` without one. Derived events have the time `now`.
    """
    effects, facts = _Slice(), _Slice()
    for key, row in rows.items():
        subject = subject_of(key)
        name, follows, records = _decision(process, rule, key, row, causes.get(key), now)
        if name == decided.get(subject):
            continue  # decided before; its fact is not folded yet
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
    """Events to append together."""

    events: list[Envelope[Event]] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, envelope: Envelope[Event], size_bytes: int) -> bool:
        """Take an event; return whether the slice is full."""
        self.events.append(envelope)
        self.size_bytes += size_bytes
        return len(self.events) >= SLICE_EVENTS or self.size_bytes >= SLICE_BYTES

    def take(self) -> list[Envelope[Event]]:
        """Return the events, and start the next slice."""
        taken, self.events, self.size_bytes = self.events, [], 0
        return taken


Measured = list[tuple[Envelope[Event], int]]


def _decision(
    process: Process, rule: Rule[R], key: Key, row: R, cause: Envelope[Event] | None, now: datetime
) -> tuple[str | None, Measured, Measured]:
    """Return name, effects and facts of the due step, with their bytes; of the failure when deciding fails."""
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
    """Return a decision's envelopes and bytes. Raises InvalidEvent for an event that the log does not take."""
    if decision is None:
        return None, [], []
    subject = subject_of(key)
    named = f"{process.projection.name}/{rule.table.name}/{subject}/{decision.name}"
    measured: Measured = []
    for index, (event, about) in enumerate((*decision.effects, *decision.facts)):
        id_ = str(uuid5(NAMESPACE, f"{named}/{index}"))
        correlation, causation = (cause.correlationid, cause.id) if cause else (subject, None)
        envelope = Envelope(id_, process.source, about, now, event, correlation, causation, program(process.source))
        measured.append((envelope, len(record_of(envelope)[1])))
    count = len(decision.effects)
    return decision.name, measured[:count], measured[count:]


def _failure(error: Exception, process: str, key: Key, **where: object) -> Failure:
    """Return why a subject failed, for a person; the process logs the position."""
    category, code, sentence = TOO_LARGE if isinstance(error, EventTooLarge) else UNEXPECTED
    unexpected = code == UNEXPECTED[1]
    log.error("subject_failed", code=code, error=str(error), process=process, subject=subject_of(key), exc_info=unexpected, **where)
    detail = f"{type(error).__name__}: {error}"[:DETAIL_MAX]
    return Failure(stage="analysis", category=category, code=code, message=sentence, detail=detail, retryable=False)


# --- effects --------------------------------------------------------------------------------------------------------


async def run_batch(
    process: Process, runner: Runner, connection: AsyncConnection[Any], append: Append, batch: Batch, now: datetime
) -> None:
    """Handle a batch: lock and move the positions, fold, append derived events, commit."""
    async with connection.transaction():
        await connection.execute(SQL["lock"], {"process": process.projection.name})
        await runner.move(connection, batch)
        await _handle(process, runner, connection, append, batch.records, now)


async def run_again(
    process: Process, runner: Runner, connection: AsyncConnection[Any], append: Append, recorded: Recorded[Event], now: datetime
) -> None:
    """Handle an event that was passed over, after later ones: all positions are locked, none moves."""
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
    """Decide at the time `now` about rows of the active version without new events.

    The log up to that time must be folded. Raises PositionConflict when another version was activated.
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
    """Append the derived events of rows and remember the decisions, in the caller's transaction."""
    which = {"process": process.projection.name, "rule": rule.table.name}
    cursor = await connection.execute(SQL["decided"], which | {"subjects": [subject_of(key) for key in rows]})
    before = dict(await cursor.fetchall())
    decided = dict(before)
    for part in due(process, rule, rows, decided, causes, now):
        await append(part)
    names = [(subject, name) for subject, name in decided.items() if before.get(subject) != name]
    if names:
        subjects, named = zip(*names, strict=True)
        await connection.execute(SQL["remember"], which | {"subjects": list(subjects), "names": list(named)})
    if gone := [subject for subject in before if subject not in decided]:
        await connection.execute(SQL["forget"], which | {"subjects": gone})
