"""Progress: the latest tick of each job, and a video's progress derived from them; table `ticks`."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter

from events.envelope import Recorded
from events.kinds import KINDS
from events.media import Plan
from events.progress import ProgressEvent, RungProgress
from events.topics import PROGRESS
from projections.catalog import Video
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load
from projections.jobs import Job
from projections.jobs import of_video as jobs_of_video

_SQL = load(Path(__file__).with_name("progress.sql"))
ATTEMPTS_MAX = 3
_WEIGHTS: dict[str, float] = {name: kind.weight for name, kind in KINDS.items() if kind.weight}
"""Share of a video's work by kind of job, without kinds the video lacks. Encoding work is divided by frames."""


@table_row
class Tick:
    """The latest tick of a job: highest epoch first, then latest time. Percents are the maximum over all ticks.

    A new attempt starts at zero, but a progress bar must not move back: it waits until the attempt overtakes it.
    """

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


def keys_of(recorded: Recorded[ProgressEvent]) -> Collection[tuple[str]]:
    """Return the key of the tick's job."""
    return ((recorded.envelope.data.job_id,),)


def evolve(tick: Tick | None, recorded: Recorded[ProgressEvent]) -> Tick | None:
    """Keep the newest tick; repeats and late ticks change nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if tick is not None and (event.epoch, time) <= (tick.epoch, tick.ticked_at):
        return tick
    reached = {rung.name: rung.percent for rung in tick.rungs} if tick is not None else {}
    rungs = (rung.model_copy(update={"percent": max(rung.percent, reached.get(rung.name, 0.0))}) for rung in event.rungs)
    return Tick(
        event.job_id,
        event.video_id,
        event.worker_id,
        event.epoch,
        event.kind,
        event.step,
        event.percent if tick is None else max(event.percent, tick.percent),
        event.frames,
        event.speed,
        tuple(rungs),
        time,
    )


PROJECTION = Projection(
    "progress", (PROGRESS,), (Table("ticks", Tick, ("job_id",), keys_of, evolve),), _SQL["create"], partitioned=True
)

# --- readers --------------------------------------------------------------------------------------------------------

_TICK = TypeAdapter(Tick)
_NEVER = datetime.min.replace(tzinfo=UTC)


class QualityProgress(BaseModel):
    """Progress of one rung, over all chunks."""

    name: str
    status: Literal["pending", "in_progress", "completed", "failed"]
    progress: float


class VideoProgress(BaseModel):
    """Progress of a video, in the shape that the predecessor's players and pages use.

    `attempt` is the highest among its running or failed jobs. `last_error` is the latest failure, until the video ends.
    """

    status: str
    current_step: str
    progress_percent: float
    qualities: list[QualityProgress]
    attempt: int
    max_attempts: int
    started_at: datetime | None
    last_error: str | None


async def of_video(connection: AsyncConnection[Any], video_id: str) -> Sequence[Tick]:
    """Return the latest ticks of a video's jobs."""
    cursor = await connection.execute(_SQL["of_video"], {"video_id": video_id})
    return [_TICK.validate_json(text) for (text,) in await cursor.fetchall()]


async def progress_now(connection: AsyncConnection[Any], video: Video) -> VideoProgress:
    """Return the progress of a video, from its jobs and their latest ticks."""
    return progress_of(video, await jobs_of_video(connection, video.video_id), await of_video(connection, video.video_id))


def progress_of(video: Video, jobs: Sequence[Job], ticks: Sequence[Tick], attempts_max: int = ATTEMPTS_MAX) -> VideoProgress:
    """Join a video, its jobs and their ticks. Pure."""
    tick_of = {tick.job_id: tick for tick in ticks}
    jobs, tick_of = _overtaking(video, _current(video, jobs), _superseded(video, jobs), tick_of)
    started = [job.claimed_at for job in jobs if job.claimed_at is not None]
    failures = [job for job in jobs if job.failure is not None and job.status in ("retrying", "claimed", "failed")]
    failed = max(failures, key=lambda job: (job.claimed_at or job.queued_at or _NEVER, job.job_id), default=None)
    failure = video.failure or (failed.failure if failed else None)
    return VideoProgress(
        status=video.status,
        current_step=_step(video, jobs, tick_of),
        progress_percent=100.0 if video.status == "ready" else round(_overall(video, jobs, tick_of), 1),
        qualities=_qualities(video, jobs, tick_of),
        attempt=max((job.attempt for job in jobs if job.status != "completed"), default=max((j.attempt for j in jobs), default=0)),
        max_attempts=attempts_max,
        started_at=min(started, default=None),
        last_error=failure.message if failure and video.status != "ready" else None,
    )


def _current(video: Video, jobs: Sequence[Job]) -> list[Job]:
    """Return the current plan's jobs, and the last analysis and verification."""
    wanted = set(video.job_ids)
    found = [job for job in jobs if job.job_id in wanted]
    for kind in ("analyse", "verify"):
        of_kind = [job for job in jobs if job.kind == kind]
        found += sorted(of_kind, key=lambda job: (job.queued_at or _NEVER, job.job_id))[-1:]
    return found


def _superseded(video: Video, jobs: Sequence[Job]) -> list[Job]:
    """Return the chunks of the hardware plan that a software plan replaced."""
    remade = video.plan is not None and video.plan.video is not None and video.plan.video.fallback is not None
    return [job for job in jobs if remade and job.kind == "encode" and job.job_id not in video.job_ids]


def _overtaking(
    video: Video, jobs: list[Job], superseded: Sequence[Job], tick_of: dict[str, Tick]
) -> tuple[list[Job], dict[str, Tick]]:
    """Return jobs and ticks, with the earlier progress of chunks until it is overtaken: no bar goes back."""
    names, now = rung_names(video.plan), {job.chunk: job for job in jobs if job.kind == "encode"}
    tick_of = dict(tick_of)
    for before in superseded:
        job = now.setdefault(before.chunk, replace(before, status="queued"))  # its own is not known here yet
        tick = tick_of.get(job.job_id) or Tick(job.job_id, video.video_id, "", -1, job.kind, "", 0.0, None, None, (), _NEVER)
        rungs = tuple(RungProgress(name=name, percent=max(_percent(one, tick_of, name) for one in (before, job))) for name in names)
        percent = max(_percent(before, tick_of), tick.percent)
        tick_of[job.job_id] = replace(tick, percent=percent, rungs=rungs)
    return [job for job in jobs if job.kind != "encode"] + list(now.values()), tick_of


def _percent(job: Job, tick_of: dict[str, Tick], rendition: str | None = None) -> float:
    """Return the percent of a job or of one of its renditions: the furthest of all attempts."""
    if job.status == "completed":
        return 100.0
    tick = tick_of.get(job.job_id)
    if tick is None:
        return 0.0
    percent = next((rung.percent for rung in tick.rungs if rung.name == rendition), tick.percent)
    return min(100.0, max(0.0, percent))


def _overall(video: Video, jobs: Sequence[Job], tick_of: dict[str, Tick]) -> float:
    """Return percent of the whole work, below 100 until publication. Kinds that the plan leaves out make it grow, never fall."""
    planned = set(_WEIGHTS)
    if video.plan is not None:
        extras = video.plan.thumbnail_ms is not None or video.plan.subtitles
        parts = {"encode": video.plan.video, "audio": video.plan.audio, "extras": extras}
        planned -= {kind for kind, part in parts.items() if not part}
    done = total = 0.0
    for kind, weight in _WEIGHTS.items():
        if kind in planned:
            total += weight
            done += weight * _mean(video, [job for job in jobs if job.kind == kind], tick_of) / 100
    return min(99.9, 100 * done / total)


def _mean(video: Video, jobs: Sequence[Job], tick_of: dict[str, Tick], rendition: str | None = None) -> float:
    """Return the mean percent of jobs, chunks weighted by frames; chunks whose jobs are unknown here count as zero."""
    chunks = video.plan.video.chunks if video.plan and video.plan.video else ()
    frames = {chunk.index: chunk.frames for chunk in chunks}
    weights = [frames.get(job.chunk, 1) if job.chunk is not None else 1 for job in jobs]
    parts = [weight * _percent(job, tick_of, rendition) for job, weight in zip(jobs, weights, strict=True)]
    total = max(sum(weights), sum(frames.values()) if any(job.chunk is not None for job in jobs) else 0)
    return sum(parts) / total if total > 0 else 0.0


def _step(video: Video, jobs: Sequence[Job], tick_of: dict[str, Tick]) -> str:
    """Return the current step: that of the running job claimed first."""
    if video.status != "processing":
        return video.status
    running = sorted((job for job in jobs if job.status == "claimed"), key=lambda job: (job.claimed_at or _NEVER, job.job_id))
    if not running:
        return "waiting"
    tick = tick_of.get(running[0].job_id)
    return tick.step if tick is not None and tick.epoch == running[0].epoch else running[0].kind


def _qualities(video: Video, jobs: Sequence[Job], tick_of: dict[str, Tick]) -> list[QualityProgress]:
    """Return one entry per rung, over all chunks, including those whose jobs are unknown here."""
    chunks = [job for job in jobs if job.kind == "encode"]
    ended = all(job.status == "completed" for job in chunks) and bool(chunks)
    found = []
    for name in rung_names(video.plan):
        percent = 100.0 if video.status == "ready" else _mean(video, chunks, tick_of, name)
        status: Literal["pending", "in_progress", "completed", "failed"] = "pending"
        if ended or video.status == "ready":
            status = "completed"
        elif any(job.status == "failed" for job in chunks):
            status = "failed"
        elif percent > 0 or any(job.status == "claimed" for job in chunks):
            status = "in_progress"
        found.append(QualityProgress(name=name, status=status, progress=round(percent, 1)))
    return found


def rung_names(plan: Plan | None) -> list[str]:
    """Return the rungs of a plan, largest first."""
    return [rung.name for rung in plan.video.rungs] if plan and plan.video else []
