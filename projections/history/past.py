"""Time travel: every read model as it was at a moment, read by the same functions as the present.

Each moment gets a database of its own. Every fold of the installation, of processes too, is folded into it from the start of
history to the moment and no further: a cold fold. The database is kept. A later moment is folded from a clone of it (a PostgreSQL
template), so databases of the past serve as snapshots. The oldest are dropped.

A moment is a time, or a position in the form of `X-Log-Position`. For a time, each partition is read up to its first
later event. Events appended after that one are left out, even if their own time is earlier.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from psycopg import AsyncConnection, sql
from psycopg.errors import DuplicateDatabase, ObjectInUse

from events.topics import TOPICS, Partition
from projections.folding.bulk import BulkRunner, fold_until
from projections.folding.changes import Difference
from projections.folding.code import code_of
from projections.folding.fold import Projection, Table
from projections.folding.log import LogReader, Source
from projections.folding.positions import Positions
from projections.folding.queries import load
from projections.folding.runner import Runner, as_served, install
from projections.moments import time_of

_SQL = load(Path(__file__).with_name("past.sql"))
KEPT_MAX = 8
"""Number of databases of the past to keep."""
Connect = Callable[[str], AbstractAsyncContextManager[AsyncConnection[Any]]]


@dataclass(frozen=True)
class _Database:
    """A database of the past: the positions it holds, its number in the order of creation (`made`), and the code that made it."""

    name: str
    positions: Mapping[Partition, int]
    made: int
    code: str


class Past:
    """Makes and opens databases of the past, with the rows of these folds.

    `connect` opens one by name ("": the present), `history` all of history. Folds have the rules of the versions that serve.
    """

    def __init__(
        self,
        connect: Connect,
        history: Callable[[], AbstractAsyncContextManager[Source]],
        prefix: str,
        folds: Collection[Projection],
    ) -> None:
        self._connect = connect
        self._history = history
        self._prefix = f"{prefix}_past_"
        self._folds = folds

    @asynccontextmanager
    async def at(self, moment: str) -> AsyncIterator[AsyncConnection[Any]]:
        """Yield a connection to the database of `moment`. Raises InvalidRequest when `moment` cannot be read."""
        async with self._history() as history:
            positions = await positions_at(history, moment)
            name = await self._make(history, positions)
        async with self._connect(name) as connection:
            yield connection

    @asynccontextmanager
    async def cold(
        self, projection: Projection, history: Source, positions: Mapping[Partition, int]
    ) -> AsyncIterator[AsyncConnection[Any]]:
        """Fold one projection from the start, ignoring kept databases; yield a connection to the result, then drop it."""
        digest = hashlib.sha256(Positions(dict(positions)).header().encode()).hexdigest()
        named = f"{self._prefix}cold_{projection.name}_{digest[:16]}"
        name = sql.Identifier(named)
        async with self._connect("") as present:
            await present.execute(_SQL["lock"])
            try:
                await present.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                await present.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
                async with self._connect(named) as connection:
                    await fold_to(projection, connection, history, positions)
                    yield connection
            finally:
                await present.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                await present.execute(_SQL["unlock"])

    async def _make(self, history: Source, positions: Mapping[Partition, int]) -> str:
        """Return the name of the database at these positions; make it when it does not exist."""
        digest = hashlib.sha256(Positions(dict(positions)).header().encode()).hexdigest()
        name = self._prefix + digest[:16]
        async with self._connect("") as present:
            await present.execute(_SQL["lock"])
            try:
                known = await self._known(present)
                folds = [await as_served(present, projection) for projection in self._folds]
                code = hashlib.sha256("".join(map(code_of, folds)).encode()).hexdigest()
                if name not in {database.name for database in known if database.code == code}:
                    await self._clone(present, name, [other for other in known if other.code == code], positions)
                    await self._fold(name, folds, history, positions)
                    await self._finish(present, name, positions, known, code)
            finally:
                await present.execute(_SQL["unlock"])
        return name

    async def _known(self, present: AsyncConnection[Any]) -> list[_Database]:
        cursor = await present.execute(_SQL["known"], {"prefix": self._prefix})
        found = []
        for name, comment in await cursor.fetchall():
            about = orjson.loads(comment)
            found.append(_Database(name, Positions.parse(about["positions"]).next, about["made"], about.get("code", "")))
        return sorted(found, key=lambda database: database.made)

    async def _clone(
        self, present: AsyncConnection[Any], name: str, alike: list[_Database], positions: Mapping[Partition, int]
    ) -> None:
        """Clone the nearest earlier database of those `alike`, which the same code folded; create an empty one without any."""
        stale = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")  # unfinished, or made by other code
        await present.execute(stale.format(sql.Identifier(name)))
        before = [other for other in alike if all(positions.get(partition, 0) >= at for partition, at in other.positions.items())]
        nearest = max(before, key=lambda other: sum(other.positions.values()), default=None)
        templates = [nearest.name, "template0"] if nearest else ["template0"]
        for template in templates:
            try:
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                await present.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
                return
            except (ObjectInUse, DuplicateDatabase):
                if template == templates[-1]:
                    raise  # otherwise the nearest one is in use: go on with template0

    async def _fold(self, name: str, folds: Collection[Projection], history: Source, positions: Mapping[Partition, int]) -> None:
        async with self._connect(name) as connection:
            for projection in folds:
                await fold_to(projection, connection, history, positions)

    async def _finish(
        self, present: AsyncConnection[Any], name: str, positions: Mapping[Partition, int], known: list[_Database], code: str
    ) -> None:
        """Mark the database as whole; drop databases beyond KEPT_MAX and those made by other code."""
        made = known[-1].made + 1 if known else 1
        comment = orjson.dumps({"positions": Positions(dict(positions)).header(), "made": made, "code": code}).decode()
        await present.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))
        others = [other for other in known if other.name != name]
        alike = [other for other in others if other.code == code]
        kept = {other.name for other in alike[max(0, len(alike) + 1 - KEPT_MAX) :]}
        for gone in {other.name for other in others} - kept:
            await present.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(gone)))


async def differences(
    projection: Projection, before: AsyncConnection[Any], after: AsyncConnection[Any]
) -> AsyncIterator[Difference]:
    """Yield the rows that differ between two databases of the past, table by table, in key order."""
    for table in projection.tables:
        old, new = rows_of(projection, table, before), rows_of(projection, table, after)
        left, right = await anext(old, None), await anext(new, None)
        while left or right:
            if right is None or (left is not None and left[0] < right[0]):
                assert left is not None
                yield Difference(table.name, left[0], left[1], None)
                left = await anext(old, None)
            elif left is None or right[0] < left[0]:
                yield Difference(table.name, right[0], None, right[1])
                right = await anext(new, None)
            else:
                if left[1] != right[1]:
                    yield Difference(table.name, left[0], left[1], right[1])
                left, right = await anext(old, None), await anext(new, None)


async def rows_of(
    projection: Projection, table: Table[Any], connection: AsyncConnection[Any]
) -> AsyncIterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield (key, row) for each row of a table, in Python's sort order of the keys."""
    key = sql.SQL(", ").join(sql.SQL('({})::text COLLATE "C"').format(sql.Identifier(column)) for column in table.key)
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    name = sql.SQL("{}.{}").format(sql.Identifier(projection.name), sql.Identifier(table.name))
    query = sql.SQL("SELECT row_to_json(r)::text FROM (SELECT {columns} FROM {name} ORDER BY {key}) r")
    async with connection.transaction(), connection.cursor(name=f"rows of {table.name}") as cursor:
        await cursor.execute(query.format(columns=columns, name=name, key=key))
        async for (text,) in cursor:
            row = orjson.loads(text)
            yield tuple(str(row[column]) for column in table.key), row


async def fold_to(
    projection: Projection, connection: AsyncConnection[Any], history: Source, positions: Mapping[Partition, int]
) -> Runner:
    """Fold a projection from its stored positions up to `positions`, exclusive; return its runner."""
    runner = await install(connection, projection)
    reader = LogReader(history, projection)
    stored = await runner.positions(connection)
    until = {partition: max(stored[partition], positions.get(partition, 0)) for partition in stored}
    await reader.seek(stored)
    bulk = BulkRunner(runner, empty=not any(stored.values()))
    await fold_until(reader, bulk, connection, until)
    await bulk.flush(connection)
    return runner


async def positions_at(history: Source, moment: str) -> dict[Partition, int]:
    """Return the positions of a moment, given as an ISO 8601 time (UTC unless it names a zone) or as positions.

    Raises InvalidRequest when the text is neither.
    """
    partitions = [(topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions)]
    if ":" in moment and "=" in moment:
        named = Positions.parse(moment).next
        ends = await history.ends(partitions)
        return {partition: min(named.get(partition, end), end) for partition, end in ends.items()}
    return dict(await history.after(partitions, time_of(moment, "a moment that is no topic:partition=offset")))
