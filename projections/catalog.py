"""Catalog: what there is to watch, what is becoming so, and what failed; tables `videos` and `media`.

`videos` folds the topic videos, `media` the results of finished jobs; readers join them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter
from slugify import slugify

from events.envelope import Event, Recorded
from events.jobs import ExtrasResult, JobCompleted, MediaResult
from events.media import Failure, ObjectRef, Plan, Probe, Rendition, Subtitle
from events.topics import JOBS, VIDEOS
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
)
from projections.fold import Projection, Table
from projections.queries import load

Status = Literal["uploading", "processing", "ready", "failed", "abandoned", "purged"]
PAGE_MAX = 100
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: no i, l, o, u
_SLUG_WORDS_MAX = 60
_SLUG_TAIL = 8
_SQL = load(Path(__file__).with_name("catalog.sql"))


@dataclass(frozen=True, slots=True)
class Video:
    """One video, from its first upload address on."""

    video_id: str
    slug: str
    status: Status
    archived: bool = False
    title: str = ""
    description: str = ""
    filename: str = ""
    object_key: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    multipart_id: str | None = None
    part_bytes: int | None = None
    priority: str = "normal"
    started_at: datetime | None = None
    uploaded_at: datetime | None = None
    probe: Probe | None = None
    plan: Plan | None = None
    job_ids: tuple[str, ...] = ()
    duration_ms: int | None = None
    rungs: tuple[str, ...] = ()
    thumbnail: ObjectRef | None = None
    published_at: datetime | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """What one finished job made of a video."""

    video_id: str
    job_id: str
    completed_at: datetime
    kind: Literal["media", "extras"]
    renditions: tuple[Rendition, ...] = ()
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()


class VideoSummary(BaseModel):
    """A video as lists show it."""

    video_id: str
    slug: str
    status: Status
    archived: bool
    title: str
    description: str
    duration_ms: int | None
    rungs: tuple[str, ...]
    thumbnail: ObjectRef | None
    uploaded_at: datetime | None
    published_at: datetime | None


def slug_for(title: str, video_id: str) -> str:
    """Return the video's address: its title's words and 8 characters of its id's random part.

    Pure and the same whatever else is in the catalog, so that it is known at once and never changes.
    """
    words = slugify(title, max_length=_SLUG_WORDS_MAX, word_boundary=True) or "video"
    bits = UUID(video_id).int
    tail = "".join(_ALPHABET[(bits >> 5 * place) & 31] for place in range(_SLUG_TAIL))
    return f"{words}-{tail}"


# --- folds ----------------------------------------------------------------------------------------------------------


def video_keys(recorded: Recorded[Event]) -> Iterable[tuple[str]]:
    """Return the video that the event is about."""
    event = recorded.envelope.data
    match event:
        case (
            UploadStarted()
            | UploadAbandoned()
            | VideoUploaded()
            | VideoProbed()
            | VideoPlanned()
            | VideoPublished()
            | VideoFailed()
            | VideoRetryRequested()
            | VideoEdited()
            | VideoArchived()
            | VideoRestored()
            | VideoPurged()
        ):
            return ((event.video_id,),)
        case _:
            return ()


def evolve_video(video: Video | None, recorded: Recorded[Event]) -> Video | None:
    """Fold the topic videos. What is purged keeps its slug and nothing else comes of it."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if isinstance(event, UploadStarted):
        return video or Video(
            event.video_id,
            slug=event.video_id,
            status="uploading",
            title=event.filename,
            filename=event.filename,
            object_key=event.object_key,
            size_bytes=event.size_bytes,
            multipart_id=event.multipart_id,
            part_bytes=event.part_bytes,
            started_at=time,
        )
    if isinstance(event, VideoUploaded):
        return _uploaded(video, event, time)
    if video is None or video.status in ("purged", "abandoned"):
        return video
    match event:
        case UploadAbandoned():
            return replace(video, status="abandoned") if video.status == "uploading" else video
        case VideoProbed(probe=probe):
            return replace(video, probe=probe, duration_ms=probe.duration_ms)
        case VideoPlanned(plan=plan, job_ids=job_ids):
            return replace(video, plan=plan, job_ids=job_ids)
        case VideoPublished():
            return replace(
                video,
                status="ready",
                failure=None,
                duration_ms=event.duration_ms,
                rungs=event.rungs,
                thumbnail=event.thumbnail,
                published_at=video.published_at or time,
            )
        case VideoFailed(failure=failure):
            return replace(video, status="failed", failure=failure) if video.status != "ready" else video
        case VideoRetryRequested():
            return replace(video, status="processing", failure=None) if video.status == "failed" else video
        case VideoEdited(title=title, description=description):
            return replace(
                video,
                title=video.title if title is None else title,
                description=video.description if description is None else description,
            )
        case VideoArchived():
            return replace(video, archived=True)
        case VideoRestored():
            return replace(video, archived=False)
        case VideoPurged():
            return replace(video, status="purged", archived=False, probe=None, plan=None, thumbnail=None)
        case _:
            return video


def _uploaded(video: Video | None, event: VideoUploaded, time: datetime) -> Video:
    if video is not None and video.status != "uploading":
        return video  # told a second time
    return Video(
        event.video_id,
        slug=slug_for(event.title, event.video_id),
        status="processing",
        title=event.title,
        description=event.description,
        filename=event.filename,
        object_key=event.object_key,
        size_bytes=event.size_bytes,
        sha256=event.sha256,
        multipart_id=video.multipart_id if video else None,
        part_bytes=video.part_bytes if video else None,
        priority=event.priority,
        started_at=video.started_at if video else None,
        uploaded_at=time,
    )


def media_keys(recorded: Recorded[Event]) -> Iterable[tuple[str, str]]:
    """Return the finished job that made something to play."""
    event = recorded.envelope.data
    if isinstance(event, JobCompleted) and isinstance(event.result, MediaResult | ExtrasResult):
        return ((event.video_id, event.job_id),)
    return ()


def evolve_media(media: Media | None, recorded: Recorded[Event]) -> Media | None:
    """Fold the topic jobs: the first accepted result of a job stays."""
    event = recorded.envelope.data
    if media is not None or not isinstance(event, JobCompleted):
        return media
    time = recorded.envelope.time
    match event.result:
        case MediaResult(renditions=renditions):
            return Media(event.video_id, event.job_id, time, "media", renditions)
        case ExtrasResult(thumbnail=thumbnail, subtitles=subtitles):
            return Media(event.video_id, event.job_id, time, "extras", thumbnail=thumbnail, subtitles=subtitles)
        case _:
            return media


PROJECTION = Projection(
    "catalog",
    (VIDEOS, JOBS),
    (
        Table("videos", Video, ("video_id",), video_keys, evolve_video),
        Table("media", Media, ("video_id", "job_id"), media_keys, evolve_media),
    ),
    _SQL["create"],
)

# --- readers --------------------------------------------------------------------------------------------------------

_SUMMARY = TypeAdapter(VideoSummary)
_VIDEO = TypeAdapter(Video)
_MEDIA = TypeAdapter(Media)
After = tuple[datetime, str] | None
"""Where a page begins: (uploaded_at, video_id) of the last video of the page before."""


async def page(connection: AsyncConnection[Any], *, limit: int, after: After = None, query: str = "") -> Sequence[VideoSummary]:
    """Return published videos, newest first; with `query`, those that have all its words."""
    values: dict[str, object] = {"limit": min(limit, PAGE_MAX), **_cursor(after)}
    if words := _words(query):
        cursor = await connection.execute(_SQL["search"], values | {"query": words})
    elif query.strip():
        return []
    else:
        cursor = await connection.execute(_SQL["page"], values)
    return [_SUMMARY.validate_json(text) for (text,) in await cursor.fetchall()]


async def listing(
    connection: AsyncConnection[Any],
    *,
    limit: int,
    after: After = None,
    status: Status | None = None,
    archived: bool | None = None,
    sha256: str | None = None,
) -> Sequence[Video]:
    """Return videos in any state, newest first."""
    values = {"limit": min(limit, PAGE_MAX), "status": status, "archived": archived, "sha256": sha256, **_cursor(after)}
    cursor = await connection.execute(_SQL["listing"], values)
    return [_VIDEO.validate_json(text) for (text,) in await cursor.fetchall()]


async def by_slug(connection: AsyncConnection[Any], slug: str) -> Video | None:
    """Return the video with this address."""
    return await _one(connection, "by_slug", {"slug": slug})


async def by_id(connection: AsyncConnection[Any], video_id: str) -> Video | None:
    """Return the video with this id."""
    return await _one(connection, "by_id", {"video_id": video_id})


async def same_content(connection: AsyncConnection[Any], sha256: str) -> Video | None:
    """Return the oldest video that is being made, or was made, of this content."""
    return await _one(connection, "same_content", {"sha256": sha256})


async def stale_uploads(connection: AsyncConnection[Any], before: datetime, limit: int = 100) -> Sequence[Video]:
    """Return uploads that were begun before a moment and never completed."""
    cursor = await connection.execute(_SQL["stale_uploads"], {"before": before, "limit": limit})
    return [_VIDEO.validate_json(text) for (text,) in await cursor.fetchall()]


async def media_of(connection: AsyncConnection[Any], video_id: str) -> Sequence[Media]:
    """Return what finished jobs made of the video, in order of completion."""
    cursor = await connection.execute(_SQL["media"], {"video_id": video_id})
    return [_MEDIA.validate_json(text) for (text,) in await cursor.fetchall()]


async def counts(connection: AsyncConnection[Any]) -> dict[str, int]:
    """Return how many videos are in each state."""
    cursor = await connection.execute(_SQL["counts"])
    return dict(await cursor.fetchall())


async def _one(connection: AsyncConnection[Any], name: str, values: dict[str, object]) -> Video | None:
    cursor = await connection.execute(_SQL[name], values)
    found = await cursor.fetchone()
    return _VIDEO.validate_json(found[0]) if found else None


def _cursor(after: After) -> dict[str, object]:
    return {"after_time": after[0] if after else None, "after_id": after[1] if after else None}


def _words(query: str) -> str:
    """Return a tsquery that wants every word, the last as a prefix; empty when there is no word."""
    words = ["".join(char for char in word if char.isalnum()) for word in query.split()]
    return " & ".join(f"{word}:*" if word is words[-1] else word for word in words if word)
