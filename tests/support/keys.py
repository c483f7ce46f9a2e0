"""The table of workers' keys, in memory; tests/contract/test_worker_keys.py holds it to what the real one does."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from events.errors import Retryable
from producers.keys import Key


@dataclass
class MemoryKeys:
    """An `api.access.Keys`. Everything that changed did so a moment ago."""

    rows: dict[str, tuple[Key, str]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)
    away: bool = False

    def _there(self) -> None:
        if self.away:
            raise Retryable("the database does not answer")

    async def add(self, key: Key, hash_: str) -> None:
        self._there()
        self.rows[key.key_id] = key, hash_

    async def with_prefix(self, prefix: str) -> list[tuple[Key, str]]:
        self._there()
        return [row for row in self.rows.values() if row[0].prefix == prefix]

    async def changed(self, seconds: float) -> set[str]:
        self._there()
        return set(self.touched)

    async def revoke(self, which: str, now: datetime, reason: str) -> list[Key]:
        self._there()
        found = [key for key, _ in self.rows.values() if which in (key.key_id, key.worker_id) and key.revoked_at is None]
        self.pending |= {key.key_id: reason for key in found}
        return [self._change(key, revoked_at=now) for key in found]

    async def unpublished(self) -> list[tuple[Key, str]]:
        self._there()
        return [(self.rows[key_id][0], reason) for key_id, reason in self.pending.items()]

    async def mark_published(self, key_ids: Collection[str]) -> None:
        self._there()
        for key_id in key_ids:
            self.pending.pop(key_id, None)

    async def expire(self, key_id: str, at: datetime) -> None:
        key, _ = self.rows[key_id]
        self._change(key, expires_at=min(at, key.expires_at or at))

    async def used(self, key_ids: Collection[str], now: datetime) -> None:
        for key_id in key_ids:
            key, hash_ = self.rows[key_id]
            self.rows[key_id] = key.model_copy(update={"used_at": now}), hash_

    async def listing(self, limit: int) -> Sequence[Key]:
        return sorted((key for key, _ in self.rows.values()), key=lambda key: (key.issued_at, key.key_id), reverse=True)[:limit]

    def _change(self, key: Key, **change: datetime) -> Key:
        changed = key.model_copy(update=change)
        self.rows[key.key_id] = changed, self.rows[key.key_id][1]
        self.touched.add(key.key_id)
        return changed
