"""Rows of folded tables in PostgreSQL, one schema per projection version: `catalog_v1.videos`.

Rows travel as one JSON document per statement (`jsonb_populate_recordset`), so every column type has one way in and one way out.
Readers see views of the active version in the projection's own schema.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from psycopg import AsyncConnection, sql
from psycopg.errors import InvalidTableDefinition
from psycopg.postgres import types
from pydantic import BaseModel, TypeAdapter

from projections.folding.code import code_of
from projections.folding.fold import Key, Projection, Table
from projections.folding.queries import load

SQL = load(Path(__file__).with_name("runner.sql"))
_JSON_TYPES = {types["json"].oid, types["jsonb"].oid}


def schema_of(name: str, version: int) -> str:
    """Return the schema of a version's tables."""
    return f"{name}_v{version}"


def digest_of(projection: Projection) -> str:
    """Return a digest of the projection's tables: a version whose digest differs must be rebuilt."""
    shape = [(table.name, table.key, table.columns) for table in projection.tables]
    return hashlib.sha256(repr((projection.create, shape)).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Decimal):
        return str(value)  # PostgreSQL reads it into a numeric of any length
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _document(value: object) -> str:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


@dataclass(frozen=True)
class TableStore:
    """One folded table in one version's schema."""

    table: Table[Any]
    schema: str
    _documents: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Whether each column holds JSON documents; queried once, since a version's columns never change."""

    @cached_property
    def _adapter(self) -> TypeAdapter[list[Any]]:
        return TypeAdapter(list[self.table.row])  # type: ignore[name-defined]

    @cached_property
    def _name(self) -> sql.Composed:
        return sql.SQL("{}.{}").format(sql.Identifier(self.schema), sql.Identifier(self.table.name))

    @cached_property
    def _key(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self.table.key))

    @cached_property
    def _select(self) -> sql.Composed:
        columns = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(c)) for c in self.table.columns)
        return sql.SQL(
            "SELECT coalesce(json_agg(row_to_json(r)), '[]')::text FROM (SELECT {columns} FROM {name} t"
            " JOIN jsonb_populate_recordset(null::{name}, %s::jsonb) k USING ({key})) r"
        ).format(columns=columns, name=self._name, key=self._key)

    @cached_property
    def _upsert(self) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, self.table.columns))
        rest = [c for c in self.table.columns if c not in self.table.key]
        action: sql.Composable = sql.SQL("NOTHING")
        if rest:
            sets = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in rest)
            action = sql.SQL("UPDATE SET {}").format(sets)
        return sql.SQL(
            "INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(null::{name}, %s::jsonb)"
            " ON CONFLICT ({key}) DO {action}"
        ).format(name=self._name, columns=columns, key=self._key, action=action)

    @cached_property
    def _delete(self) -> sql.Composed:
        join = sql.SQL(" AND ").join(sql.SQL("t.{0} = k.{0}").format(sql.Identifier(c)) for c in self.table.key)
        return sql.SQL("DELETE FROM {name} t USING jsonb_populate_recordset(null::{name}, %s::jsonb) k WHERE {join}").format(
            name=self._name, join=join
        )

    def _keys_document(self, keys: Sequence[Key]) -> str:
        return orjson.dumps([dict(zip(self.table.key, key, strict=True)) for key in keys]).decode()

    async def fetch(self, connection: AsyncConnection[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the stored rows under these keys."""
        cursor = await connection.execute(self._select, [self._keys_document(keys)])
        found = await cursor.fetchone()
        assert found is not None
        rows = self._adapter.validate_json(found[0])
        return {tuple(getattr(row, column) for column in self.table.key): row for row in rows}

    async def save(self, connection: AsyncConnection[Any], rows: dict[Key, Any | None]) -> None:
        """Write the rows; None deletes a row."""
        kept = [row for row in rows.values() if row is not None]
        gone = [key for key, row in rows.items() if row is None]
        if kept:
            await connection.execute(self._upsert, [_document(kept)])
        if gone:
            await connection.execute(self._delete, [self._keys_document(gone)])

    async def insert(self, connection: AsyncConnection[Any], rows: Collection[Any]) -> None:
        """Write rows under new keys: by COPY, in half the time of `save`."""
        if not rows:
            return
        columns = sql.SQL(", ").join(map(sql.Identifier, self.table.columns))
        if not self._documents:
            found = await connection.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, self._name))
            self._documents.update({column.name: column.type_code in _JSON_TYPES for column in found.description or ()})

        def cell(row: Any, column: str) -> Any:
            value = getattr(row, column)
            return _document(value) if self._documents[column] and value is not None else value

        copy = sql.SQL("COPY {} ({}) FROM STDIN").format(self._name, columns)
        async with connection.cursor() as cursor, cursor.copy(copy) as target:
            for row in rows:
                await target.write_row([cell(row, column) for column in self.table.columns])

    async def digest(self, connection: AsyncConnection[Any]) -> str:
        """Return SHA-256 over all rows in key order: equal digests mean equal tables, byte for byte."""
        columns = sql.SQL(", ").join(map(sql.Identifier, self.table.columns))
        query = sql.SQL("SELECT row_to_json(r)::text FROM (SELECT {columns} FROM {name} ORDER BY {key}) r").format(
            columns=columns, name=self._name, key=self._key
        )
        total = hashlib.sha256()
        async with connection.transaction(), connection.cursor(name="digest") as cursor:
            await cursor.execute(query)
            async for (text,) in cursor:
                total.update(text.encode() + b"\n")
        return total.hexdigest()


@dataclass(frozen=True)
class SeenStore:
    """The ids of all events that a projection has folded, in one version's schema.

    An id always comes in the same partition. A runner has locked that partition's position, so no other process writes the id.
    """

    name: str
    schema: str

    @cached_property
    def _offered(self) -> sql.Composed:
        """SQL for ids and whether each is stored: a scalar subquery is an index lookup, however large the table.

        The ids are in order, so that neighbours in the index are read and written together: for random ids in half the time.
        """
        return sql.SQL(
            "WITH offered AS MATERIALIZED (SELECT id, (SELECT true FROM {name} s WHERE s.id = o.id) AS again"
            " FROM (SELECT id FROM unnest(%s::uuid[]) AS u (id) ORDER BY id) AS o)"
        ).format(name=self._name)

    @cached_property
    def _name(self) -> sql.Composed:
        return sql.SQL("{}.{}").format(sql.Identifier(self.schema), sql.Identifier(self.name))

    @cached_property
    def _known(self) -> sql.Composed:
        return sql.SQL("{} SELECT id::text FROM offered WHERE again").format(self._offered)

    @cached_property
    def _add(self) -> sql.Composed:
        return sql.SQL(
            "{}, added AS (INSERT INTO {} SELECT id FROM offered WHERE again IS NULL) SELECT id::text FROM offered WHERE again"
        ).format(self._offered, self._name)

    @cached_property
    def _keep(self) -> sql.Composed:
        return sql.SQL("INSERT INTO {} SELECT id FROM unnest(%s::uuid[]) AS u (id)").format(self._name)

    async def known(self, connection: AsyncConnection[Any], ids: Collection[str]) -> set[str]:
        """Return those of the ids that are stored."""
        cursor = await connection.execute(self._known, [_array(ids)])
        return {id for (id,) in await cursor.fetchall()}

    async def keep(self, connection: AsyncConnection[Any], ids: Collection[str]) -> None:
        """Store ids of which none is stored yet."""
        await connection.execute(self._keep, [_array(ids)])

    async def add(self, connection: AsyncConnection[Any], ids: Collection[str]) -> set[str]:
        """Store distinct ids; return those that were stored before."""
        cursor = await connection.execute(self._add, [_array(ids)])
        return {id for (id,) in await cursor.fetchall()}


def _array(ids: Collection[str]) -> str:
    """Return ids in PostgreSQL's array syntax."""
    return "{" + ",".join(ids) + "}"


async def create_version(connection: AsyncConnection[Any], projection: Projection, version: int) -> None:
    """Create schema, tables and positions of a version, all at zero; inside the caller's transaction."""
    schema = sql.Identifier(schema_of(projection.name, version))
    named = {"name": projection.name, "version": version, "digest": digest_of(projection), "code": code_of(projection)}
    named["rules"] = orjson.dumps(dict(projection.rules)).decode()
    await connection.execute(SQL["add_version"], named)
    await connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    await connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(schema))
    if projection.tables:
        await connection.execute(projection.create)
    await connection.execute("SET LOCAL search_path TO DEFAULT")
    await add_positions(connection, projection, version)


async def add_positions(connection: AsyncConnection[Any], projection: Projection, version: int) -> None:
    """Let a version read each partition of the projection's topics, from the start where it has not read it yet."""
    for topic in projection.topics:
        for partition in range(topic.partitions):
            position = {"name": projection.name, "version": version, "topic": topic.name, "partition": partition}
            await connection.execute(SQL["add_position"], position)


async def drop_version(connection: AsyncConnection[Any], name: str, version: int) -> None:
    """Delete a version's tables and positions."""
    await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema_of(name, version))))
    await connection.execute(SQL["forget_version"], {"name": name, "version": version})


async def activate(connection: AsyncConnection[Any], projection: Projection, version: int) -> None:
    """Point the readers' views at a version; inside the caller's transaction."""
    views = sql.Identifier(projection.name)
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(views))
    for table in projection.tables:
        view = sql.SQL("{}.{}").format(views, sql.Identifier(table.name))
        stored = sql.SQL("{}.{}").format(sql.Identifier(schema_of(projection.name, version)), sql.Identifier(table.name))
        select = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(map(sql.Identifier, table.columns)), stored)
        try:  # replacing keeps every reader's plan valid; PostgreSQL refuses it when columns were removed or changed their type
            async with connection.transaction():
                await connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(view, select))
        except InvalidTableDefinition:
            await connection.execute(sql.SQL("DROP VIEW {}").format(view))
            await connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(view, select))
    values = {"name": projection.name, "version": version, "digest": digest_of(projection)}
    await connection.execute(SQL["activate"], values)
