"""PostgreSQL: the one place where its connections are opened."""

from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from infra.runtime.settings import Settings

Pool = AsyncConnectionPool[AsyncConnection[Any]]


async def open_pool(settings: Settings, *, size_min: int = 1, size_max: int = 8) -> Pool:
    """Return an open pool of autocommit connections in UTC; waits up to 30 s for the first one."""

    async def configure(connection: AsyncConnection[Any]) -> None:
        await connection.set_autocommit(True)

    pool: Pool = AsyncConnectionPool(
        settings.postgres_url.get_secret_value(),
        min_size=size_min,
        max_size=size_max,
        open=False,
        timeout=5,
        max_waiting=200,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        kwargs={"options": "-c timezone=UTC -c statement_timeout=120s", "application_name": "kinolog"},
    )
    await pool.open(wait=True, timeout=30)
    return pool
