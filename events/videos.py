"""The life of a video: topic `videos`, key = video_id."""

from typing import Literal

from pydantic import Field

from events.envelope import Event, Value
from events.media import Failure, ObjectRef, Plan, Probe
from events.people import Role

Visibility = Literal["public", "unlisted", "private"]
NAMED_MAX = 1000
"""People who are named for one private video."""


class UploadStarted(Event, type="kinolog.upload.started.v1"):
    """A sender received addresses for a source. `multipart_id` is the store's id when the source comes in parts.

    `sha256` is the hash that the sender announced, if any. With `force` the content is accepted although a video has it already.
    """

    video_id: str
    filename: str = Field(max_length=1024)
    size_bytes: int | None = None
    object_key: str
    multipart_id: str | None = None
    part_bytes: int | None = None
    sha256: str | None = None
    force: bool = False


class UploadAbandoned(Event, type="kinolog.upload.abandoned.v1"):
    """An upload will not become a video; its parts are deleted.

    It was not completed in time (`expired`), was given up (`cancelled`), or its content is `known`: video `same_as` has it.
    """

    video_id: str
    object_key: str
    reason: Literal["expired", "cancelled", "known"]
    same_as: str | None = None


class VideoUploaded(Event, type="kinolog.video.uploaded.v1"):
    """A complete source is in the object store.

    `sha256` is the hash that the sender announced, if any; `etag` is the store's. Jobs on the source check both. A video without
    `visibility` is public.
    """

    video_id: str
    title: str = Field(min_length=1, max_length=255)
    description: str = Field("", max_length=5000)
    filename: str = Field(max_length=1024)
    object_key: str
    size_bytes: int
    sha256: str | None = None
    etag: str | None = None
    origin: Literal["api", "form", "cli"] = "api"
    priority: Literal["high", "normal", "low"] = "normal"
    visibility: Visibility | None = None


class VideoProbed(Event, type="kinolog.video.probed.v1"):
    """The source was analysed."""

    video_id: str
    probe: Probe


class Retried(Value):
    """A job that is tried again after it failed for good in a claim: that failure is forgiven."""

    job_id: str
    epoch: int


class VideoPlanned(Event, type="kinolog.video.planned.v1"):
    """The output of the source was decided. `job_ids` are the jobs that must complete before verification.

    They were submitted before this event. It repeats when software takes over from hardware, and when a video continues after
    a retry, with the jobs that are `retried`. `round` counts complete restarts, from 0.
    """

    video_id: str
    plan: Plan
    job_ids: tuple[str, ...]
    round: int | None = None
    retried: tuple[Retried, ...] | None = None


class VideoPublished(Event, type="kinolog.video.published.v1"):
    """All output was made, read again and found correct; the manifests are final.

    `warnings` are sentences for a person about concealed damage in the source.
    """

    video_id: str
    duration_ms: int
    rungs: tuple[str, ...]
    thumbnail: ObjectRef | None = None
    warnings: tuple[str, ...] = ()


class VideoFailed(Event, type="kinolog.video.failed.v1"):
    """The source could not be made playable; it is kept."""

    video_id: str
    job_id: str | None = None
    failure: Failure


class VideoRetryRequested(Event, type="kinolog.video.retry-requested.v1"):
    """A person asked to try a failed video again."""

    video_id: str
    reason: str = Field("", max_length=500)


class VideoEdited(Event, type="kinolog.video.edited.v1"):
    """A person changed the video's title or description; None leaves a field unchanged. The slug stays."""

    video_id: str
    title: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=5000)


class VideoVisibilityChanged(Event, type="kinolog.video.visibility-changed.v1"):
    """A person decided who may watch the video: anybody (`unlisted`: by its address only), or some people.

    `roles` and `users` (ids) may watch a private video, besides everybody with the right to read; they replace those before.
    """

    video_id: str
    visibility: Visibility
    roles: tuple[Role, ...] = Field((), max_length=10)
    users: tuple[str, ...] = Field((), max_length=NAMED_MAX)


class VideoArchived(Event, type="kinolog.video.archived.v1"):
    """The video was taken off the public pages; everything is kept."""

    video_id: str


class VideoRestored(Event, type="kinolog.video.restored.v1"):
    """The video is back from the archive."""

    video_id: str


class VideoPurged(Event, type="kinolog.video.purged.v1"):
    """The source and all its output must be deleted permanently."""

    video_id: str


VideoEvent = (
    UploadStarted
    | UploadAbandoned
    | VideoUploaded
    | VideoProbed
    | VideoPlanned
    | VideoPublished
    | VideoFailed
    | VideoRetryRequested
    | VideoEdited
    | VideoVisibilityChanged
    | VideoArchived
    | VideoRestored
    | VideoPurged
)
