"""The effect on files: it stores final manifests beside the segments, and deletes purged videos and abandoned uploads.

The outbox runs it at least once; it is idempotent. The manifests in the store are for a CDN that serves the bucket: only a video
that anybody may watch has them. The public app renders its own. An event waits for the catalog's position, never for a row: a row
missing by then will not come.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, assert_never

import structlog

from events.envelope import Event, Recorded
from events.errors import KinologError, Retryable, Stalled, StoreUnavailable
from events.media import ObjectRef
from events.objects import source_key, video_prefix
from events.topics import JOBS, VIDEOS
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoEvent,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
    VideoVisibilityChanged,
)
from processors.agents.standing import is_away
from projections import catalog
from projections.folding.fold import Projection
from projections.folding.positions import Positions, is_served, snapshot, wait_for
from projections.playback import manifests
from projections.visibility import NOBODY, may_watch

PROJECTION = Projection("files", (VIDEOS,), (), "SELECT")
CATALOG_WAIT_S = 2.0
"""Maximum wait for the catalog; then the effect is put off and frees its slot."""
STORE_WAIT_S = 10.0
ManifestsChange = VideoPublished | VideoVisibilityChanged | VideoArchived | VideoRestored
log = structlog.get_logger(__name__)


def wants(recorded: Recorded[Event]) -> bool:
    """Return whether an event has an effect on files."""
    return isinstance(recorded.envelope.data, ManifestsChange | UploadAbandoned | VideoPurged)


class CatalogBehind(Retryable):
    """The catalog has not yet read the log up to this event."""


class MediaMissing(KinologError):
    """A published video lacks the output of a job: its manifests would have gaps."""


class Store(Protocol):
    """The part of the object store that the effect needs."""

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef: ...
    async def abort_multipart(self, key: str, multipart_id: str) -> None: ...
    async def delete(self, keys: list[str]) -> None: ...
    async def delete_prefix(self, prefix: str) -> int: ...
    async def ready(self) -> bool: ...


def away_with(store: Store) -> Callable[[Exception], Awaitable[bool]]:
    """Return a function that says whether a service is away: a store that answers has only refused one object."""

    async def away(error: Exception) -> bool:
        if isinstance(error, StoreUnavailable | Stalled):
            try:
                async with asyncio.timeout(STORE_WAIT_S):
                    return not await store.ready()
            except (KinologError, TimeoutError):
                return True
        return await is_away(error)

    return away


def act_with(pool: Any, store: Store) -> Callable[[Recorded[Any]], Awaitable[None]]:
    """Return a function that acts on one event."""

    async def act(recorded: Recorded[VideoEvent]) -> None:
        event = recorded.envelope.data
        match event:
            case VideoPublished() | VideoVisibilityChanged() | VideoArchived() | VideoRestored():
                await _show_or_hide(pool, store, recorded, event.video_id)
            case UploadAbandoned(video_id=video_id):
                await _delete_upload(pool, store, recorded, video_id)
            case VideoPurged(video_id=video_id):
                await store.delete([source_key(video_id)])
                deleted = await store.delete_prefix(video_prefix(video_id))
                log.info("video_purged", video_id=video_id, objects=deleted)
            case UploadStarted() | VideoUploaded() | VideoProbed() | VideoPlanned() | VideoFailed() | VideoRetryRequested():
                return
            case VideoEdited():
                return
            case _:
                assert_never(event)

    return act


async def _show_or_hide(pool: Any, store: Store, recorded: Recorded[Event], video_id: str) -> None:
    """Store the manifests; delete them when not everybody may watch. Raises CatalogBehind, MediaMissing."""
    await _catch_up(pool, recorded, jobs=isinstance(recorded.envelope.data, VideoPublished))
    async with pool.connection() as connection:
        video = await catalog.by_id(connection, video_id)
        media = list(await catalog.media_of(connection, video_id))
    if video is None or video.status != "ready":
        return  # not published yet, or purged since
    files = manifests.stored(video, media)
    if not may_watch(video, NOBODY):
        await store.delete(list(files))
        return
    if missing := set(video.job_ids) - {row.job_id for row in media}:
        raise MediaMissing(f"{video_id} was published, and the catalog has nothing of {', '.join(sorted(missing)[:3])}")
    for key, (text, media_type) in files.items():
        await store.put_bytes(key, text.encode(), media_type)


async def _delete_upload(pool: Any, store: Store, recorded: Recorded[Event], video_id: str) -> None:
    """Delete the sent parts, unless the upload was completed before it was given up, or never begun. Raises CatalogBehind."""
    await _catch_up(pool, recorded)
    async with pool.connection() as connection:
        video = await catalog.by_id(connection, video_id)
    if video is None or video.status != "abandoned":
        return
    if video.multipart_id:
        await store.abort_multipart(video.object_key, video.multipart_id)
    await store.delete([video.object_key])
    log.info("upload_deleted", video_id=video_id)


async def _catch_up(pool: Any, recorded: Recorded[Event], *, jobs: bool = False) -> None:
    """Wait until the catalog has read this event; with `jobs`, also all completions that led to it. Raises CatalogBehind.

    Planning has stored its position behind those completions before it has a video verified and published.
    """
    async with pool.connection() as connection:
        if not await is_served(connection, "catalog"):
            raise CatalogBehind
        planned = (await snapshot(connection, "planning")).next if jobs else {}
    needed = {partition: position for partition, position in planned.items() if partition[0] == JOBS.name}
    needed[recorded.topic, recorded.partition] = recorded.offset + 1
    if not await wait_for(pool, "catalog", Positions(needed), CATALOG_WAIT_S):
        raise CatalogBehind(f"the catalog has not read {recorded.topic}/{recorded.partition}/{recorded.offset} and what led to it")
