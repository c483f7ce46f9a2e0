"""Replays: history folded into a table that a user's file defines.

The question is a Python file with `TOPICS` and either a `TABLE`, as in the project's own projections, or a function that
takes Arrow batches and returns a table:

    TOPICS = (JOBS,)
    TABLE = Table("jobs_per_day", PerDay, ("day", "kind"), keys_of, evolve)

    TOPICS = (JOBS,)
    def aggregate(jobs: pa.RecordBatchReader) -> pa.Table | polars.DataFrame: ...

A replay reads each position once, so a fold may count. Rows and positions are stored together after each whole batch.
A fold that fails ends the replay at that event; the next replay resumes there.
"""

import importlib.util
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from events.codec import encode
from events.envelope import REGISTRY, Event, Recorded
from events.errors import InvalidRequest, KinologError
from events.topics import TOPICS, Partition, Topic
from projections.folding.bulk import BATCH_RECORDS
from projections.folding.fold import Key, Projection, Table
from projections.folding.log import LogReader
from projections.folding.runner import fold
from projections.history.parquet import schema_of

_SQL_TYPES = {
    str: "text",
    int: "bigint",
    float: "double precision",
    bool: "boolean",
    datetime: "timestamptz",
    date: "date",
}
T = TypeVar("T")


class FoldFailed(KinologError):
    """The view's code raised; the message shows the event and the error."""


class AggregationFailed(KinologError):
    """The aggregation's code raised; the message shows the line and the error."""


@dataclass(frozen=True)
class Wanted:
    """Selects the events of a replay; None and empty mean any. `since` is inclusive, `until` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] = ()
    key: str | None = None

    def __post_init__(self) -> None:
        """Raise InvalidRequest for an unknown event type."""
        for word in self.types:
            if not any(_is_called(event, word) for event in REGISTRY.values()):
                raise InvalidRequest(f"no event is called {word!r}; docs/reference/events.md lists them")

    def __call__(self, recorded: Recorded[Event]) -> bool:
        """Return whether an event is selected. A type may be given as part of the wire type or as the class name."""
        envelope = recorded.envelope
        if self.since is not None and envelope.time < self.since:
            return False
        if self.until is not None and envelope.time >= self.until:
            return False
        if self.key is not None and envelope.subject != self.key:
            return False
        return not self.types or self.has_type(type(envelope.data))

    def has_type(self, event: type[Event]) -> bool:
        """Return whether `types` includes an event class."""
        return any(_is_called(event, word) for word in self.types)


def _is_called(event: type[Event], word: str) -> bool:
    return word in event.TYPE or word == event.__name__


EVERYTHING = Wanted()


@dataclass(frozen=True)
class View:
    """A table and the topics it is folded from."""

    table: Table[Any]
    topics: tuple[Topic, ...]

    def projection(self) -> Projection:
        """Return the view as a projection whose SQL table follows the row's types."""
        return Projection(self.table.name, self.topics, (self.table,), "".join(_create(self.table)))


@dataclass(frozen=True)
class Aggregation:
    """A function from Arrow batches to a table. It gets one reader per topic, with those of `columns` that the topic has."""

    name: str
    topics: tuple[Topic, ...]
    columns: tuple[str, ...]
    function: Callable[..., Any]

    def __call__(self, readers: Sequence[pa.RecordBatchReader]) -> pa.Table:
        """Return the function's table. Raises AggregationFailed when it raises, InvalidRequest when it returns no table."""
        try:
            found = self.function(*readers)
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(line.filename).name}:{line.lineno}"
            raise AggregationFailed(f"aggregate failed at {where}: {type(error).__name__}: {error}") from error
        try:
            return pa.table(found)
        except TypeError as error:
            raise InvalidRequest(f"aggregate wants to return an Arrow table or a data frame, not {type(found).__name__}") from error


def load_module(path: Path) -> ModuleType:
    """Run a Python file as a module. Raises InvalidRequest when it does not exist."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidRequest(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def question_of(module: ModuleType, topics: Sequence[str] = ()) -> View | Aggregation:
    """Return a module's question; `topics` replaces the module's own when given. Raises InvalidRequest."""
    table, function = getattr(module, "TABLE", None), getattr(module, "aggregate", None)
    if isinstance(table, Table) == callable(function):
        raise InvalidRequest(
            f"{module.__name__} wants either TABLE = Table(name, row, key, keys_of, evolve), see projections/folding/fold.py, "
            "or a function aggregate(batches); docs/tutorials/replay.md has both"
        )
    chosen = tuple(named_topic(name) for name in topics) or tuple(getattr(module, "TOPICS", ()))
    if not chosen:
        raise InvalidRequest(f"{module.__name__} wants TOPICS = (…,), or --topic; there are: {', '.join(TOPICS)}")
    if isinstance(table, Table):
        return View(replace(table, keys_of=_explaining(table.keys_of), evolve=_explaining(table.evolve)), chosen)
    assert callable(function)
    columns = tuple(getattr(module, "COLUMNS", ()))
    known = {name for topic in chosen for name in (*schema_of(topic.name).names, "data")} - {"record"}
    if unknown := sorted(set(columns) - known):
        raise InvalidRequest(f"there is no column {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    return Aggregation(module.__name__, chosen, columns, function)


def named_topic(name: str) -> Topic:
    """Return a declared topic by name. Raises InvalidRequest when it does not exist."""
    if name not in TOPICS:
        raise InvalidRequest(f"there is no topic {name}; there are: {', '.join(TOPICS)}")
    return TOPICS[name]


def _explaining(call: Callable[..., T]) -> Callable[..., T]:
    """Wrap a view's function so that an error names the event."""

    def explaining(*args: Any) -> T:
        try:
            return call(*args)
        except Exception as error:
            recorded: Recorded[Event] = args[-1]
            where = f"{recorded.topic}/{recorded.partition}/{recorded.offset}"
            event = encode(recorded.envelope).decode()
            raise FoldFailed(f"{call.__name__} failed at {where}: {type(error).__name__}: {error}\n{event}") from error

    return explaining


def _create(table: Table[Any]) -> Iterator[str]:
    hints = get_type_hints(table.row)
    yield f'CREATE TABLE "{table.name}" ('
    for field in fields(table.row):
        sql_type, may_be_null = _column(hints[field.name])
        yield f'"{field.name}" {sql_type}{"" if may_be_null else " NOT NULL"}, '
    yield "PRIMARY KEY (" + ", ".join(f'"{name}"' for name in table.key) + "))"


def _column(annotation: Any) -> tuple[str, bool]:
    """Return a field's column type and whether it may be null; anything but a scalar is JSON."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return (_column(kinds[0])[0] if len(kinds) == 1 else "jsonb"), type(None) in get_args(annotation)
    return _SQL_TYPES.get(annotation, "jsonb"), False


class InMemory:
    """Rows of a view and the positions they cover, held until both are written together."""

    def __init__(self, view: View, positions: Mapping[Partition, int] | None = None) -> None:
        self.view = view
        self.rows: dict[Key, Any] = {}
        self.positions = dict(positions or {(topic.name, n): 0 for topic in view.topics for n in range(topic.partitions)})
        self.events = 0

    def apply(self, records: Sequence[Recorded[Event]]) -> dict[Key, Any | None]:
        """Fold records; return the changed rows. Raises FoldFailed, leaving everything unchanged."""
        table = self.view.table
        changed = fold(table, self.rows, zip(map(table.keys_of, records), records, strict=True))
        self.rows.update(changed)
        for key in [key for key, row in changed.items() if row is None]:
            del self.rows[key]
        self.events += len(records)
        return changed

    async def read_to_end(self, reader: LogReader, wanted: Wanted) -> AsyncIterator[dict[Key, Any | None]]:
        """Fold from the positions to the end of history; yield the changed rows, batch by batch."""
        await reader.seek(self.positions)
        async for records, _dead in reader.to_end(records_max=BATCH_RECORDS):
            yield self.apply([recorded for recorded in records if wanted(recorded)])
            self.positions = reader.positions
