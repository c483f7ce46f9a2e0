"""Differences between the rows of two versions of a projection in one database."""

from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection, sql

from projections.folding.fold import Projection, Table
from projections.folding.store import schema_of

SAMPLES_MAX = 5


class Difference(NamedTuple):
    """A row that differs between two sides; None where it does not exist. Rows and keys are JSON values."""

    table: str
    key: tuple[Any, ...]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class TableChanges(NamedTuple):
    """Numbers of added, removed and changed rows of a table, and the first of them by key.

    `totals` has the sums of a table of sums before and after, by column, where they differ.
    """

    table: str
    added: int
    gone: int
    changed: int
    samples: tuple[Difference, ...]
    totals: dict[str, tuple[int, int]]


async def changes_between(
    connection: AsyncConnection[Any], projection: Projection, before: int, after: int
) -> tuple[TableChanges, ...]:
    """Return the differences between two versions of the same tables: one entry per table that differs."""
    found = [await _changes(connection, projection.name, table, before, after) for table in projection.tables]
    return tuple(changes for changes in found if changes.samples)


async def _changes(connection: AsyncConnection[Any], name: str, table: Table[Any], before: int, after: int) -> TableChanges:
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    old, new = (sql.Identifier(schema_of(name, version), table.name) for version in (before, after))
    query = sql.SQL(
        "SELECT *, count(*) FILTER (WHERE before IS NULL) OVER (), count(*) FILTER (WHERE after IS NULL) OVER (), count(*) OVER ()"
        " FROM (SELECT {key}, row_to_json(o)::text AS before, row_to_json(n)::text AS after"
        " FROM (SELECT {columns} FROM {old}) o FULL JOIN (SELECT {columns} FROM {new}) n USING ({key})) AS pairs"
        " WHERE before IS DISTINCT FROM after ORDER BY {key} LIMIT {limit}"
    ).format(key=key, columns=columns, old=old, new=new, limit=SAMPLES_MAX)
    rows = await (await connection.execute(query)).fetchall()
    samples = []
    for *_, was, now, _added, _gone, _differing in rows:
        old_row, new_row = orjson.loads(was or "null"), orjson.loads(now or "null")
        samples.append(Difference(table.name, tuple((new_row or old_row)[column] for column in table.key), old_row, new_row))
    added, gone, differing = rows[0][-3:] if rows else (0, 0, 0)
    totals = await _totals(connection, table, old, new) if rows and table.amounts else {}
    return TableChanges(table.name, added, gone, differing - added - gone, tuple(samples), totals)


async def _totals(
    connection: AsyncConnection[Any], table: Table[Any], old: sql.Identifier, new: sql.Identifier
) -> dict[str, tuple[int, int]]:
    """Return the sums of the columns that add up, before and after, where they differ."""
    sums = sql.SQL(", ").join(sql.SQL("coalesce(sum({}), 0)::bigint").format(sql.Identifier(amount)) for amount in table.amounts)
    query = sql.SQL("SELECT {} FROM {}")
    found = [await (await connection.execute(query.format(sums, rows))).fetchone() or () for rows in (old, new)]
    return {amount: (was, now) for amount, was, now in zip(table.amounts, *found, strict=True) if was != now}
