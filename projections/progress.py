"""Progress: the latest tick of each job, and what follows from it for a video; table `ticks`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter

from events.envelope import Event, Recorded
from events.media import Plan
from events.progress import ProgressTicked, RungProgress
from events.topics import PROGRESS
from projections.catalog import Video
from projections.fold import Projection, Table
from projections.jobs import Job
from projections.queries import load

_SQL = load(Path(__file__).with_name("progress.sql"))
_WEIGHTS = {"analyse": 2.0, "audio": 3.0, "extras": 1.0, "verify": 4.0}
"""Share of a video's work by kind of job, in percent; what is left is the encoding, shared by its chunks."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The latest tick of a job: of the highest epoch, then the latest time."""

    job_id: str
    video_id: str
    worker_id: str
    epoch: int
    kind: str
    step: str
    percent: float
    frames: int | None
    speed: float | None
    rungs: tuple[RungProgress, ...]
    ticked_at: datetime


def keys_of(recorded: Recorded[Event]) -> Iterable[tuple[str]]:
    """Return the job that ticked."""
    event = recorded.envelope.data
    return ((event.job_id,),) if isinstance(event, ProgressTicked) else ()


def evolve(tick: Tick | None, recorded: Recorded[Event]) -> Tick | None:
    """Keep the newest; what comes again or late changes nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if not isinstance(event, ProgressTicked):
        return tick
    if tick is not None and (event.epoch, time) <= (tick.epoch, tick.ticked_at):
        return tick
    return Tick(
        event.job_id,
        event.video_id,
        event.worker_id,
        event.epoch,
        event.kind,
        event.step,
        event.percent,
        event.frames,
        event.speed,
        event.rungs,
        time,
    )


PROJECTION = Projection("progress", (PROGRESS,), (Table("ticks", Tick, ("job_id",), keys_of, evolve),), _SQL["create"])

# --- readers --------------------------------------------------------------------------------------------------------

_TICK = TypeAdapter(Tick)


class QualityProgress(BaseModel):
    """How far one rung is, over all chunks."""

    name: str
    status: Literal["pending", "in_progress", "completed", "failed"]
    progress: float


class VideoProgress(BaseModel):
    """How far a video is, in the shape that players and pages of the predecessor know."""

    status: str
    current_step: str
    progress_percent: float
    qualities: list[QualityProgress]
    attempt: int
    started_at: datetime | None
    last_error: str | None


async def of_video(connection: AsyncConnection[Any], video_id: str) -> Sequence[Tick]:
    """Return the latest ticks of a video's jobs."""
    cursor = await connection.execute(_SQL["of_video"], {"video_id": video_id})
    return [_TICK.validate_json(text) for (text,) in await cursor.fetchall()]


def progress_of(video: Video, jobs: Sequence[Job], ticks: Sequence[Tick]) -> VideoProgress:
    """Join a video, its jobs and their ticks. Pure."""
    tick_of = {tick.job_id: tick for tick in ticks}
    done = {job.job_id: _percent(job, tick_of.get(job.job_id)) for job in jobs}
    started = [job.claimed_at for job in jobs if job.claimed_at is not None]
    failure = video.failure or next((job.failure for job in jobs if job.failure is not None), None)
    return VideoProgress(
        status=video.status,
        current_step=_step(video, jobs, tick_of),
        progress_percent=100.0 if video.status == "ready" else round(_overall(jobs, done), 1),
        qualities=_qualities(video, jobs, tick_of) if video.plan else [],
        attempt=max((job.attempt for job in jobs), default=0),
        started_at=min(started, default=None),
        last_error=failure.message if failure else None,
    )


def _percent(job: Job, tick: Tick | None) -> float:
    if job.status == "completed":
        return 100.0
    return tick.percent if tick is not None and job.status == "claimed" and tick.epoch == job.epoch else 0.0


def _overall(jobs: Sequence[Job], done: dict[str, float]) -> float:
    total = 0.0
    encoding = 100.0 - sum(_WEIGHTS.values())
    for kind, weight in {**_WEIGHTS, "encode": encoding}.items():
        of_kind = [done[job.job_id] for job in jobs if job.kind == kind]
        total += weight * (sum(of_kind) / len(of_kind) / 100 if of_kind else 0.0)
    return min(total, 99.9)


def _step(video: Video, jobs: Sequence[Job], tick_of: dict[str, Tick]) -> str:
    if video.status != "processing":
        return video.status
    running = [job for job in jobs if job.status == "claimed"]
    if not running:
        return "waiting"
    tick = tick_of.get(running[0].job_id)
    return tick.step if tick else running[0].kind


def _qualities(video: Video, jobs: Sequence[Job], tick_of: dict[str, Tick]) -> list[QualityProgress]:
    """Return one entry per rung: the mean over its chunks."""
    chunks = [job for job in jobs if job.kind == "encode"]
    found = []
    for name in rung_names(video.plan):
        parts = [_rung_percent(job, tick_of.get(job.job_id), name) for job in chunks]
        percent = sum(parts) / len(parts) if parts else 0.0
        status: Literal["pending", "in_progress", "completed", "failed"] = "pending"
        if percent >= 100:
            status = "completed"
        elif any(job.status == "failed" for job in chunks):
            status = "failed"
        elif percent > 0:
            status = "in_progress"
        found.append(QualityProgress(name=name, status=status, progress=round(percent, 1)))
    return found


def rung_names(plan: Plan | None) -> list[str]:
    """Return the rungs of a plan, largest first."""
    return [rung.name for rung in plan.video.rungs] if plan and plan.video else []


def _rung_percent(job: Job, tick: Tick | None, name: str) -> float:
    if job.status == "completed":
        return 100.0
    if tick is None or job.status != "claimed" or tick.epoch != job.epoch:
        return 0.0
    return next((rung.percent for rung in tick.rungs if rung.name == name), tick.percent)
