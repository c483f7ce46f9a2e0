"""Tables outside the projections, which hold what the log must not have: each query is answered soon, or raises Retryable."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, LiteralString, TypeVar

from psycopg import OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests

from events.errors import Retryable
from infra.runtime.postgres import Pool, within

T = TypeVar("T")
ANSWER_S = 5.0
"""A database that has not answered by then is away."""


class Queries:
    """The named queries of one `.sql` file; the one named `create` makes its tables."""

    def __init__(self, pool: Pool, sql: Mapping[str, LiteralString]) -> None:
        self._pool = pool
        self._sql = sql

    async def ensure(self) -> None:
        """Make the tables that are missing."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(self._sql["create"])

    async def ask(self, name: str, /, **values: object) -> list[Any]:
        """Return the rows of a query."""
        return await self._answered(name, values, lambda cursor: cursor.fetchall())

    async def change(self, name: str, /, **values: object) -> None:
        """Run a query that returns no rows."""
        await self._answered(name, values, _nothing)

    async def _answered(self, name: str, values: dict[str, object], take: Callable[[Any], Awaitable[T]]) -> T:
        async def answer() -> T:
            async with self._pool.connection() as connection:
                return await take(await connection.execute(self._sql[name], values))

        try:
            return await within(ANSWER_S, answer())
        except (OperationalError, PoolTimeout, TooManyRequests) as error:
            raise Retryable(f"the database does not answer: {type(error).__name__}") from error


async def _nothing(cursor: object) -> None:
    """Take nothing from an answer."""
