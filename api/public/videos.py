"""For viewers: the catalog as JSON."""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from api.examples import JOB_ID, PROGRESSING, VIDEO_ID
from api.problems import documented
from api.public.services import Given, Services, Watching, signed_part
from api.services import Cursor, Limit, Minimum, after_of, cursor_of, reading
from events.errors import Concealed, NotFound
from events.media import Failure
from events.text import Line
from projections import catalog, progress
from projections.catalog import Edition, Video, VideoSummary
from projections.playback import manifests
from projections.visibility import HIDDEN, Viewer, may_watch

routes = APIRouter(tags=["watching"])
Slug = Annotated[str, Path(max_length=100, pattern=r"^[a-z0-9-]+$")]
Shown = TypeVar("Shown", Video, Edition)


class ListedVideo(BaseModel):
    """A published video in a list."""

    video_id: str = Field(examples=[VIDEO_ID])
    slug: str = Field(examples=["holiday-hfagkw8m"])
    title: str = Field(examples=["Holiday"])
    description: str = Field(examples=["A week at the sea"])
    duration_ms: int | None = Field(examples=[9500])
    rungs: tuple[str, ...] = Field(examples=[["720p", "480p", "360p"]])
    thumbnail_url: str | None = Field(examples=[f"/media/{VIDEO_ID}/{JOB_ID}/1/thumbnail.jpg"])
    watch_url: str = Field(examples=["/watch/holiday-hfagkw8m"])
    uploaded_at: datetime | None
    published_at: datetime | None


class VideoPage(BaseModel):
    """One page; `next` is the cursor of the page after it."""

    items: list[ListedVideo]
    next: str | None


class FailureReason(BaseModel):
    """Why a video failed."""

    code: str = Field(examples=["NOT_MEDIA"])
    message: str = Field(examples=["This is not a video: no demuxer knows the format."])


class SubtitleFile(BaseModel):
    """A WebVTT file."""

    name: str = Field(examples=["subtitles-2"])
    language: str = Field(examples=["en"])
    label: str = Field(examples=["English"])
    url: str = Field(examples=[f"/media/{VIDEO_ID}/{JOB_ID}/1/subtitles-2.vtt"])


class WatchedVideo(BaseModel):
    """One video as its page needs it. `hls_url` is set as soon as something can be played."""

    video_id: str = Field(examples=[VIDEO_ID])
    slug: str = Field(examples=["holiday-hfagkw8m"])
    status: str = Field(examples=["ready"])
    title: str = Field(examples=["Holiday"])
    description: str = Field(examples=["A week at the sea"])
    duration_ms: int | None = Field(examples=[9500])
    rungs: tuple[str, ...] = Field(examples=[["720p", "480p", "360p"]])
    thumbnail_url: str | None = Field(examples=[f"/media/{VIDEO_ID}/{JOB_ID}/1/thumbnail.jpg"])
    hls_url: str | None = Field(examples=["/videos/holiday-hfagkw8m/master.m3u8"])
    dash_url: str | None = Field(examples=["/videos/holiday-hfagkw8m/manifest.mpd"])
    failure: FailureReason | None
    subtitles: list[SubtitleFile]
    uploaded_at: datetime | None
    published_at: datetime | None


@routes.get("/api/videos")
async def browse(
    given: Given,
    viewer: Watching,
    response: Response,
    limit: Limit = 24,
    cursor: Cursor = None,
    q: Annotated[Line, Query(max_length=200, description="Words in title or description.")] = "",
    minimum: Minimum = None,
) -> VideoPage:
    """List published videos, newest first; with `q`, those that have all its words. Private ones are listed for their viewers."""
    async with reading(given, response, "catalog", minimum) as connection:
        found = await catalog.page(connection, viewer=viewer, limit=limit, after=after_of(cursor), query=q)
    last = found[-1] if len(found) == limit else None
    following = cursor_of(last.uploaded_at, last.video_id) if last and last.uploaded_at else None
    return VideoPage(items=[_listed(video, await signed_part(given, video)) for video in found], next=following)


@routes.get("/api/videos/{slug}", responses=documented(404))
async def show(given: Given, viewer: Watching, response: Response, slug: Slug, minimum: Minimum = None) -> WatchedVideo:
    """Show one video, also while it is being made."""
    async with reading(given, response, "catalog", minimum) as connection:
        video = await _video(connection, slug, viewer)
        published = video.status == "ready"
        media = await (catalog.extras_of if published else catalog.media_of)(connection, video.video_id)
    signed = await signed_part(given, video)
    return WatchedVideo(
        video_id=video.video_id,
        slug=video.slug,
        status=video.status,
        title=video.title,
        description=video.description,
        duration_ms=video.duration_ms,
        rungs=video.rungs or tuple(progress.rung_names(video.plan)),
        thumbnail_url=manifests.media_path(picture.key, signed) if (picture := manifests.thumbnail(video, media)) else None,
        hls_url=f"/videos/{video.slug}/master.m3u8" if manifests.has_hls(video, media) else None,
        dash_url=f"/videos/{video.slug}/manifest.mpd" if manifests.has_dash(video) else None,
        failure=_reason(video.failure),
        subtitles=[
            SubtitleFile(
                name=text.name, language=text.language, label=text.label, url=manifests.media_path(text.object.key, signed)
            )
            for text in manifests.subtitles(video, media)
        ],
        uploaded_at=video.uploaded_at,
        published_at=video.published_at,
    )


@routes.get("/api/videos/{slug}/progress", responses=documented(404) | PROGRESSING)
async def progress_of(given: Given, viewer: Watching, response: Response, slug: Slug) -> progress.VideoProgress:
    """Show the progress of a video, per rung."""
    async with reading(given, response, "progress") as connection:
        video = await _video(connection, slug, viewer)
        return await progress.progress_now(connection, video)


async def _video(connection: Any, slug: str, viewer: Viewer) -> Video:
    """Return a video that the viewer may watch. Raises NotFound."""
    return shown(await catalog.by_slug(connection, slug), slug, viewer)


async def shown_video(given: Services, slug: str, viewer: Viewer) -> Video:
    """Return a video that the viewer may watch. Raises NotFound."""
    async with given.pool.connection() as connection:
        return await _video(connection, slug, viewer)


def shown(found: Shown | None, slug: str, viewer: Viewer) -> Shown:
    """Return the video if the viewer may watch it. Raises NotFound, and Concealed in the same words."""
    words = f"there is no video {slug}"
    if found is None or found.archived or found.status in HIDDEN:
        raise NotFound(words)
    if not may_watch(found, viewer):
        raise Concealed("video_private", words)
    return found


def _listed(video: VideoSummary, signed: str) -> ListedVideo:
    return ListedVideo(
        **video.model_dump(include={"video_id", "slug", "title", "description", "duration_ms", "rungs"}),
        thumbnail_url=manifests.media_path(video.thumbnail.key, signed) if video.thumbnail else None,
        watch_url=f"/watch/{video.slug}",
        uploaded_at=video.uploaded_at,
        published_at=video.published_at,
    )


def _reason(failure: Failure | None) -> FailureReason | None:
    return FailureReason(code=failure.code, message=failure.message) if failure else None
