"""Where the keys of workers are kept: a table of its own in PostgreSQL, hashes only; `api.worker.access.Keys`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from api.worker.keys import Key
from infra.runtime.postgres import Pool
from projections.queries import load

_SQL = load(Path(__file__).with_suffix(".sql"))


async def dump(connection: AsyncConnection[Any]) -> str:
    """Return all keys, with their hashes, as one JSON array: for a backup."""
    async with connection.transaction():
        await connection.execute(_SQL["create"])
        found = await (await connection.execute(_SQL["dump"])).fetchone()
    assert found is not None
    return str(found[0])


async def load_dump(connection: AsyncConnection[Any], rows: str) -> None:
    """Keep what `dump` returned; what is there already stays."""
    async with connection.transaction():
        await connection.execute(_SQL["create"])
        await connection.execute(_SQL["load"], {"rows": rows})


class KeyTable:
    """The table `worker_keys.keys`. Every method raises psycopg's errors when PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ensure(self) -> None:
        """Make the table when it is not there."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_SQL["create"])

    async def add(self, key: Key, hash_: str) -> None:
        """Keep a key."""
        values = key.model_dump(exclude={"used_at", "revoked_at"}) | {"hash": hash_}
        values |= {"pools": list(key.pools), "kinds": list(key.kinds)}
        async with self._pool.connection() as connection:
            await connection.execute(_SQL["add"], values)

    async def with_prefix(self, prefix: str) -> list[tuple[Key, str]]:
        """Return the keys that begin so, with their hashes."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL["with_prefix"], {"prefix": prefix})
            return [(Key.model_validate_json(text), hash_) for text, hash_ in await cursor.fetchall()]

    async def changed(self, seconds: float) -> set[str]:
        """Return the ids of keys that were revoked or got another end in the last seconds."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL["changed"], {"seconds": seconds})
            return {key_id for (key_id,) in await cursor.fetchall()}

    async def revoke(self, which: str, now: datetime) -> list[Key]:
        """Revoke all keys of a worker, or the key with this id; return those that were good until now."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL["revoke"], {"which": which, "now": now})
            return [Key.model_validate_json(text) for (text,) in await cursor.fetchall()]

    async def expire(self, key_id: str, at: datetime) -> None:
        """Let a key end at a moment, if it does not earlier."""
        async with self._pool.connection() as connection:
            await connection.execute(_SQL["expire"], {"key_id": key_id, "at": at})

    async def used(self, key_ids: Collection[str], now: datetime) -> None:
        """Note when keys were last used."""
        async with self._pool.connection() as connection:
            await connection.execute(_SQL["used"], {"key_ids": list(key_ids), "now": now})

    async def listing(self, limit: int) -> Sequence[Key]:
        """Return keys, the last that was issued first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL["listing"], {"limit": limit})
            return [Key.model_validate_json(text) for (text,) in await cursor.fetchall()]
