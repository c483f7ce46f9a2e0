"""Background rebuilds of outdated projections, one at a time; the previous version serves meanwhile.

A projection is outdated when this code has other tables. Its feed reports that it cannot fold, and goes on by itself once the new
version serves.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import structlog
from mode import Service
from psycopg import AsyncConnection

from events.pulse import Pulse
from processors.agents.standing import is_away, words_of
from projections.folding.fold import Projection
from projections.folding.log import Source
from projections.folding.rebuild import rebuild
from projections.folding.runner import ProjectionOutdated, as_served, install
from projections.folding.store import SQL

RETRY_S = (1.0, 60.0)
"""First and longest rest after a failed rebuild."""
STALL_S = 3600.0
"""Maximum silence of a rebuild before it is cancelled; one write of many rows is slow as well."""
log = structlog.get_logger(__name__)


class Rebuilds(Service):
    """Rebuilds outdated projections. `open_history` opens a source of all of history."""

    def __init__(
        self,
        projections: Collection[Projection],
        pool: Any,
        open_history: Callable[[], AbstractAsyncContextManager[Source]],
    ) -> None:
        super().__init__()
        self._projections = projections
        self._pool = pool
        self._open_history = open_history
        self._pulse = Pulse("a rebuild", STALL_S)
        self._states: dict[str, str] = {}

    def fault(self, name: str) -> str | None:
        """Return a sentence about the progress of a projection's rebuild; None when it needs none."""
        return self._states.get(name)

    @Service.task
    async def _rebuild_outdated(self) -> None:
        waiting, rest_s = list(self._projections), RETRY_S[0]
        while waiting and not self.should_stop:
            for projection in list(waiting):
                if self.should_stop:
                    return
                try:
                    async with self._pulse.limited():
                        await self._ensure(projection)
                    waiting.remove(projection)
                    self._states.pop(projection.name, None)
                except Exception as error:
                    known = await is_away(error)
                    log.warning("projection_not_rebuilt", projection=projection.name, error=words_of(error), exc_info=not known)
                    self._states[projection.name] = f"is outdated and was not rebuilt: {words_of(error)}"
            if waiting:
                await self.sleep(rest_s)
                rest_s = min(RETRY_S[1], 2 * rest_s)

    async def _ensure(self, projection: Projection) -> None:
        """Rebuild a projection if it is outdated."""
        name = projection.name

        async def on_progress(done: int, total: int) -> None:
            self._pulse.beat()
            self._states[name] = f"is being rebuilt by this code, {done:,} of {total:,} events; the version before serves"

        async with self._pool.connection() as connection:
            if not await _is_outdated(connection, projection):
                return
            await on_progress(0, 0)
            async with _alone(connection, name):
                if not await _is_outdated(connection, projection):
                    return
                log.info("projection_rebuilding", projection=name)
                async with self._open_history() as history:
                    served = await as_served(connection, projection)
                    done = await rebuild(served, connection, history, on_progress=on_progress)
                log.info("projection_rebuilt", projection=name, version=done.version, events=done.events)


async def _is_outdated(connection: AsyncConnection[Any], projection: Projection) -> bool:
    try:
        await install(connection, projection)
    except ProjectionOutdated:
        return True
    return False


@asynccontextmanager
async def _alone(connection: AsyncConnection[Any], name: str) -> AsyncIterator[None]:
    """Wait until no other process rebuilds this projection: each would drop the other's new version."""
    await connection.execute(SQL["lock_rebuild"], {"name": name})
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute(SQL["unlock_rebuild"], {"name": name})
