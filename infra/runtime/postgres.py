"""PostgreSQL: the one module that opens its connections."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from events.errors import Retryable
from infra.runtime.settings import Settings

T = TypeVar("T")
Pool = AsyncConnectionPool[AsyncConnection[Any]]


def url_of(settings: Settings) -> str:
    """Return where the database is. Raises NoInstallation when none is named and no local one was ever started."""
    if url := settings.postgres_url.get_secret_value():
        return url
    raise settings.never_started()


async def open_pool(settings: Settings, *, size_min: int = 1, size_max: int = 8, wait: bool = True) -> Pool:
    """Return an open pool of autocommit connections in UTC; with `wait`, once the first connection is open, within 30 s."""

    async def configure(connection: AsyncConnection[Any]) -> None:
        await connection.set_autocommit(True)

    pool: Pool = AsyncConnectionPool(
        url_of(settings),
        min_size=size_min,
        max_size=size_max,
        open=False,
        timeout=5,
        max_waiting=200,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        kwargs={"options": "-c timezone=UTC -c statement_timeout=120s", "application_name": "kinolog"},
    )
    await pool.open(wait=wait, timeout=30)
    return pool


@asynccontextmanager
async def connected(settings: Settings, database: str = "") -> AsyncIterator[AsyncConnection[Any]]:
    """Yield an autocommit connection in UTC; to another database of the server when one is named."""
    named = {"dbname": database} if database else {}
    url = make_conninfo(url_of(settings), **named)
    options = "-c timezone=UTC"
    async with await AsyncConnection.connect(url, autocommit=True, connect_timeout=5, options=options) as connection:
        yield connection


async def within(seconds: float, query: Coroutine[Any, Any, T]) -> T:
    """Return a query's result. Raises Retryable after the time limit.

    A stopped server takes bytes and never answers, not even a cancellation: do not wait for it.
    """
    task = asyncio.ensure_future(query)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not done:
        raise Retryable("the database does not answer; try again in a moment")
    return task.result()


def database_of(settings: Settings) -> str:
    """Return the name of the installation's database."""
    return str(conninfo_to_dict(url_of(settings))["dbname"])
