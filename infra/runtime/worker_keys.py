"""The keys of workers in a PostgreSQL table of their own, hashes only; the store behind `api.access.Keys`."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests

from events.errors import Retryable
from infra.runtime.postgres import Pool, within
from producers.keys import Key
from projections.folding.queries import load

T = TypeVar("T")
ANSWER_S = 5.0
"""A database that has not answered by then is away."""
_SQL = load(Path(__file__).with_suffix(".sql"))


async def dump(connection: AsyncConnection[Any]) -> str:
    """Return all keys, with their hashes, as one JSON array: for a backup."""
    async with connection.transaction():
        await connection.execute(_SQL["create"])
        found = await (await connection.execute(_SQL["dump"])).fetchone()
    assert found is not None
    return str(found[0])


async def load_dump(connection: AsyncConnection[Any], rows: str) -> None:
    """Restore the rows of `dump`; existing rows stay."""
    async with connection.transaction():
        await connection.execute(_SQL["create"])
        await connection.execute(_SQL["load"], {"rows": rows})


class KeyTable:
    """The table `worker_keys.keys`. Every method raises Retryable when PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ensure(self) -> None:
        """Make the table if it is missing."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_SQL["create"])

    async def add(self, key: Key, hash_: str) -> None:
        """Keep a key."""
        values = key.model_dump(exclude={"used_at", "revoked_at"}) | {"hash": hash_}
        await self._change("add", **(values | {"pools": list(key.pools), "kinds": list(key.kinds)}))

    async def with_prefix(self, prefix: str) -> list[tuple[Key, str]]:
        """Return the keys that begin so, with their hashes."""
        return [(Key.model_validate_json(text), hash_) for text, hash_ in await self._ask("with_prefix", prefix=prefix)]

    async def changed(self, seconds: float) -> set[str]:
        """Return the ids of keys that were revoked or got another end in the last seconds."""
        return {key_id for (key_id,) in await self._ask("changed", seconds=seconds)}

    async def revoke(self, which: str, now: datetime, reason: str) -> list[Key]:
        """Revoke all keys of a worker, or the key with this id; return those that were valid. Their revocations are unpublished."""
        return [Key.model_validate_json(text) for (text,) in await self._ask("revoke", which=which, now=now, reason=reason)]

    async def unpublished(self) -> list[tuple[Key, str]]:
        """Return at most 100 revoked keys whose revocation is not yet on the log, oldest first, with the reason."""
        return [(Key.model_validate_json(text), reason) for text, reason in await self._ask("unpublished")]

    async def mark_published(self, key_ids: Collection[str]) -> None:
        """Record that revocations are on the log."""
        await self._change("mark_published", key_ids=list(key_ids))

    async def expire(self, key_id: str, at: datetime) -> None:
        """Let a key end at a moment, if it does not earlier."""
        await self._change("expire", key_id=key_id, at=at)

    async def used(self, key_ids: Collection[str], now: datetime) -> None:
        """Note when keys were last used."""
        await self._change("used", key_ids=list(key_ids), now=now)

    async def listing(self, limit: int) -> Sequence[Key]:
        """Return keys, the last that was issued first."""
        return [Key.model_validate_json(text) for (text,) in await self._ask("listing", limit=limit)]

    async def _ask(self, name: str, /, **values: object) -> list[Any]:
        return await self._answered(name, values, lambda cursor: cursor.fetchall())

    async def _change(self, name: str, /, **values: object) -> None:
        await self._answered(name, values, _nothing)

    async def _answered(self, name: str, values: dict[str, object], take: Callable[[Any], Awaitable[T]]) -> T:
        async def answer() -> T:
            async with self._pool.connection() as connection:
                return await take(await connection.execute(_SQL[name], values))

        try:
            return await within(ANSWER_S, answer())
        except (OperationalError, PoolTimeout, TooManyRequests) as error:
            raise Retryable(f"the database does not answer: {type(error).__name__}") from error


async def _nothing(cursor: object) -> None:
    """Take nothing from an answer."""
