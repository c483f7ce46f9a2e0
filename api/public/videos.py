"""For viewers: the catalog as JSON, manifests, media."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from api import ranges
from api.examples import JOB_ID, PROGRESSING, VIDEO_ID
from api.limits import allowing
from api.problems import documented
from api.public.services import Given, Services
from api.services import Cursor, Limit, Minimum, after_of, cursor_of, reading
from events.errors import NotFound
from events.media import Failure
from events.text import Line
from projections import catalog, progress
from projections.catalog import Edition, Media, Video, VideoSummary
from projections.playback import manifests

routes = APIRouter(tags=["watching"])
Slug = Annotated[str, Path(max_length=100, pattern=r"^[a-z0-9-]+$")]
Known = Annotated[str | None, Header(alias="If-None-Match")]
Shown = TypeVar("Shown", Video, Edition)
IMMUTABLE = "public, max-age=31536000, immutable"
PLAYABLE_MAX = 10_000
"""Maximum number of playable results remembered."""
REMEMBERED = timedelta(seconds=2)
"""A player asks for a segment every few seconds; an archived video ends this much later for those who watch it."""

SAME: dict[int | str, dict[str, Any]] = {304: {"description": "It is what you have."}, **documented(404)}
HLS: dict[int | str, dict[str, Any]] = {200: {"content": {manifests.HLS_TYPE: {"example": "#EXTM3U\n…"}}}, **SAME}
DASH: dict[int | str, dict[str, Any]] = {200: {"content": {manifests.DASH_TYPE: {"example": "<MPD …/>"}}}, **SAME}


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
    response: Response,
    limit: Limit = 24,
    cursor: Cursor = None,
    q: Annotated[Line, Query(max_length=200, description="Words in title or description.")] = "",
    minimum: Minimum = None,
) -> VideoPage:
    """List published videos, newest first; with `q`, those that have all its words."""
    async with reading(given, response, "catalog", minimum) as connection:
        found = await catalog.page(connection, limit=limit, after=after_of(cursor), query=q)
    last = found[-1] if len(found) == limit else None
    following = cursor_of(last.uploaded_at, last.video_id) if last and last.uploaded_at else None
    return VideoPage(items=[_listed(video) for video in found], next=following)


@routes.get("/api/videos/{slug}", responses=documented(404))
async def show(given: Given, response: Response, slug: Slug, minimum: Minimum = None) -> WatchedVideo:
    """Show one video, also while it is being made."""
    async with reading(given, response, "catalog", minimum) as connection:
        video = await _video(connection, slug)
        published = video.status == "ready"
        media = await (catalog.extras_of if published else catalog.media_of)(connection, video.video_id)
    return WatchedVideo(
        video_id=video.video_id,
        slug=video.slug,
        status=video.status,
        title=video.title,
        description=video.description,
        duration_ms=video.duration_ms,
        rungs=video.rungs or tuple(progress.rung_names(video.plan)),
        thumbnail_url=manifests.media_path(picture.key) if (picture := manifests.thumbnail(video, media)) else None,
        hls_url=f"/videos/{video.slug}/master.m3u8" if manifests.has_hls(video, media) else None,
        dash_url=f"/videos/{video.slug}/manifest.mpd" if manifests.has_dash(video) else None,
        failure=_reason(video.failure),
        subtitles=[
            SubtitleFile(name=text.name, language=text.language, label=text.label, url=manifests.media_path(text.object.key))
            for text in manifests.subtitles(video, media)
        ],
        uploaded_at=video.uploaded_at,
        published_at=video.published_at,
    )


@routes.get("/api/videos/{slug}/progress", responses=documented(404) | PROGRESSING)
async def progress_of(given: Given, response: Response, slug: Slug) -> progress.VideoProgress:
    """Show the progress of a video, per rung."""
    async with reading(given, response, "progress") as connection:
        video = await _video(connection, slug)
        return await progress.progress_now(connection, video)


@routes.head("/videos/{slug}/master.m3u8", include_in_schema=False)
@routes.get("/videos/{slug}/master.m3u8", response_class=Response, responses=HLS)
@allowing(rate="faults", kind="media")
async def hls_master(given: Given, slug: Slug, known: Known = None) -> Response:
    """HLS master playlist, available as soon as the first chunk is."""
    return await _manifest(given, slug, manifests.hls_master, manifests.HLS_TYPE, known)


@routes.head("/videos/{slug}/manifest.mpd", include_in_schema=False)
@routes.get("/videos/{slug}/manifest.mpd", response_class=Response, responses=DASH)
@allowing(rate="faults", kind="media")
async def dash(given: Given, slug: Slug, known: Known = None) -> Response:
    """DASH manifest, available once the video is published."""
    return await _manifest(given, slug, manifests.dash, manifests.DASH_TYPE, known)


@routes.head("/videos/{slug}/{rendition}.m3u8", include_in_schema=False)
@routes.get("/videos/{slug}/{rendition}.m3u8", response_class=Response, responses=HLS)
@allowing(rate="faults", kind="media")
async def hls_media(
    given: Given, slug: Slug, rendition: Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")], known: Known = None
) -> Response:
    """HLS playlist of one rendition or subtitle track; grows until the video is published."""
    render = partial(manifests.hls_media, name=rendition)
    return await _manifest(given, slug, render, manifests.HLS_TYPE, known, rendition)


@routes.head("/media/{path:path}", include_in_schema=False)
@routes.get(
    "/media/{path:path}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "All of it."},
        206: {"content": {"application/octet-stream": {}}, "description": "The range that was asked for."},
        302: {"description": "It is in the store, for a while under the address in `Location`."},
        304: {"description": "It is what you have."},
        **documented(404, 416),
    },
)
@allowing(rate="faults", kind="media")
async def media_object(
    given: Given,
    request: Request,
    path: Annotated[str, Path(max_length=500, pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$")],
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    known: Known = None,
    same: Annotated[str | None, Header(alias="If-Range")] = None,
) -> Response:
    """A segment, picture or subtitle file. It never changes under its address. Ranges are answered.

    Only files of accepted results are served: others may still be written, or refused. Those of an archived video are not,
    two seconds later at the latest.
    """
    key = manifests.object_key(path)
    if not await _is_playable(given, path):
        raise NotFound(f"there is nothing at /media/{path}")
    if given.options.media_delivery == "redirect":
        life_s = given.options.presign_ttl_s
        headers = {"Cache-Control": f"private, max-age={life_s // 2}"}
        return RedirectResponse(await given.store.presign_get(key, life_s), 302, headers=headers)
    caching = {"Cache-Control": IMMUTABLE}
    return await ranges.answer(given.store, key, request.method, wanted=wanted, known=known, same=same, headers=caching)


async def _is_playable(given: Services, path: str) -> bool:
    """Return whether a path is VIDEO/JOB/EPOCH/… of an accepted result of a video that viewers may see."""
    video_id, job_id, epoch, *names = [*path.split("/"), "", ""]
    if not names[:-2] or not (epoch.isdecimal() and len(epoch) <= 9):
        return False
    attempt = video_id, job_id, int(epoch)
    now = given.context().now
    found_at = given.playable.get(attempt)
    if found_at is not None and timedelta(0) <= now - found_at < REMEMBERED:
        return True
    async with given.pool.connection() as connection:
        if not await catalog.is_playable(connection, *attempt):
            given.playable.pop(attempt, None)
            return False
    if len(given.playable) >= PLAYABLE_MAX:
        given.playable.clear()
    given.playable[attempt] = now
    return True


async def _manifest(
    given: Services,
    slug: str,
    render: Callable[[Video, Sequence[Media]], str | None],
    media_type: str,
    known: str | None,
    rendition: str | None = None,
) -> Response:
    """Answer with a manifest, from memory or newly rendered. Raises NotFound."""
    async with given.pool.connection() as connection:
        edition = _shown(await catalog.edition_of(connection, slug), slug)

    async def rendered() -> str | None:
        async with given.pool.connection() as connection:
            video = await _video(connection, slug)  # if it has a later edition by now, the older key is never asked for again
            return render(video, await catalog.media_of(connection, video.video_id, rendition))

    found = await given.renderings.get((edition, media_type, rendition), rendered)
    if found is None:
        raise NotFound(f"{slug} cannot be played this way: its status is {edition.status}")
    headers = {"Cache-Control": "public, max-age=60" if edition.status == "ready" else "no-cache", "ETag": found.etag}
    if ranges.is_known(found.etag, known):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=media_type, headers=headers)


async def _video(connection: Any, slug: str) -> Video:
    """Return a video that viewers may see. Raises NotFound."""
    return _shown(await catalog.by_slug(connection, slug), slug)


async def shown_video(given: Services, slug: str) -> Video:
    """Return a video that viewers may see. Raises NotFound."""
    async with given.pool.connection() as connection:
        return await _video(connection, slug)


def _shown(found: Shown | None, slug: str) -> Shown:
    """Return the video if viewers may see it. Raises NotFound."""
    if found is None or found.archived or found.status in ("purged", "abandoned", "uploading"):
        raise NotFound(f"there is no video {slug}")
    return found


def _listed(video: VideoSummary) -> ListedVideo:
    return ListedVideo(
        **video.model_dump(include={"video_id", "slug", "title", "description", "duration_ms", "rungs"}),
        thumbnail_url=manifests.media_path(video.thumbnail.key) if video.thumbnail else None,
        watch_url=f"/watch/{video.slug}",
        uploaded_at=video.uploaded_at,
        published_at=video.published_at,
    )


def _reason(failure: Failure | None) -> FailureReason | None:
    return FailureReason(code=failure.code, message=failure.message) if failure else None
