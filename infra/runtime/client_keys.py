"""Keyed hashes of addresses: the log distinguishes the requests of one client, and nobody finds its address once the key is gone.

The keys are rows of a PostgreSQL table of their own, one a period, in no backup. A new period's key deletes those before the
last one: hashes of then are forgotten.
"""

import hmac
import secrets
from datetime import date, timedelta
from pathlib import Path

from events.clock import Clock
from events.errors import Retryable
from infra.runtime.postgres import Pool
from infra.runtime.tables import Queries
from projections.folding.queries import load

KEY_BYTES = 32
HASH_CHARS = 16
_SQL = load(Path(__file__).with_suffix(".sql"))


class ClientKeys:
    """The table `client_keys.keys`; keys change every `period_days`."""

    def __init__(self, pool: Pool, clock: Clock, *, period_days: int) -> None:
        self._queries = Queries(pool, _SQL)
        self._clock = clock
        self._days = period_days
        self._known: dict[date, bytes] = {}

    async def hash(self, address: str) -> str | None:
        """Return the client of an address, as `2026-11-23:0f3a…`: equal within a period only. None while PostgreSQL is away."""
        today = self._clock.now().date()
        period = today - timedelta(days=today.toordinal() % self._days)
        if period not in self._known:
            try:
                self._known = {period: await self._key(period)}
            except Retryable:
                return None
        return f"{period}:{hmac.digest(self._known[period], address.encode(), 'sha256').hex()[:HASH_CHARS]}"

    async def _key(self, period: date) -> bytes:
        await self._queries.change("create")
        await self._queries.change("forget", before=period - timedelta(days=self._days))
        await self._queries.change("add", period=period, key=secrets.token_bytes(KEY_BYTES))
        ((key,),) = await self._queries.ask("find", period=period)
        return bytes(key)
