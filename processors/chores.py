"""What must be done from time to time: uploads that nobody completes, workers that went silent."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import structlog

from events.clock import Context
from events.envelope import Envelope, Event
from events.workers import WorkerOffline
from producers import uploads
from projections import catalog, workers

log = structlog.get_logger(__name__)


class Store(Protocol):
    """The part of the object store that this needs."""

    async def abort_multipart(self, key: str, multipart_id: str) -> None: ...
    async def delete(self, keys: list[str]) -> None: ...


@dataclass(frozen=True)
class Chores:
    """`upload_ttl` is how long an upload may stay open."""

    pool: Any
    store: Store
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]]
    context: Callable[[], Context]
    upload_ttl: timedelta

    async def sweep_uploads(self) -> int:
        """Give up uploads that were begun too long ago, and delete what was sent; return how many."""
        context = self.context()
        async with self.pool.connection() as connection:
            stale = await catalog.stale_uploads(connection, context.now - self.upload_ttl)
        for video in stale:
            if video.multipart_id:
                await self.store.abort_multipart(video.object_key, video.multipart_id)
            await self.store.delete([video.object_key])
            await self.append([uploads.abandoned(context, video_id=video.video_id, reason="expired")])
            log.info("upload_swept", video_id=video.video_id)
        return len(stale)

    async def note_silent_workers(self) -> int:
        """Write down which workers were not heard of for too long; return how many."""
        context = self.context()
        async with self.pool.connection() as connection:
            silent = await workers.silent(connection, context.now - workers.OFFLINE_AFTER)
        for worker in silent:
            event = WorkerOffline(worker_id=worker.worker_id)
            id_ = context.new_id()
            await self.append([Envelope(id_, context.source, worker.worker_id, context.now, event, id_)])
        return len(silent)
