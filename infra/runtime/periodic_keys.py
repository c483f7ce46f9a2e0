"""Random keys that change with time, shared by every process: rows of a PostgreSQL table of their own, in no backup.

A key that is deleted is forgotten, and with it all that was hashed or signed with it.
"""

import secrets
from datetime import date
from pathlib import Path
from typing import Literal

from infra.runtime.postgres import Pool
from infra.runtime.tables import Queries
from projections.folding.queries import load

KEY_BYTES = 32
_SQL = load(Path(__file__).with_suffix(".sql"))


class PeriodicKeys:
    """The table `periodic_keys.keys`: for each purpose a key per period, which is named by its first day."""

    def __init__(self, pool: Pool, purpose: Literal["clients", "media", "streams"]) -> None:
        self._queries = Queries(pool, _SQL)
        self._purpose = purpose
        self._known: dict[date, bytes] = {}

    async def key(self, period: date, *, forget_before: date) -> bytes:
        """Return the key of a period; one that is new is made, and those before a day are deleted. Raises Retryable."""
        if period not in self._known:
            await self._queries.change("create")
            about = {"purpose": self._purpose, "period": period}
            await self._queries.change("forget", before=forget_before, purpose=self._purpose)
            await self._queries.change("add", key=secrets.token_bytes(KEY_BYTES), **about)
            ((key,),) = await self._queries.ask("find", **about)
            self._known = {day: old for day, old in self._known.items() if day >= forget_before} | {period: bytes(key)}
        return self._known[period]
