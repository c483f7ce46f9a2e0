"""Requests of workers, and their answers. Unknown fields are refused; every claim, tick, file and result carries the epoch."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.examples import JOB_ID, JOIN_TOKEN, VIDEO_ID, WORKER_ID
from events.hosts import HostState
from events.jobs import JobClaimed
from events.kinds import Capabilities, JobResult
from events.media import Failure, Rendition
from events.text import Line, machine_line, machine_prose
from events.workers import EncoderTrial, GraphicsCard

Epoch = Annotated[int, Field(ge=1, le=2**31, description="The epoch of the claim.", examples=[1])]
Version = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[0-9A-Za-z.+!_-]+$", examples=["0.1.0"])]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkerSelf(_Sent):
    """A worker's description of itself."""

    worker_name: Line = Field("", max_length=255, examples=["attic"])
    pool: Line = Field("default", max_length=100, examples=["default"])
    code_version: Version
    capabilities: Capabilities
    cpu_count: int = Field(ge=1, le=100_000, examples=[16])
    memory_bytes: int = Field(ge=0, le=2**50, examples=[2**36])
    cards: tuple[GraphicsCard, ...] | None = Field(None, max_length=64)
    trials: tuple[EncoderTrial, ...] | None = Field(None, max_length=64)


class Registered(BaseModel):
    """The key is shown here, and never again."""

    worker_id: str = Field(examples=[WORKER_ID])
    api_key: str = Field(examples=[JOIN_TOKEN])
    expires_at: datetime | None
    version_ok: bool
    message: str = Field(examples=["Keep the key; it is not shown again."])


class Rotation(_Sent):
    """Time for which the present key stays good beside the new one."""

    overlap_s: int = Field(600, ge=0, le=7 * 24 * 3600, examples=[600])


class Heartbeat(_Sent):
    """A sign of life."""

    status: Literal["active", "idle", "busy", "draining"] = Field("active", examples=["busy"])
    code_version: Version | None = None
    job_ids: tuple[Annotated[Line, Field(max_length=36)], ...] = Field((), max_length=100)


class HostSample(_Sent):
    """The figures of the worker's machine. Percentages are 0 to 100; a figure that a card does not report is left out."""

    name: Line = Field("", max_length=255, examples=["attic"])
    state: HostState = Field(
        examples=[
            {
                "cpu_percent": 37.5,
                "cpu_count": 8,
                "load_1m": 3.2,
                "memory_total_bytes": 2**35,
                "memory_used_bytes": 2**33,
                "disks": [{"path": "/", "total_bytes": 2**40, "used_bytes": 2**39, "free_bytes": 2**39}],
                "gpus": [{"model": "NVIDIA T4", "vendor": "nvidia", "encoder_percent": 61.0}],
            }
        ]
    )


class HeartbeatAnswer(BaseModel):
    """The server's view of the worker."""

    status: Literal["ok"] = "ok"
    server_time: datetime
    required_version: str = Field(examples=["0.1.0 to any"])
    version_ok: bool
    worker_status: str = Field(examples=["busy"])
    current_job_id: str | None
    last_heartbeat_recorded: datetime


class Goodbye(_Sent):
    """The reason for the worker's end."""

    reason: Annotated[str, machine_line(500)] = Field("stopped", max_length=500, examples=["stopped"])


class Deployment(_Sent):
    """Another version was installed on the worker's machine."""

    event: Literal["deployed", "rolled_back"]
    version: Version
    previous_version: Version | None = None
    reason: Annotated[str, machine_line(500)] = Field("", max_length=500)


class Claim(_Sent):
    """A request for a job. `claim_id` names it: repeated under the same name, it gets one answer."""

    claim_id: Line = Field(min_length=8, max_length=64, examples=["019cf119-2f10-7c44-9d20-55e6f0a7b310"])
    pool: Line = Field("default", max_length=100)
    code_version: Version
    capabilities: Capabilities
    wait_s: float = Field(30.0, ge=0, le=30, description="How long the answer may be waited for, seconds.")
    process_id: Line | None = Field(
        None,
        min_length=8,
        max_length=64,
        description="The same for all claims of one process; the first claim of a new process frees the jobs of the old one.",
    )


class Claimed(BaseModel):
    """A job, or null and the reason. `claim` describes the job in full."""

    job_id: str | None = Field(None, examples=[JOB_ID])
    video_id: str | None = Field(None, examples=[VIDEO_ID])
    epoch: int | None = Field(None, examples=[1])
    attempt: int | None = Field(None, examples=[1])
    claim_expires_at: datetime | None = None
    correlation_id: str | None = None
    claim: JobClaimed | None = None
    reason: Literal["claimed", "no_job", "quarantined", "unknown_pool", "version", "paused", "draining"] = "claimed"
    message: str = Field("", examples=["No jobs available"])


class QualityProgress(_Sent):
    """The progress of one rendition."""

    name: Line = Field(max_length=100, examples=["720p"])
    status: Literal["pending", "in_progress", "uploading", "completed", "uploaded", "failed", "skipped"] = "in_progress"
    progress: float = Field(ge=0, le=100, examples=[41.5])
    segments_total: int = Field(0, ge=0, le=100_000)
    segments_completed: int = Field(0, ge=0, le=100_000)


class Progress(_Sent):
    """A sign that the job is in progress; it extends the claim. With `progress_percent`, progress is published, too."""

    epoch: Epoch
    current_step: Annotated[str, machine_line(50)] = Field("", max_length=50, examples=["encode"])
    progress_percent: float | None = Field(None, ge=0, le=100, examples=[41.5])
    frames: int | None = Field(None, ge=0, le=2**53)
    speed: float | None = Field(None, ge=0, le=1e6)
    quality_progress: tuple[QualityProgress, ...] = Field((), max_length=50)


class ProgressAnswer(BaseModel):
    """Go on. A worker that must stop gets 409 or 403, with `state`: cancelled, fenced or not_yours."""

    status: Literal["ok"] = "ok"
    state: Literal["continue"] = Field("continue", examples=["continue"])
    claim_expires_at: datetime


class Release(_Sent):
    """The job is handed back unfinished; that costs no attempt."""

    epoch: Epoch
    reason: Annotated[str, machine_line(500)] = Field(max_length=500, examples=["the worker is being stopped"])


class Fail(_Sent):
    """The attempt failed. `failure` describes it in full; `error_message` is enough."""

    epoch: Epoch
    error_message: Annotated[str, machine_prose(500)] = Field("", max_length=500, examples=["the disk is full"])
    retry: bool = True
    failure: Failure | None = None


class FailAnswer(BaseModel):
    """The decision about the job."""

    status: Literal["ok"] = "ok"
    will_retry: bool
    attempt_number: int = Field(examples=[1])
    retry_at: datetime | None = None


class Part(_Sent):
    """Some segments of many, with their size and SHA-256; `result.earlier` of the final report counts these parts."""

    epoch: Epoch
    part: int = Field(ge=0, le=100_000)
    renditions: tuple[Rendition, ...] = Field(max_length=1000)


class Complete(_Sent):
    """The job is done. `result` names every object, with its size and SHA-256."""

    epoch: Epoch
    result: JobResult


class Accepted(BaseModel):
    """The report is on the log."""

    status: Literal["ok"] = "ok"
    message: str = Field("", examples=["Job completed"])


class FileAnswer(BaseModel):
    """A file is in the store; `written` is false when it was there already."""

    status: Literal["ok"] = "ok"
    written: bool = Field(examples=[True])
    bytes_written: int
    checksum_verified: bool


class ArchiveAnswer(BaseModel):
    """All files of an archive are in the store."""

    status: Literal["ok"] = "ok"
    files: int = Field(examples=[12])
    written: int
    bytes_written: int


class Segments(BaseModel):
    """The stored files of a rendition, for a worker that goes on after a restart."""

    quality: str = Field(examples=["720p"])
    received_segments: list[str] = Field(examples=[["00000.m4s"]])
    total_size_bytes: int


class Finalize(_Sent):
    """The expected segments: `segment_count` of them, counted from `first_segment`."""

    epoch: Epoch
    quality: Line = Field(max_length=64, examples=["720p"])
    segment_count: int = Field(ge=0, le=100_000)
    first_segment: int = Field(0, ge=0, le=10_000_000)
    extension: Literal[".m4s", ".ts"] = ".m4s"


class Finalized(BaseModel):
    """The names of missing segments."""

    status: Literal["ok", "incomplete"]
    complete: bool
    missing_segments: list[str] = Field(examples=[["00007.m4s"]])


class Verified(BaseModel):
    """Whether the worker may delete its files: the result was accepted, and everything is in the store."""

    all_files_present: bool
    job_status: str = Field(examples=["completed"])
    epoch: int
    qualities_present: list[str]
    missing_files: list[str]
