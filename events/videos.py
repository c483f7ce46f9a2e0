"""The life of a video: topic `videos`, key = video_id."""

from typing import Literal

from pydantic import Field

from events.envelope import Event, Value
from events.media import Failure, ObjectRef, Plan, Probe


class UploadStarted(Event, type="kinolog.upload.started.v1"):
    """Somebody was given addresses to send a source to. `multipart_id` is the store's id when it comes in parts.

    `sha256` is what the sender announced, if it did; `force` that the content is taken although it is there already.
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

    It was not completed in time (`expired`), given up (`cancelled`), or its content is `known`: `same_as` is the video that has it.
    """

    video_id: str
    object_key: str
    reason: Literal["expired", "cancelled", "known"]
    same_as: str | None = None


class VideoUploaded(Event, type="kinolog.video.uploaded.v1"):
    """A whole source lies in the object store. `sha256` is what the sender said, if it did, `etag` what the store says; work on it
    checks both.
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


class VideoProbed(Event, type="kinolog.video.probed.v1"):
    """The source was analysed."""

    video_id: str
    probe: Probe


class Retried(Value):
    """A job that is tried again after it failed for good in a claim: that failure is forgiven."""

    job_id: str
    epoch: int


class VideoPlanned(Event, type="kinolog.video.planned.v1"):
    """What will be made of the source was decided. `job_ids` are the jobs that must complete before it is verified.

    They were asked for before this was written. Comes again when software takes over from hardware, and when a video goes on
    after a retry, with what is `retried`. `round` counts from 0 how often all was made anew.
    """

    video_id: str
    plan: Plan
    job_ids: tuple[str, ...]
    round: int | None = None
    retried: tuple[Retried, ...] | None = None


class VideoPublished(Event, type="kinolog.video.published.v1"):
    """Everything was made, read again and found right; the manifests are final.

    `warnings` are sentences for a person: damage in the source that was covered up.
    """

    video_id: str
    duration_ms: int
    rungs: tuple[str, ...]
    thumbnail: ObjectRef | None = None
    warnings: tuple[str, ...] = ()


class VideoFailed(Event, type="kinolog.video.failed.v1"):
    """It could not be made into something playable; the source is kept."""

    video_id: str
    job_id: str | None = None
    failure: Failure


class VideoRetryRequested(Event, type="kinolog.video.retry-requested.v1"):
    """A person asked to try a failed video again."""

    video_id: str
    reason: str = Field("", max_length=500)


class VideoEdited(Event, type="kinolog.video.edited.v1"):
    """A person changed what is told about the video; None leaves a field as it is. The slug stays."""

    video_id: str
    title: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=5000)


class VideoArchived(Event, type="kinolog.video.archived.v1"):
    """Taken off the public pages; everything is kept."""

    video_id: str


class VideoRestored(Event, type="kinolog.video.restored.v1"):
    """Back from the archive."""

    video_id: str


class VideoPurged(Event, type="kinolog.video.purged.v1"):
    """Its source and everything made from it are to be deleted, for good."""

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
    | VideoArchived
    | VideoRestored
    | VideoPurged
)
