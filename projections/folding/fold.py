"""Projections: tables, each a fold of the log, `(row | None, recorded) -> row | None`.

A table's row is a dataclass made by `@table_row`; its fields are the table's columns, in any order. A fold is pure: no clock, no
chance, no I/O. It is idempotent by state: the same event may come twice. Events of different topics come in any order relative to
each other, so each topic has columns of its own in a row.

The SQL beside a projection, `<name>.sql`, creates its tables (section `-- name: create`) and has the named queries of its readers.
Each version has its tables in a schema of its own. Readers name the projection's schema, `catalog.videos`, with a view of the
active version.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, LiteralString, NamedTuple, Protocol, TypeVar, dataclass_transform

from events.codec import decode_all
from events.envelope import Envelope
from events.topics import Topic

R = TypeVar("R")
Key = tuple[Any, ...]
Rules = tuple[tuple[str, str | int], ...]
"""Values with which a projection's folds are made, by name."""
DecodeAll = Callable[[Sequence[bytes]], list[Envelope[Any]]]
"""Decodes records; raises InvalidEvent when one of them cannot be decoded."""


@dataclass_transform(frozen_default=True)
def table_row(cls: type[R]) -> type[R]:
    """Make a dataclass for a table's rows.

    Frozen for mypy only: a fold makes a row per event, and the `__init__` of a frozen dataclass takes six times as long
    (1.5 µs instead of 0.2 for eleven fields).
    """
    return dataclass(slots=True)(cls)


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(row: R, /, **values: Any) -> R:
        """Return the row with other values, as `dataclasses.replace` does, in a quarter of its time for a row of 30 columns."""
        columns, all_of = _columns(type(row))
        known = list(all_of(row))
        for name, value in values.items():
            known[columns[name]] = value
        return type(row)(*known)


@cache
def _columns(row: type[Any]) -> tuple[dict[str, int], Callable[[Any], tuple[Any, ...]]]:
    """Return the place of each column among the arguments of a row's class, and a function that returns a row's values."""
    names = [field.name for field in fields(row)]
    return {name: place for place, name in enumerate(names)}, attrgetter(*names)


class Change(NamedTuple, Generic[R]):
    """A row before and after a batch of events; None while there is none."""

    before: R | None
    after: R | None


class ChangesOf(NamedTuple):
    """An earlier table of the projection whose changes a table folds, and the items that each change is split into."""

    table: str
    items: Callable[[Change[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Table(Generic[R]):
    """One folded table.

    `key` names the key columns, which are fields of `row`. `keys_of` returns the keys of the rows that an event may
    change; none when the event is not for this table. `evolve` gets the row under one such key, or None, and returns the
    new row, or None for no row; it must return the same object when nothing changed. Where the projection gathers
    (see `Projection`), both get a gathered item instead of a recorded event.

    With `source`, a table folds the changes of another table instead of events: both get an item of a change. Each row must then be
    a function of all rows of the other table, so that the cutting of the log into batches does not matter, as a sum is
    (`projections.folding.sums`).
    """

    name: str
    row: type[R]
    key: tuple[str, ...]
    keys_of: Callable[[Any], Collection[Key]]
    evolve: Callable[[R | None, Any], R | None]
    source: ChangesOf | None = None
    amounts: tuple[str, ...] = ()
    """Columns that add up over the rows of a table of sums."""

    @property
    def of(self) -> str | None:
        """Name of the table whose changes this one folds; None for a table that folds events."""
        return self.source.table if self.source else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(field.name for field in fields(self.row))  # type: ignore[arg-type]


class Gathering(Protocol):
    """Sums of events: `add` takes events, `items` returns the sums for the tables to fold."""

    def add(self, envelopes: Iterable[Envelope[Any]]) -> None: ...

    def items(self) -> Sequence[Any]: ...


class Gathered:
    """Sums of a batch's events, each event once, and their ids, where a projection gathers.

    Events are summed up a few at a time while they are read, and dropped: 200 decoded events still lie in the processor's
    cache then; with 20,000 an event takes more than half as long again. `without` reads the records again and leaves out the
    events with given ids.
    """

    def __init__(self, gathering: Gathering, without: Callable[[AbstractSet[str]], Awaitable["Gathered"]]) -> None:
        self._gathering = gathering
        self.without = without
        self.ids: set[str] = set()

    def add(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Take events."""
        ids = {envelope.id for envelope in envelopes}
        if len(ids) < len(envelopes) or not ids.isdisjoint(self.ids):  # seldom
            first = {envelope.id: envelope for envelope in reversed(envelopes) if envelope.id not in self.ids}
            ids, envelopes = set(first), list(first.values())
        self.ids |= ids
        self._gathering.add(envelopes)

    def items(self) -> Sequence[Any]:
        """Return the items that tables fold."""
        return self._gathering.items()


@dataclass(frozen=True)
class Projection:
    """A named set of tables folded from some topics. `create` is the `create` section of its .sql file.

    Without tables it is only a position on the log, for an effect outside (see processors/files.py).

    `partitioned` promises that no two partitions change the same row: several processes may then fold history, each with its
    share of the partitions.

    For many events and few rows, a `gathering` sums events up while they are read, and tables fold the sums. The result must not
    depend on the cutting of the log into batches. A sum cannot show that an event came twice, so a projection that gathers names
    a table of `create` as `seen`, with the one column `id uuid PRIMARY KEY`; an event whose id is in it is dropped for ever.
    Equal ids must come in the same partition, so that every rebuild keeps the same event. `decode_all` may decode into something
    cheaper than `events.codec`; it must accept and refuse the same records.

    Where an operator chooses values that change the meaning of all of history, such as the zone of days, the folds are made with
    them: `rules` are these values, and `under` makes the projection with others. Each version keeps its own, so that a change of
    a setting reaches the rows by a rebuild, and all of them. `under` fills in defaults, and leaves out names that it does not know.
    """

    name: str
    topics: tuple[Topic, ...]
    tables: tuple[Table[Any], ...]
    create: LiteralString
    partitioned: bool = False
    gathering: Callable[[], Gathering] | None = None
    seen: str | None = None
    decode_all: DecodeAll = decode_all
    rules: Rules = ()
    under: Callable[[Rules], "Projection"] | None = None

    def __post_init__(self) -> None:
        """Raise TypeError for a projection that would count repeated events twice, or fold the changes of no earlier table."""
        if (self.gathering is None) != (self.seen is None):
            raise TypeError(f"{self.name}: a projection that gathers wants a table of ids, `seen`, and no other has one")
        earlier = set[str]()
        for table in self.tables:
            if table.of is not None and table.of not in earlier:
                raise TypeError(f"{self.name}: {table.name} folds the changes of {table.of}, which is no earlier table")
            earlier.add(table.name)
