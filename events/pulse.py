"""Signs of life of a loop: it beats at every turn, and from time to time within a long turn.

A loop without a beat for `limit_s` is hung: an await never returns. `limited` cancels it, and its owner begins again. The
watchdog, which looks at `beats` from a thread of its own, handles a loop that cannot be cancelled or blocks the event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from events.errors import Stalled

LIMIT_S = 120.0
"""Default maximum time between two beats."""


class Pulse:
    """The pulse of the loop `name`. `watched` counts the open blocks in which it must beat; outside them it may rest."""

    def __init__(self, name: str, limit_s: float = LIMIT_S) -> None:
        self.name = name
        self.limit_s = limit_s
        self.beats = 0
        self.watched = 0
        self._timeout: asyncio.Timeout | None = None

    def beat(self) -> None:
        """Show a sign of life."""
        self.beats += 1
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self.limit_s)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Let the watchdog end the process when this block hangs."""
        self.beats += 1
        self.watched += 1
        try:
            yield
        finally:
            self.watched -= 1

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Cancel this block when it hangs. Raises Stalled."""
        limit = asyncio.timeout(self.limit_s)
        try:
            with self.watching():
                async with limit as self._timeout:
                    yield
        except TimeoutError as error:
            if limit.expired():
                raise Stalled(f"{self.name} showed no sign of life for {self.limit_s:.0f} s") from error
            raise
        finally:
            self._timeout = None
