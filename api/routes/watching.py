"""For viewers: the catalog as JSON, manifests, media."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel

from api.deps import Cursor, Given, Limit, Minimum, Services, after_of, cursor_of, reading
from events.errors import NotFound
from events.media import Failure
from projections import catalog, jobs, manifests, progress
from projections.catalog import Media, Video, VideoSummary

routes = APIRouter(tags=["watching"])
Slug = Annotated[str, Path(max_length=100, pattern=r"^[a-z0-9-]+$")]
IMMUTABLE = "public, max-age=31536000, immutable"
CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Content-Range, Content-Length, ETag"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class ListedVideo(BaseModel):
    """A published video in a list."""

    video_id: str
    slug: str
    title: str
    description: str
    duration_ms: int | None
    rungs: tuple[str, ...]
    thumbnail_url: str | None
    watch_url: str
    uploaded_at: datetime | None
    published_at: datetime | None


class VideoPage(BaseModel):
    """One page; `next` is the cursor of the one after it."""

    items: list[ListedVideo]
    next: str | None


class Problem(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class WatchedVideo(BaseModel):
    """One video as its page needs it. `hls_url` comes as soon as something can be played."""

    video_id: str
    slug: str
    status: str
    title: str
    description: str
    duration_ms: int | None
    rungs: tuple[str, ...]
    thumbnail_url: str | None
    hls_url: str | None
    dash_url: str | None
    failure: Problem | None
    subtitles: list[dict[str, Any]]


@routes.get("/api/videos")
async def browse(
    given: Given,
    response: Response,
    limit: Limit = 24,
    cursor: Cursor = None,
    q: Annotated[str, Query(max_length=200, description="Words in title or description.")] = "",
    minimum: Minimum = None,
) -> VideoPage:
    """List published videos, newest first; with `q`, those that have all its words."""
    async with reading(given, response, "catalog", minimum) as connection:
        found = await catalog.page(connection, limit=limit, after=after_of(cursor), query=q)
    last = found[-1] if len(found) == limit else None
    following = cursor_of(last.uploaded_at, last.video_id) if last and last.uploaded_at else None
    return VideoPage(items=[_listed(video) for video in found], next=following)


@routes.get("/api/videos/{slug}")
async def show(given: Given, response: Response, slug: Slug, minimum: Minimum = None) -> WatchedVideo:
    """Show one video, also while it is being made."""
    async with reading(given, response, "catalog", minimum) as connection:
        video = await _video(connection, slug)
        media = await catalog.media_of(connection, video.video_id)
    return WatchedVideo(
        video_id=video.video_id,
        slug=video.slug,
        status=video.status,
        title=video.title,
        description=video.description,
        duration_ms=video.duration_ms,
        rungs=video.rungs or tuple(progress.rung_names(video.plan)),
        thumbnail_url=manifests.media_path(video.thumbnail.key) if video.thumbnail else None,
        hls_url=f"/videos/{video.slug}/master.m3u8" if manifests.has_hls(video, media) else None,
        dash_url=f"/videos/{video.slug}/manifest.mpd" if manifests.has_dash(video) else None,
        failure=_problem(video.failure),
        subtitles=[
            {"name": text.name, "language": text.language, "label": text.label, "url": manifests.media_path(text.object.key)}
            for text in manifests.subtitles(video, media)
        ],
    )


@routes.get("/api/videos/{slug}/progress")
async def progress_of(given: Given, response: Response, slug: Slug) -> progress.VideoProgress:
    """Tell how far a video is, per rung."""
    async with reading(given, response, "progress") as connection:
        video = await _video(connection, slug)
        of_video = await jobs.of_video(connection, video.video_id)
        ticks = await progress.of_video(connection, video.video_id)
    return progress.progress_of(video, of_video, ticks)


@routes.get("/videos/{slug}/master.m3u8", response_class=Response)
async def hls_master(given: Given, slug: Slug) -> Response:
    """HLS master playlist; there as soon as the first chunk is."""
    video, media = await _with_media(given, slug)
    return _manifest(manifests.hls_master(video, media), manifests.HLS_TYPE, video)


@routes.get("/videos/{slug}/manifest.mpd", response_class=Response)
async def dash(given: Given, slug: Slug) -> Response:
    """DASH manifest; there once the video is published."""
    video, media = await _with_media(given, slug)
    return _manifest(manifests.dash(video, media), manifests.DASH_TYPE, video)


@routes.get("/videos/{slug}/{rendition}.m3u8", response_class=Response)
async def hls_media(
    given: Given, slug: Slug, rendition: Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
) -> Response:
    """HLS playlist of one rendition or subtitle track; grows until the video is published."""
    video, media = await _with_media(given, slug, rendition)
    return _manifest(manifests.hls_media(video, media, rendition), manifests.HLS_TYPE, video)


@routes.api_route("/media/{path:path}", methods=["GET", "HEAD"], response_class=Response)
async def media_object(
    given: Given,
    path: Annotated[str, Path(max_length=500, pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$")],
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    known: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """A segment, picture or subtitle file: it never changes under its address. Ranges are answered."""
    key = manifests.object_key(path)
    if given.options.media_delivery == "redirect":
        return RedirectResponse(await given.store.presign_get(key, given.options.presign_ttl_s), 302, headers=CORS)
    stat = await given.store.stat(key)
    headers = {**CORS, "ETag": f'"{stat.etag}"', "Cache-Control": IMMUTABLE, "Accept-Ranges": "bytes"}
    if known is not None and stat.etag in known:
        return Response(status_code=304, headers=headers)
    media_type = stat.content_type or "application/octet-stream"
    start, stop = 0, stat.size_bytes
    status = 200
    if wanted is not None and (match := _RANGE.fullmatch(wanted.strip())) and any(match.groups()):
        first, last = match.groups()
        start = int(first) if first else max(0, stat.size_bytes - int(last))
        stop = min(stat.size_bytes, int(last) + 1) if first and last else stat.size_bytes
        if start >= stop:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{stat.size_bytes}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    body: AsyncIterator[bytes] = given.store.stream(key, start, stop - start)
    return StreamingResponse(body, status, headers=headers, media_type=media_type)


def _manifest(text: str | None, media_type: str, video: Video) -> Response:
    if text is None:
        raise NotFound(f"{video.title or video.slug} cannot be played this way yet: it is {video.status}")
    life = "public, max-age=60" if video.status == "ready" else "no-cache"
    return Response(text, media_type=media_type, headers={**CORS, "Cache-Control": life})


async def _with_media(given: Services, slug: str, rendition: str | None = None) -> tuple[Video, list[Media]]:
    async with given.pool.connection() as connection:
        video = await _video(connection, slug)
        return video, list(await catalog.media_of(connection, video.video_id, rendition))


async def _video(connection: Any, slug: str) -> Video:
    """Return a video that viewers may see. Raises NotFound."""
    video = await catalog.by_slug(connection, slug)
    if video is None or video.archived or video.status in ("purged", "abandoned", "uploading"):
        raise NotFound(f"there is no video {slug}")
    return video


def _listed(video: VideoSummary) -> ListedVideo:
    return ListedVideo(
        **video.model_dump(include={"video_id", "slug", "title", "description", "duration_ms", "rungs"}),
        thumbnail_url=manifests.media_path(video.thumbnail.key) if video.thumbnail else None,
        watch_url=f"/watch/{video.slug}",
        uploaded_at=video.uploaded_at,
        published_at=video.published_at,
    )


def _problem(failure: Failure | None) -> Problem | None:
    return Problem(code=failure.code, message=failure.message) if failure else None
