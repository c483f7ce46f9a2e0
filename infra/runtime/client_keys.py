"""Keyed hashes of addresses: the log distinguishes the requests of one client, and nobody finds its address once the key is gone.

A new period's key deletes those before the last one: hashes of then are forgotten.
"""

import hmac
from datetime import timedelta

from events.clock import Clock
from events.errors import Retryable
from infra.runtime.periodic_keys import PeriodicKeys
from infra.runtime.postgres import Pool

HASH_CHARS = 16


class ClientKeys:
    """Hashes addresses; keys change every `period_days`."""

    def __init__(self, pool: Pool, clock: Clock, *, period_days: int) -> None:
        self._keys = PeriodicKeys(pool, "clients")
        self._clock = clock
        self._days = period_days

    async def hash(self, address: str) -> str | None:
        """Return the client of an address, as `2026-11-23:0f3a…`: equal within a period only. None while PostgreSQL is away."""
        today = self._clock.now().date()
        period = today - timedelta(days=today.toordinal() % self._days)
        try:
            key = await self._keys.key(period, forget_before=period - timedelta(days=self._days))
        except Retryable:
            return None
        return f"{period}:{hmac.digest(key, address.encode(), 'sha256').hex()[:HASH_CHARS]}"
