"""What a projection is: tables, each of which is a fold of the log, `(row | None, recorded) -> row | None`.

A table's row is a dataclass made by `@table_row` whose fields are the table's columns, in any order. A fold is pure and idempotent
by state: no clock, no chance, no I/O; the same event may come twice; events of different topics come in any order
relative to each other, so a row keeps what it takes from each topic in columns of its own.

The SQL beside a projection, `<name>.sql`, creates its tables (section `-- name: create`) and has the named queries
that its readers run. Tables are created in a schema of their own per version; readers name the projection's schema,
`catalog.videos`, which holds a view of the active version.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from typing import Any, Generic, LiteralString, Protocol, TypeVar, dataclass_transform

from events.codec import decode_all
from events.envelope import Envelope
from events.topics import Topic

R = TypeVar("R")
Key = tuple[Any, ...]
DecodeAll = Callable[[Sequence[bytes]], list[Envelope[Any]]]
"""Reads records; raises InvalidEvent when one of them cannot be read."""


@dataclass_transform(frozen_default=True)
def table_row(cls: type[R]) -> type[R]:
    """Make a dataclass for a table's rows.

    Frozen for mypy only: a fold makes a row per event, and the `__init__` of a frozen dataclass takes six times as long
    (1.5 µs instead of 0.2 for eleven fields).
    """
    return dataclass(slots=True)(cls)


@dataclass(frozen=True)
class Table(Generic[R]):
    """One folded table.

    `key` names the key columns, which are fields of `row`. `keys_of` returns the keys of the rows that an event may
    change (none: the event is not for this table). `evolve` gets the row under one such key, or None, and returns the
    new row, or None for no row; it must return the same object when nothing changed. Where the projection gathers
    (see `Projection`), both get what it has gathered in place of a recorded event.
    """

    name: str
    row: type[R]
    key: tuple[str, ...]
    keys_of: Callable[[Any], Collection[Key]]
    evolve: Callable[[R | None, Any], R | None]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(field.name for field in fields(self.row))  # type: ignore[arg-type]


class Gathering(Protocol):
    """Sums of events: `add` takes some, `items` returns what tables fold of all that were added."""

    def add(self, envelopes: Iterable[Envelope[Any]]) -> None: ...

    def items(self) -> Sequence[Any]: ...


class Gathered:
    """What is kept of events where a projection gathers: their sums, each event once, and their ids.

    Events are summed up a few at a time, while they are read, and let go: what is made of 200 still lies in the processor's
    cache then, and what is made of 20,000 takes more than half as long again. `without` reads them again, all but those with
    some ids.
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
        """Return what tables fold."""
        return self._gathering.items()


@dataclass(frozen=True)
class Projection:
    """A named set of tables folded from some topics. `create` is the `create` section of its .sql file.

    Without tables it is only a position on the log, for a process that acts outside (see processors/files.py).

    `partitioned` promises that no row is changed by events of two partitions: then several processes may fold history,
    each with its share of the partitions.

    Where events are many and rows few, a `gathering` sums them up while they are read, and tables fold the sums. It must not
    matter how the log is cut into batches. A sum cannot tell that an event came twice: so a projection that gathers names a
    table of `create` as `seen`, with the one column `id uuid PRIMARY KEY`, and an event is dropped for ever whose id is in it.
    The same id must always come in the same partition, so that it is the same event that came first in every rebuild.
    `decode_all` may read records into something cheaper than `events.codec` does; it must take and refuse the same records.
    """

    name: str
    topics: tuple[Topic, ...]
    tables: tuple[Table[Any], ...]
    create: LiteralString
    partitioned: bool = False
    gathering: Callable[[], Gathering] | None = None
    seen: str | None = None
    decode_all: DecodeAll = decode_all

    def __post_init__(self) -> None:
        """Raise TypeError for a projection that would count twice what comes twice."""
        if (self.gathering is None) != (self.seen is None):
            raise TypeError(f"{self.name}: a projection that gathers wants a table of ids, `seen`, and no other has one")
