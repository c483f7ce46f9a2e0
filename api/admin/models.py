"""Answers of the admin app: the columns of the read models that people and programs may rely on."""

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel

from api.examples import JOB_ID, SHA256, VIDEO_ID
from api.problems import documented
from events.kinds import Capabilities
from events.media import Failure, Plan, Probe
from events.people import Role
from events.text import Prose
from events.videos import Visibility
from events.workers import EncoderTrial, GraphicsCard
from projections import jobs
from projections.catalog import Status
from projections.timeline import Entry
from projections.workers import Presence

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page; `next` is the cursor of the page after it."""

    items: list[T]
    next: str | None = Field(examples=["WyIyMDI2LTAzLTAxVDEyOjAwOjAwKzAwOjAwIiwgIjAxOTI2ZjljIl0"])


class VideoShown(BaseModel):
    """A video in any state: its row without the long columns. Sizes in bytes, durations in milliseconds."""

    model_config = ConfigDict(from_attributes=True)

    video_id: str = Field(examples=[VIDEO_ID])
    slug: str = Field(examples=["holiday-hfagkw8m"])
    status: Status = Field(examples=["ready"])
    archived: bool
    visibility: Visibility
    title: str = Field(examples=["Holiday"])
    description: str = Field(examples=["A week at the sea"])
    filename: str = Field(examples=["holiday.mp4"])
    size_bytes: int | None = Field(examples=[1_048_576])
    sha256: str | None = Field(examples=[SHA256])
    priority: str = Field(examples=["normal"])
    started_at: datetime | None
    uploaded_at: datetime | None
    published_at: datetime | None
    duration_ms: int | None = Field(examples=[9500])
    rungs: tuple[str, ...] = Field(examples=[["720p", "480p", "360p"]])
    failure: Failure | None


class VideoDetail(VideoShown):
    """Everything about one video, including the properties of its source and its plan."""

    roles: tuple[Role, ...] = Field(examples=[["viewer"]])
    users: tuple[str, ...] = Field(examples=[[]])
    plan: Plan | None
    probe: Probe | None
    warnings: tuple[str, ...] = Field(examples=[["The source is damaged at 0:12; the picture stands still there."]])
    watch_url: str = Field(examples=["/watch/holiday-hfagkw8m"])
    hls_url: str | None = Field(examples=["/videos/holiday-hfagkw8m/master.m3u8"])
    dash_url: str | None = Field(examples=["/videos/holiday-hfagkw8m/manifest.mpd"])


class JobShown(BaseModel):
    """One job. `what` describes it for a person; `chunk` counts from 0, `attempt` and `epoch` from 1."""

    model_config = ConfigDict(from_attributes=True)

    job_id: str = Field(examples=[JOB_ID])
    video_id: str = Field(examples=[VIDEO_ID])
    pool: str = Field(examples=["default"])
    kind: str = Field(examples=["encode"])
    what: str = Field(examples=["chunk 3"])
    priority: str = Field(examples=["normal"])
    status: jobs.Status = Field(examples=["claimed"])
    chunk: int | None = Field(examples=[3])
    renditions: tuple[str, ...] = Field(examples=[["720p", "480p", "360p"]])
    worker_id: str | None
    epoch: int = Field(examples=[1])
    attempt: int = Field(examples=[1])
    queued_at: datetime | None
    claimed_at: datetime | None
    retry_at: datetime | None
    lease_expires_at: datetime | None
    ended_at: datetime | None
    failure: Failure | None
    made: jobs.Made | None


class JobDetail(BaseModel):
    """A job, every attempt at it, and its history with the position of each event on the log."""

    job: JobShown
    attempts: list[jobs.Attempt]
    timeline: list[Entry]


class Paused(BaseModel):
    """The worker gets no jobs: a person paused it, or its whole pool; with `drain` it stops when its jobs are done."""

    of: Literal["worker", "pool"]
    drain: bool
    reason: str = Field(examples=["new memory"])
    paused_at: datetime | None


class WorkerShown(BaseModel):
    """A worker, from its start to its end, and its present jobs."""

    worker_id: str = Field(examples=["01926f9d-1b5e-7aa0-b1a2-7a8b9c0d1e2f"])
    name: str | None = Field(examples=["gpu-1"])
    pool: str | None = Field(examples=["default"])
    version: str | None = Field(examples=["0.1.0"])
    presence: Presence = Field(examples=["busy"])
    job_ids: tuple[str, ...] = Field(examples=[[JOB_ID]])
    capabilities: Capabilities | None
    cpu_count: int | None = Field(examples=[16])
    memory_bytes: int | None = Field(examples=[2**36])
    cards: tuple[GraphicsCard, ...]
    trials: tuple[EncoderTrial, ...] = Field(description="Every encoder, tried at the worker's start.")
    paused: Paused | None
    quarantined_until: datetime | None
    registered_at: datetime | None
    heartbeat_at: datetime | None


class Queue(RootModel[dict[str, int]]):
    """Number of jobs in each state; a state without jobs may be left out."""

    model_config = ConfigDict(json_schema_extra={"example": {"queued": 12, "claimed": 2, "completed": 340}})


class AcceptedVideo(BaseModel):
    """The request is on the log; its effect can be read from `X-Log-Position` on."""

    video_id: str = Field(examples=[VIDEO_ID])


class AcceptedJob(BaseModel):
    """The request is on the log; the dispatcher decides."""

    job_id: str = Field(examples=[JOB_ID])


class AcceptedDispatch(BaseModel):
    """The request about a worker, or the whole pool, is on the log; the dispatcher decides."""

    pool: str = Field(examples=["default"])
    worker_id: str | None = None


class AcceptedJobs(BaseModel):
    """The requests are on the log; the dispatcher decides on each. `more` matching jobs are left for another call."""

    job_ids: list[str] = Field(examples=[[JOB_ID]])
    more: bool


class Reason(BaseModel):
    """The reason; the log keeps it."""

    reason: Prose = Field("", max_length=500, examples=["the disk was full"])


FOUND = documented(404)
CHANGED = documented(404, 409, 422)
