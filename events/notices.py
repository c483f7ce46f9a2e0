"""Notices: the events of the log that others may know, in one order and in a form that does not change; topic `notices`.

The catalogue of types is public: programs outside rely on names and fields. A new field may come, none goes.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from events.envelope import Event, Value
from events.text import machine_line, machine_prose

NoticeType = Literal[
    "video.uploaded",
    "video.processing",
    "video.ready",
    "video.failed",
    "video.deleted",
    "video.restored",
    "video.purged",
    "worker.connected",
    "worker.disconnected",
]
Text = Annotated[str, machine_prose(2000)]


class VideoNotice(Value):
    """The video of a notice. Fields that a type does not have are left out when it is sent.

    `qualities` and `streaming_format` belong to `video.ready`; `error`, `attempt_number` and `max_attempts` to `video.failed`,
    which counts complete attempts at the video; `permanent` to `video.deleted` (archived, which can be undone) and `video.purged`.
    """

    video_id: str
    slug: str
    title: str
    filename: str | None = None
    qualities: tuple[str, ...] | None = None
    streaming_format: str | None = None
    error: Text | None = None
    attempt_number: int | None = None
    max_attempts: int | None = None
    permanent: bool | None = None


class WorkerNotice(Value):
    """The worker of a notice. `worker_type` is `gpu` or `cpu`; `reason` says why it left."""

    worker_id: str
    worker_name: str
    worker_type: str | None = None
    registered_at: AwareDatetime | None = None
    capabilities: tuple[str, ...] | None = None
    reason: Annotated[str, machine_line(500)] | None = None


class NoticePublished(Event, type="kinolog.notice.published.v1"):
    """Something happened that others may know. `event_id` is the event of the log, `number` counts the notices of a subject.

    `subject_id` is the id of the video or worker.
    """

    subject_id: str
    number: int = Field(ge=1)
    event_id: str
    event_type: NoticeType
    occurred_at: AwareDatetime
    about: VideoNotice | WorkerNotice
