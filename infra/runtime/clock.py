"""The real clock, ids and chance, which composition roots pass to pure code."""

import asyncio
import random
from datetime import UTC, datetime

import uuid_utils

from events.clock import Context


class SystemClock:
    """The machine's clock; the real twin of `events.clock.Clock`."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


def new_id() -> str:
    """Return a fresh UUIDv7: ids sort by the time of their making."""
    return str(uuid_utils.uuid7())


def system_context(source: str, correlation_id: str | None = None) -> Context:
    """Return a context of this very moment. Make one per request: `now` stands still in it.

    `source` names the process, as `kinolog/admin`.
    """
    return Context(datetime.now(UTC), new_id, source, correlation_id, random.SystemRandom())
