"""The keys of workers in a PostgreSQL table of their own, hashes only; the store behind `api.access.Keys`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from infra.runtime.postgres import Pool
from infra.runtime.tables import Queries
from producers.keys import Key
from projections.folding.queries import load

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
        self._queries = Queries(pool, _SQL)
        self.ensure = self._queries.ensure

    async def add(self, key: Key, hash_: str) -> None:
        """Keep a key."""
        values = key.model_dump(exclude={"used_at", "revoked_at"}) | {"hash": hash_}
        await self._queries.change("add", **(values | {"pools": list(key.pools), "kinds": list(key.kinds)}))

    async def with_prefix(self, prefix: str) -> list[tuple[Key, str]]:
        """Return the keys that begin so, with their hashes."""
        return [(Key.model_validate_json(text), hash_) for text, hash_ in await self._queries.ask("with_prefix", prefix=prefix)]

    async def changed(self, seconds: float) -> set[str]:
        """Return the ids of keys that were revoked or got another end in the last seconds."""
        return {key_id for (key_id,) in await self._queries.ask("changed", seconds=seconds)}

    async def revoke(self, which: str, now: datetime, reason: str) -> list[Key]:
        """Revoke all keys of a worker, or the key with this id; return those that were valid. Their revocations are unpublished."""
        return [Key.model_validate_json(text) for (text,) in await self._queries.ask("revoke", which=which, now=now, reason=reason)]

    async def unpublished(self) -> list[tuple[Key, str]]:
        """Return at most 100 revoked keys whose revocation is not yet on the log, oldest first, with the reason."""
        return [(Key.model_validate_json(text), reason) for text, reason in await self._queries.ask("unpublished")]

    async def mark_published(self, key_ids: Collection[str]) -> None:
        """Record that revocations are on the log."""
        await self._queries.change("mark_published", key_ids=list(key_ids))

    async def expire(self, key_id: str, at: datetime) -> None:
        """Let a key end at a moment, if it does not earlier."""
        await self._queries.change("expire", key_id=key_id, at=at)

    async def used(self, key_ids: Collection[str], now: datetime) -> None:
        """Note when keys were last used."""
        await self._queries.change("used", key_ids=list(key_ids), now=now)

    async def listing(self, limit: int) -> Sequence[Key]:
        """Return keys, the last that was issued first."""
        return [Key.model_validate_json(text) for (text,) in await self._queries.ask("listing", limit=limit)]
