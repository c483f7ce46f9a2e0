"""For administrators: videos in every state, and their history."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field, model_validator

from api.admin.models import CHANGED, FOUND, AcceptedVideo, Page, Reason, VideoDetail, VideoShown
from api.admin.services import Given, Services, reading, write
from api.examples import PROGRESSING
from api.services import Cursor, Limit, Minimum, after_of, cursor_of
from events.errors import Conflict, InvalidRequest, NotFound
from events.people import Role
from events.text import Line, Prose
from events.videos import NAMED_MAX, Visibility
from producers import catalog as catalog_producer
from projections import catalog, progress, timeline
from projections.catalog import Status, Video
from projections.playback import manifests

routes = APIRouter(tags=["managing"])
Which = Annotated[Line, Path(max_length=100, description="A video's id or slug, or eight characters or more of the id.")]


class Edit(BaseModel):
    """New title, description or visibility of a video. Omitted fields stay as they are; at least one is required.

    `roles` and `users` (ids) may watch a private video, besides everybody with the right to read; they come with `visibility`
    and replace those before.
    """

    title: Line | None = Field(None, min_length=1, max_length=255, examples=["Holiday at the sea"])
    description: Prose | None = Field(None, max_length=5000, examples=["With everybody"])
    visibility: Visibility | None = Field(None, examples=["private"])
    roles: tuple[Role, ...] = Field((), max_length=10, examples=[["viewer"]])
    users: tuple[Line, ...] = Field((), max_length=NAMED_MAX, examples=[[]])

    @model_validator(mode="after")
    def _something(self) -> "Edit":
        if self.title is None and self.description is None and self.visibility is None:
            raise ValueError("say a title, a description or a visibility")
        if (self.roles or self.users) and self.visibility != "private":
            raise ValueError("say roles and users with visibility private; other videos are for anybody")
        return self


@routes.get("/api/videos")
async def list_videos(
    given: Given,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query()] = None,
    archived: Annotated[bool | None, Query()] = None,
    sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="Only the video with this content.")] = None,
    q: Annotated[Line, Query(max_length=200)] = "",
    minimum: Minimum = None,
) -> Page[VideoShown]:
    """List videos in every state, newest first."""
    async with reading(given, response, "catalog", minimum) as connection:
        if sha256 is not None:
            known = await catalog.same_content(connection, sha256)
            return Page(items=[VideoShown.model_validate(known)] if known else [], next=None)
        videos = await catalog.listing(connection, limit=limit, after=after_of(cursor), status=status, archived=archived, query=q)
    last = videos[-1] if len(videos) == limit else None
    time = (last.uploaded_at or last.started_at) if last else None
    items = [VideoShown.model_validate(video) for video in videos]
    return Page(items=items, next=cursor_of(time, last.video_id) if last and time else None)


@routes.get("/api/videos/{which}", responses=FOUND)
async def show_video(given: Given, response: Response, which: Which, minimum: Minimum = None) -> VideoDetail:
    """Show everything about one video."""
    async with reading(given, response, "catalog", minimum) as connection:
        video = await _find(connection, which)
        media = await catalog.media_of(connection, video.video_id)
    return VideoDetail(
        **VideoShown.model_validate(video).model_dump(),
        roles=video.roles,
        users=video.users,
        plan=video.plan,
        probe=video.probe,
        warnings=video.warnings,
        watch_url=f"/watch/{video.slug}",
        hls_url=f"/videos/{video.slug}/master.m3u8" if manifests.has_hls(video, media) else None,
        dash_url=f"/videos/{video.slug}/manifest.mpd" if manifests.has_dash(video) else None,
    )


@routes.get("/api/videos/{which}/progress", responses=FOUND | PROGRESSING)
async def show_progress(given: Given, response: Response, which: Which) -> progress.VideoProgress:
    """Show the progress of a video, per rung."""
    async with reading(given, response, "progress") as connection:
        video = await _find(connection, which)
        return await progress.progress_now(connection, video)


@routes.get("/api/videos/{which}/timeline", responses=FOUND)
async def show_timeline(given: Given, response: Response, which: Which) -> Page[timeline.Entry]:
    """List the history of a video, with the position of each event on the log."""
    async with reading(given, response, "timeline") as connection:
        video = await _find(connection, which)
        return Page(items=list(await timeline.of_video(connection, video.video_id)), next=None)


@routes.patch("/api/videos/{which}", status_code=202, responses=FOUND)
async def edit_video(given: Given, response: Response, which: Which, edit: Edit) -> AcceptedVideo:
    """Change title, description or visibility; the address stays."""
    video = await _existing(given, which)
    events = []
    if edit.title is not None or edit.description is not None:
        words = {"title": edit.title, "description": edit.description}
        events.append(catalog_producer.edited(given.context(), video.video_id, **words))
    if edit.visibility is not None:
        if unknown := set(edit.users) - given.people.directory.users.keys():
            raise InvalidRequest(f"there is no user {min(unknown)}; ids are in `kinolog users list --json`")
        about = given.context(), video.video_id, edit.visibility
        events.append(catalog_producer.shown_to(*about, roles=edit.roles, users=edit.users))
    await write(given, response, events)
    return AcceptedVideo(video_id=video.video_id)


@routes.post("/api/videos/{which}/archive", status_code=202, responses=FOUND)
async def archive_video(given: Given, response: Response, which: Which) -> AcceptedVideo:
    """Take a video off the public pages; everything is kept."""
    video = await _existing(given, which)
    await write(given, response, [catalog_producer.archived(given.context(), video.video_id)])
    return AcceptedVideo(video_id=video.video_id)


@routes.post("/api/videos/{which}/restore", status_code=202, responses=FOUND)
async def restore_video(given: Given, response: Response, which: Which) -> AcceptedVideo:
    """Put an archived video back."""
    video = await _existing(given, which)
    await write(given, response, [catalog_producer.restored(given.context(), video.video_id)])
    return AcceptedVideo(video_id=video.video_id)


@routes.post("/api/videos/{which}/retry", status_code=202, responses=CHANGED)
async def retry_video(given: Given, response: Response, which: Which, reason: Reason | None = None) -> AcceptedVideo:
    """Try a failed video again; finished parts are kept."""
    video = await _existing(given, which)
    if video.status != "failed":
        raise Conflict(f"only a failed video can be retried; this one is {video.status}")
    why = reason.reason if reason else ""
    await write(given, response, [catalog_producer.retry_requested(given.context(), video.video_id, why)])
    return AcceptedVideo(video_id=video.video_id)


@routes.delete("/api/videos/{which}", status_code=202, responses=FOUND)
async def purge_video(given: Given, response: Response, which: Which) -> AcceptedVideo:
    """Delete a video for good: its source and everything made from it. The log keeps its history."""
    video = await _existing(given, which)
    await write(given, response, [catalog_producer.purged(given.context(), video.video_id)])
    return AcceptedVideo(video_id=video.video_id)


async def _find(connection: Any, which: str) -> Video:
    """Return a video by id, slug or part of the id. Raises NotFound."""
    video = await catalog.named(connection, which)
    if video is None:
        raise NotFound(f"there is no video {which}")
    return video


async def _existing(given: Services, which: str) -> Video:
    """Return a video that can still be changed. Raises NotFound."""
    async with given.pool.connection() as connection:
        video = await _find(connection, which)
    if video.status in ("purged", "abandoned"):
        raise NotFound(f"the video {which} is {video.status}")
    return video
