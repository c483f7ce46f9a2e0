"""Catalog: videos published, in progress and failed; tables `videos` and `media`.

`videos` folds topic `videos`; `media` folds the results of finished jobs. Readers join them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_never
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter
from slugify import slugify

from events.envelope import Recorded
from events.jobs import JobCompleted, JobFact, JobStep, PartAccepted, PoolFact, Refusal
from events.kinds import AnalyseResult, ExtrasResult, MakingResult, MediaResult, VerifyResult
from events.media import Failure, ObjectRef, Plan, Probe, Rendition, Subtitle
from events.people import Role
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
    Visibility,
)
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load
from projections.folding.repeats import once
from projections.short_ids import whole_id
from projections.visibility import NOBODY, Viewer

Status = Literal["uploading", "processing", "ready", "failed", "abandoned", "purged"]
PAGE_MAX = 100
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: no i, l, o, u
_SLUG_WORDS_MAX = 60
_SLUG_TAIL = 8
_WORD_MAX = 64
_QUERY_WORDS_MAX = 16
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""A run of letters and digits; in scripts without spaces between words, each character."""
_SQL = load(Path(__file__).with_name("catalog.sql"))


@table_row
class Video:
    """One video, from its first upload address on.

    `words` is the search index, as PostgreSQL writes a tsvector. `failed_job_id` is the failed job, if a job failed.
    `same_as` is set when the upload was given up in favour of another video with the same content; lists omit such rows.
    `seen`: see `projections.folding.repeats`.
    """

    video_id: str
    slug: str
    status: Status
    archived: bool = False
    visibility: Visibility = "public"
    roles: tuple[Role, ...] = ()
    users: tuple[str, ...] = ()
    title: str = ""
    description: str = ""
    filename: str = ""
    object_key: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    multipart_id: str | None = None
    part_bytes: int | None = None
    force: bool = False
    same_as: str | None = None
    priority: str = "normal"
    started_at: datetime | None = None
    uploaded_at: datetime | None = None
    probe: Probe | None = None
    plan: Plan | None = None
    job_ids: tuple[str, ...] = ()
    duration_ms: int | None = None
    rungs: tuple[str, ...] = ()
    thumbnail: ObjectRef | None = None
    warnings: tuple[str, ...] = ()
    published_at: datetime | None = None
    failure: Failure | None = None
    failed_job_id: str | None = None
    words: str = ""
    seen: tuple[str, ...] = ()


@table_row
class Media:
    """The result of one finished job of a video. `parts` counts the parts of its renditions, of its `epoch`, in separate rows.

    Readers get both together: a rendition may then appear several times, each time with other segments.
    """

    video_id: str
    job_id: str
    completed_at: datetime
    kind: Literal["media", "extras"]
    renditions: tuple[Rendition, ...] = ()
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()
    epoch: int = 0
    parts: int = 0


@table_row
class Part:
    """Segments that an attempt reported before its result. Rows of attempts that were not accepted stay, unread."""

    video_id: str
    job_id: str
    epoch: int
    part: int
    renditions: tuple[Rendition, ...]


@dataclass(frozen=True, slots=True)
class Edition:
    """Identifies the current manifests of a video: equal editions mean equal manifests. `media` counts its rows."""

    video_id: str
    status: Status
    archived: bool
    visibility: Visibility
    roles: tuple[Role, ...]
    users: tuple[str, ...]
    digest: str
    media: int


class VideoSummary(BaseModel):
    """A video in a list."""

    video_id: str
    slug: str
    status: Status
    archived: bool
    visibility: Visibility
    title: str
    description: str
    duration_ms: int | None
    rungs: tuple[str, ...]
    thumbnail: ObjectRef | None
    uploaded_at: datetime | None
    published_at: datetime | None


def slug_for(title: str, video_id: str) -> str:
    """Return the video's address: its title's words and 8 characters (40 bits) of its id's random part.

    Pure and independent of the rest of the catalog, so the address is known at once and never changes.
    """
    words = slugify(title, max_length=_SLUG_WORDS_MAX, word_boundary=True) or "video"
    try:
        bits = UUID(video_id).int
    except ValueError:  # not a UUID; a fold must not fail
        bits = int.from_bytes(hashlib.sha256(video_id.encode()).digest(), "big")
    tail = "".join(_ALPHABET[(bits >> 5 * digit) & 31] for digit in range(_SLUG_TAIL))
    return f"{words}-{tail}"


def words_of(text: str) -> list[str]:
    """Return the searchable words of a text in order, without case, accents and punctuation."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))
    return [word[:_WORD_MAX] for word in _WORD.findall(plain.casefold())]


def _index(*texts: str) -> str:
    """Return the texts' words as PostgreSQL writes a tsvector without positions."""
    return " ".join(f"'{word}'" for word in sorted({word for text in texts for word in words_of(text)}))


# --- folds ----------------------------------------------------------------------------------------------------------


def video_keys(recorded: Recorded[VideoEvent | JobFact]) -> Collection[tuple[str]]:
    """Return the key of the event's video."""
    event = recorded.envelope.data
    return () if isinstance(event, JobFact) else ((event.video_id,),)


@once
def evolve_video(video: Video | None, recorded: Recorded[VideoEvent]) -> Video | None:
    """Fold topic `videos`. A purged video keeps its slug and ignores later events."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if isinstance(event, UploadStarted):
        return video or _started(event, time)
    if isinstance(event, VideoUploaded):
        return _uploaded(video, event, time)
    if video is None or video.status in ("purged", "abandoned"):
        return video
    match event:
        case UploadAbandoned():
            return replace(video, status="abandoned", same_as=event.same_as) if video.status == "uploading" else video
        case VideoProbed(probe=probe):
            return replace(video, probe=probe, duration_ms=probe.duration_ms, sha256=probe.sha256)
        case VideoPlanned(plan=plan, job_ids=job_ids):
            return replace(video, plan=plan, job_ids=job_ids)
        case VideoPublished():
            return replace(
                video,
                status="ready",
                failure=None,
                failed_job_id=None,
                duration_ms=event.duration_ms,
                rungs=event.rungs,
                thumbnail=event.thumbnail,
                warnings=event.warnings,
                published_at=video.published_at or time,
            )
        case VideoFailed(failure=failure, job_id=job_id):
            if video.status == "ready":
                return video
            return replace(video, status="failed", failure=failure, failed_job_id=job_id)
        case VideoRetryRequested():
            return _retried(video) if video.status == "failed" else video
        case VideoEdited():
            return _edited(video, event)
        case VideoVisibilityChanged():
            return replace(video, visibility=event.visibility, roles=event.roles, users=event.users)
        case VideoArchived():
            return replace(video, archived=True)
        case VideoRestored():
            return replace(video, archived=False)
        case VideoPurged():
            return replace(video, status="purged", archived=False, probe=None, plan=None, thumbnail=None, words="")
        case _:
            assert_never(event)


def _started(event: UploadStarted, time: datetime) -> Video:
    return Video(
        event.video_id,
        slug=event.video_id,
        status="uploading",
        title=event.filename,
        filename=event.filename,
        object_key=event.object_key,
        size_bytes=event.size_bytes,
        multipart_id=event.multipart_id,
        part_bytes=event.part_bytes,
        sha256=event.sha256,
        force=event.force,
        started_at=time,
        words=_index(event.filename),
    )


def _uploaded(video: Video | None, event: VideoUploaded, time: datetime) -> Video:
    if video is not None and video.status != "uploading":
        return video  # a repeat
    begun = video or Video(event.video_id, slug="", status="uploading")
    return replace(
        begun,
        slug=slug_for(event.title, event.video_id),
        status="processing",
        title=event.title,
        description=event.description,
        filename=event.filename,
        object_key=event.object_key,
        size_bytes=event.size_bytes,
        sha256=event.sha256,
        priority=event.priority,
        visibility=event.visibility or "public",
        uploaded_at=time,
        words=_index(event.title, event.description),
    )


def _edited(video: Video, event: VideoEdited) -> Video:
    title = video.title if event.title is None else event.title
    description = video.description if event.description is None else event.description
    return replace(video, title=title, description=description, words=_index(title, description))


def _retried(video: Video) -> Video:
    """Continue the plan when one of its jobs had failed; after other failures (analysis, verification) start from scratch."""
    processing = replace(video, status="processing", failure=None, failed_job_id=None)
    if video.failed_job_id in video.job_ids:
        return processing
    return replace(processing, plan=None, job_ids=())


def media_keys(recorded: Recorded[VideoEvent | JobFact]) -> Collection[tuple[str, str]]:
    """Return the key of the finished job whose result may be playable."""
    event = recorded.envelope.data
    if isinstance(event, JobCompleted):
        return ((event.video_id, event.job_id),) if isinstance(event.result, MakingResult) else ()
    if isinstance(event, (JobStep, VideoEvent, PartAccepted, Refusal, PoolFact)):
        return ()
    assert_never(event)


def evolve_media(media: Media | None, recorded: Recorded[JobCompleted]) -> Media | None:
    """Fold topic `jobs`: the first accepted result of a job stays."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if media is not None or not isinstance(event.result, MakingResult):
        return media
    match event.result:
        case MediaResult(renditions=renditions, earlier=earlier):
            parts = earlier.parts if earlier else 0
            return Media(event.video_id, event.job_id, time, "media", renditions, epoch=event.epoch, parts=parts)
        case ExtrasResult(thumbnail=thumbnail, subtitles=subtitles):
            return Media(event.video_id, event.job_id, time, "extras", (), thumbnail, subtitles, event.epoch)
        case AnalyseResult() | VerifyResult():
            return None
        case _:
            assert_never(event.result)


def part_keys(recorded: Recorded[VideoEvent | JobFact]) -> Collection[tuple[str, str, int, int]]:
    """Return the key of a result's part."""
    event = recorded.envelope.data
    if isinstance(event, PartAccepted):
        return ((event.video_id, event.job_id, event.epoch, event.part),)
    if isinstance(event, (JobStep, VideoEvent, Refusal, PoolFact)):
        return ()
    assert_never(event)


def evolve_part(part: Part | None, recorded: Recorded[PartAccepted]) -> Part | None:
    """Fold topic `jobs`: an attempt's first report of a part stays."""
    event = recorded.envelope.data
    return part or Part(event.video_id, event.job_id, event.epoch, event.part, event.renditions)


PROJECTION = Projection(
    "catalog",
    (VIDEOS, JOBS),
    (
        Table("videos", Video, ("video_id",), video_keys, evolve_video),
        Table("media", Media, ("video_id", "job_id"), media_keys, evolve_media),
        Table("parts", Part, ("video_id", "job_id", "epoch", "part"), part_keys, evolve_part),
    ),
    _SQL["create"],
)

# --- readers --------------------------------------------------------------------------------------------------------

_SUMMARY = TypeAdapter(VideoSummary)
_VIDEO = TypeAdapter(Video)
_MEDIA = TypeAdapter(Media)
_EDITION = TypeAdapter(Edition)
After = tuple[datetime, str] | None
"""Start of a page: (uploaded_at, video_id) of the previous page's last video."""


async def page(
    connection: AsyncConnection[Any], *, limit: int, viewer: Viewer = NOBODY, after: After = None, query: str = ""
) -> Sequence[VideoSummary]:
    """Return the videos that a viewer may list, newest first.

    With `query`, only those with all its words (the last may be a prefix).
    """
    values: dict[str, object] = {"limit": min(limit, PAGE_MAX), **_cursor(after), **viewer._asdict()}
    if not query.strip():
        cursor = await connection.execute(_SQL["page"], values)
    elif wanted := _tsquery(query):  # planned on each call: the best index depends on how common the words are
        cursor = await connection.execute(_SQL["search"], values | {"query": wanted}, prepare=False)
    else:
        return []
    return [_SUMMARY.validate_json(text) for (text,) in await cursor.fetchall()]


async def listing(
    connection: AsyncConnection[Any],
    *,
    limit: int,
    after: After = None,
    status: Status | None = None,
    archived: bool | None = None,
    sha256: str | None = None,
    query: str = "",
) -> Sequence[Video]:
    """Return videos in any state, newest first, by `uploaded_at`, or `started_at` before that."""
    wanted = _tsquery(query) if query.strip() else None
    if wanted == "":
        return []
    values = {"limit": min(limit, PAGE_MAX), "status": status, "archived": archived, "sha256": sha256, "query": wanted}
    cursor = await connection.execute(_SQL["listing"], values | _cursor(after), prepare=False)
    return [_VIDEO.validate_json(text) for (text,) in await cursor.fetchall()]


async def by_slug(connection: AsyncConnection[Any], slug: str) -> Video | None:
    """Return the video with this address."""
    return await _one(connection, "by_slug", {"slug": slug})


async def by_id(connection: AsyncConnection[Any], video_id: str) -> Video | None:
    """Return the video with this id."""
    return await _one(connection, "by_id", {"video_id": video_id})


async def id_of(connection: AsyncConnection[Any], which: str) -> str:
    """Return the id of the video that `which` names, or `which` itself when none matches. Raises InvalidRequest like `named`."""
    video = await named(connection, which)
    return video.video_id if video else which


async def named(connection: AsyncConnection[Any], which: str) -> Video | None:
    """Return the video with this id, address, or part of an id. Raises InvalidRequest for an ambiguous part."""
    if video := await by_id(connection, which) or await by_slug(connection, which):
        return video
    return await by_id(connection, await whole_id(connection, _SQL["by_part"], which))


async def same_content(connection: AsyncConnection[Any], sha256: str) -> Video | None:
    """Return the oldest video in progress or published with this content."""
    return await _one(connection, "same_content", {"sha256": sha256})


async def stale_uploads(connection: AsyncConnection[Any], before: datetime, limit: int = 100) -> Sequence[Video]:
    """Return uploads started before a moment and never completed."""
    cursor = await connection.execute(_SQL["stale_uploads"], {"before": before, "limit": limit})
    return [_VIDEO.validate_json(text) for (text,) in await cursor.fetchall()]


async def media_of(connection: AsyncConnection[Any], video_id: str, rendition: str | None = None) -> Sequence[Media]:
    """Return the results of a video's finished jobs, in order of completion; with `rendition`, only that rendition's."""
    if rendition is None:
        cursor = await connection.execute(_SQL["media"], {"video_id": video_id})
    else:
        cursor = await connection.execute(_SQL["media_of_rendition"], {"video_id": video_id, "rendition": rendition})
    return [_MEDIA.validate_json(text) for (text,) in await cursor.fetchall()]


async def extras_of(connection: AsyncConnection[Any], video_id: str) -> Sequence[Media]:
    """Return the results of a video's finished jobs other than renditions."""
    cursor = await connection.execute(_SQL["extras"], {"video_id": video_id})
    return [_MEDIA.validate_json(text) for (text,) in await cursor.fetchall()]


async def visibility_of(connection: AsyncConnection[Any], video_id: str, job_id: str, epoch: int) -> Visibility | None:
    """Return who may watch the objects of a job's result under an epoch.

    None: it was not accepted, so its objects belong to no video, or its video is archived or purged.
    """
    cursor = await connection.execute(_SQL["playable"], {"video_id": video_id, "job_id": job_id, "epoch": epoch})
    found = await cursor.fetchone()
    return found[0] if found else None


async def edition_of(connection: AsyncConnection[Any], *, slug: str | None = None, video_id: str | None = None) -> Edition | None:
    """Return the edition of the video with this address or id."""
    cursor = await connection.execute(_SQL["edition"], {"slug": slug, "video_id": video_id})
    found = await cursor.fetchone()
    return _EDITION.validate_json(found[0]) if found else None


async def counts(connection: AsyncConnection[Any]) -> dict[str, int]:
    """Return the number of videos by state."""
    cursor = await connection.execute(_SQL["counts"])
    return dict(await cursor.fetchall())


async def _one(connection: AsyncConnection[Any], name: str, values: dict[str, object]) -> Video | None:
    cursor = await connection.execute(_SQL[name], values)
    found = await cursor.fetchone()
    return _VIDEO.validate_json(found[0]) if found else None


def _cursor(after: After) -> dict[str, object]:
    return {"after_time": after[0] if after else None, "after_id": after[1] if after else None}


def _tsquery(query: str) -> str:
    """Return a tsquery for all words, the last as a prefix; empty when there are no words."""
    words = words_of(query)[:_QUERY_WORDS_MAX]
    return " & ".join(f"'{word}'" for word in words) + ":*" if words else ""
