"""Reads of the telemetry app from its projection."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import AsyncConnection, IsolationLevel
from psycopg_pool import AsyncConnectionPool

from events.errors import Retryable
from projections.folding.positions import is_served, snapshot
from projections.telemetry import insights
from projections.telemetry.insights import Caps, Group, Insights, Label, Selection

PROJECTION = "telemetry"


@dataclass(frozen=True)
class Limits:
    """Settings of the insights.

    Groups with fewer than `floor` finished jobs are always hidden; those with fewer than `samples_min` are shown only on
    request.
    """

    caps: Caps
    floor: int
    samples_min: int


class Reader(Protocol):
    """Reads one state of the projection."""

    async def groups(self, selection: Selection, by: Sequence[Label], finished_min: int = 0) -> list[Group]: ...

    async def reasons(self, selection: Selection) -> list[tuple[str, str, int]]: ...


@dataclass(frozen=True)
class _Connected:
    connection: AsyncConnection[Any]
    caps: Caps

    async def groups(self, selection: Selection, by: Sequence[Label], finished_min: int = 0) -> list[Group]:
        return await insights.groups(self.connection, selection, by, self.caps, finished_min)

    async def reasons(self, selection: Selection) -> list[tuple[str, str, int]]:
        return await insights.reasons(self.connection, selection, self.caps)


class Readings(Protocol):
    """Opens readers, each on one state of the projection, with that state's position."""

    limits: Limits

    def open(self) -> AbstractAsyncContextManager[tuple[Reader, str]]: ...


class StoredReadings:
    """`Readings` of the database."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]], limits: Limits) -> None:
        self._pool = pool
        self.limits = limits

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Reader, str]]:
        """Yield a reader and its position. Raises Retryable or psycopg's errors when no state can be read."""
        async with self._state() as (connection, position):
            yield _Connected(connection, self.limits.caps), position

    async def look(self, known: str | None) -> tuple[Insights, str] | None:
        """Return the predecessor's insights and their position, unless that is the `known` one. See `Snapshots`."""
        async with self._state() as (connection, position):
            if position == known:
                return None
            return await insights.insights(connection, self.limits.caps), position

    @asynccontextmanager
    async def _state(self) -> AsyncIterator[tuple[AsyncConnection[Any], str]]:
        async with self._pool.connection() as connection:
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            try:
                async with connection.transaction():
                    if not await is_served(connection, PROJECTION):
                        raise Retryable("there are no insights yet; do the processors run?")
                    yield connection, (await snapshot(connection, PROJECTION)).header()
            finally:
                await connection.set_isolation_level(None)
