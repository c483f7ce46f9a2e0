"""Challenges: random texts that are good for one answer of one holder, for a few minutes."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from events.clock import Context
from events.errors import Unproven

LIFE = timedelta(minutes=5)
CHALLENGE_BYTES = 32


class Store(Protocol):
    """The table of challenges; `infra.runtime.people.factors.FactorTables` implements it."""

    async def keep_challenge(self, purpose: str, text: bytes, holder: str, data: str, now: datetime, life: timedelta) -> None: ...
    async def take_challenge(self, purpose: str, text: bytes, holder: str, now: datetime) -> str | None: ...


class Challenges:
    """The challenges for one purpose."""

    def __init__(self, store: Store, context: Callable[[], Context], purpose: str) -> None:
        self._store = store
        self._context = context
        self._purpose = purpose

    async def make(self, holder: str, data: str = "") -> bytes:
        """Return a new challenge for a holder: a person, or a browser that has a secret cookie."""
        text = secrets.token_bytes(CHALLENGE_BYTES)
        await self._store.keep_challenge(self._purpose, text, holder, data, self._context().now, LIFE)
        return text

    async def take(self, text: bytes, holder: str) -> str:
        """Return the data of a challenge, once. Raises Unproven for any other text, holder or time."""
        data = await self._store.take_challenge(self._purpose, text, holder, self._context().now)
        if data is None:
            raise Unproven(f"{self._purpose}_challenge", "this attempt is over, or began in another browser; start again")
        return data
