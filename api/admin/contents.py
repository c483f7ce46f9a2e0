"""One video per content: uploads claim a content on the log, and the order of the log decides which of them becomes the
video.

Any number of processes may complete uploads of one content at once, and any of them may die in between: the next one records
the upload that holds the claim, under the id that the claim fixed.
"""

import asyncio
from typing import Any

from fastapi import Response
from psycopg import AsyncConnection

from api.admin.services import Services, write
from api.services import POSITION_HEADER
from events.errors import Retryable
from events.videos import VideoUploaded
from producers import uploads as producer
from projections import catalog, contents
from projections.catalog import Video, slug_for
from projections.folding.positions import Positions, wait_for

CLAIMS_MAX = 5
"""Each attempt but the first replaces an upload that was given up meanwhile."""
OTHERS_S = 2.0
"""Time for the process whose upload holds a content to record it; after that another process does."""
READ_S = 30.0
"""Maximum delay of a projection on a busy machine."""


async def become(given: Services, response: Response, upload: VideoUploaded, *, force: bool) -> Video:
    """Make a complete upload a video and return it, or return the existing video of its content; `force` makes a video in any
    case.

    Raises Retryable when projections are late.
    """
    if force or upload.sha256 is None:
        return await _recorded(given, response, upload)
    for _ in range(CLAIMS_MAX):
        if known := await video_of(given, upload.sha256):
            return known
        holder = await _holder(given, response, upload, upload.sha256)
        if holder.video_id == upload.video_id:
            return await _recorded(given, response, upload)
        if other := await _other(given, response, holder):
            return other
    raise Retryable("uploads of this content come and go; try again")


async def video_of(given: Services, sha256: str) -> Video | None:
    """Return the video that is, or becomes, of this content."""
    async with given.pool.connection() as connection:
        return await catalog.same_content(connection, sha256)


async def _holder(given: Services, response: Response, upload: VideoUploaded, sha256: str) -> VideoUploaded:
    """Return the upload that holds the content. This upload claims it, unless another may still become a video."""
    async with given.pool.connection() as connection:
        before = await contents.holder(connection, sha256)
        if before and not await _is_over(connection, before.video_id):
            return before
    await write(given, response, [producer.claimed(given.context(), upload, instead_of=before.video_id if before else None)])
    if not await wait_for(given.pool, "contents", Positions.parse(response.headers[POSITION_HEADER]), READ_S):
        raise Retryable("other uploads of this content are not known yet; try again")
    async with given.pool.connection() as connection:
        after = await contents.holder(connection, sha256)
    assert after is not None, "a claim was read, and nobody holds its content"
    return after


async def _is_over(connection: AsyncConnection[Any], video_id: str) -> bool:
    video = await catalog.by_id(connection, video_id)
    return video is not None and video.status in ("failed", "abandoned", "purged")


async def _recorded(given: Services, response: Response, upload: VideoUploaded) -> Video:
    """Record that an upload is complete; return its video."""
    await write(given, response, [producer.uploaded(given.context(), upload)])
    return Video(upload.video_id, slug_for(upload.title, upload.video_id), "processing")


async def _other(given: Services, response: Response, holder: VideoUploaded) -> Video | None:
    """Return the video of another upload, None when that was given up. Its own process may have died before recording it."""
    video = await _settled(given, holder.video_id)
    if video is None:
        await _recorded(given, response, holder)
        if await wait_for(given.pool, "catalog", Positions.parse(response.headers[POSITION_HEADER]), READ_S):
            async with given.pool.connection() as connection:
                video = await catalog.by_id(connection, holder.video_id)
    if video is None:
        raise Retryable("the catalog has not read the newest uploads yet; try again")
    return None if video.status in ("abandoned", "purged") else video


async def _settled(given: Services, video_id: str) -> Video | None:
    """Return the video once another process has recorded that it is no longer an open upload, None after `OTHERS_S`.

    Its position on the log is not known here, so the row is looked at.
    """
    try:
        async with asyncio.timeout(OTHERS_S):
            while True:
                async with given.pool.connection() as connection:
                    video = await catalog.by_id(connection, video_id)
                if video is not None and video.status != "uploading":
                    return video
                await asyncio.sleep(0.02)
    except TimeoutError:
        return None
