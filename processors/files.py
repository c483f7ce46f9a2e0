"""Files that follow from events: final manifests beside the segments, the end of what was purged or never completed.

At least once, and the same however often. The manifests in the store are for a CDN that serves the bucket; the public
app renders its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from events.clock import Clock
from events.envelope import Event, Recorded
from events.errors import Retryable
from events.media import ObjectRef
from events.topics import VIDEOS
from events.videos import UploadAbandoned, VideoPublished, VideoPurged
from producers.uploads import source_key
from projections import catalog, manifests
from projections.catalog import Media, Video
from projections.fold import Projection

PROJECTION = Projection("files", (VIDEOS,), (), "SELECT")
CATALOG_WAIT_S = 30.0
log = structlog.get_logger(__name__)


class Store(Protocol):
    """The part of the object store that this needs."""

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef: ...
    async def abort_multipart(self, key: str, multipart_id: str) -> None: ...
    async def delete(self, keys: list[str]) -> None: ...
    async def delete_prefix(self, prefix: str) -> int: ...


def act_with(pool: Any, store: Store, clock: Clock) -> Callable[[Recorded[Event]], Awaitable[None]]:
    """Return the function that acts on one event."""

    async def act(recorded: Recorded[Event]) -> None:
        match recorded.envelope.data:
            case VideoPublished(video_id=video_id):
                await _store_manifests(pool, store, clock, video_id)
            case UploadAbandoned(video_id=video_id):
                await _delete_upload(pool, store, clock, video_id)
            case VideoPurged(video_id=video_id):
                await store.delete([source_key(video_id)])
                deleted = await store.delete_prefix(f"{manifests.OBJECTS}{video_id}/")
                log.info("video_purged", video_id=video_id, objects=deleted)
            case _:
                return

    return act


async def _store_manifests(pool: Any, store: Store, clock: Clock, video_id: str) -> None:
    """Render from the catalog. Raises Retryable when it stays behind."""

    def shows_it(video: Video, media: list[Media]) -> bool:
        return video.status == "purged" or (video.status == "ready" and {row.job_id for row in media} >= set(video.job_ids))

    video, media = await _look_until(shows_it, pool, clock, video_id)
    for key, (text, media_type) in manifests.stored(video, media).items():
        await store.put_bytes(key, text.encode(), media_type)


async def _delete_upload(pool: Any, store: Store, clock: Clock, video_id: str) -> None:
    """Delete what was sent, unless the upload was completed before it was given up. Raises Retryable as above."""
    video, _media = await _look_until(lambda video, media: video.status != "uploading", pool, clock, video_id)
    if video.status == "abandoned":
        if video.multipart_id:
            await store.abort_multipart(video.object_key, video.multipart_id)
        await store.delete([video.object_key])
        log.info("upload_deleted", video_id=video_id)


async def _look_until(
    condition: Callable[[Video, list[Media]], bool], pool: Any, clock: Clock, video_id: str
) -> tuple[Video, list[Media]]:
    """Return what the catalog says of a video once a condition holds: it may be a moment behind this event."""
    async with asyncio.timeout(CATALOG_WAIT_S + 5):
        for _ in range(int(CATALOG_WAIT_S / 0.1)):
            async with pool.connection() as connection:
                video = await catalog.by_id(connection, video_id)
                media = list(await catalog.media_of(connection, video_id))
            if video is not None and condition(video, media):
                return video, media
            await clock.sleep(0.1)
    raise Retryable(f"the catalog is behind: it does not show what happened to {video_id}")
