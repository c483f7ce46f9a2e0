"""For administrators: videos in every state, jobs, workers, and what happened to each."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field, model_validator

from api.admin.models import (
    PROGRESSING,
    AcceptedDispatch,
    AcceptedJob,
    AcceptedJobs,
    AcceptedVideo,
    JobDetail,
    JobShown,
    Page,
    Paused,
    Queue,
    VideoDetail,
    VideoShown,
    WorkerShown,
)
from api.admin.services import Given, Services, moment, reading, write
from api.problems import documented
from api.services import Cursor, Limit, Minimum, after_of, cursor_of
from events.errors import Conflict, NotFound
from events.jobs import Priority
from events.kinds import JobKind
from events.text import Line, Prose
from producers import catalog as catalog_producer
from producers import jobs as jobs_producer
from projections import catalog, jobs, progress, timeline, workers
from projections.catalog import Status, Video
from projections.jobs import Job
from projections.playback import manifests
from projections.workers import Worker

routes = APIRouter(tags=["managing"])
Kind = JobKind
RETRIED_MAX = 500
"""Jobs that one call retries at most."""
Which = Annotated[Line, Path(max_length=100, description="A video's id or slug, or eight characters or more of the id.")]
JobId = Annotated[Line, Path(max_length=36, description="A job's id, or eight characters or more of it.")]
WorkerId = Annotated[Line, Path(max_length=100, description="A worker's id, or eight characters or more of it.")]
OfVideo = Annotated[Line | None, Query(max_length=100, description="Only of this video: its id, slug, or a part of the id.")]
PoolName = Annotated[Line, Path(max_length=255)]


FOUND = documented(404)
CHANGED = documented(404, 409, 422)


class Edit(BaseModel):
    """What is to be told about a video from now on; what is left out stays, and something must be said."""

    title: Line | None = Field(None, min_length=1, max_length=255, examples=["Holiday at the sea"])
    description: Prose | None = Field(None, max_length=5000, examples=["With everybody"])

    @model_validator(mode="after")
    def _something(self) -> "Edit":
        if self.title is None and self.description is None:
            raise ValueError("say a title or a description")
        return self


class Reason(BaseModel):
    """Why; it is kept on the log."""

    reason: Prose = Field("", max_length=500, examples=["the disk was full"])


class Filter(Reason):
    """Which jobs; all failed ones when nothing is said. A chunk is a job; a rung is retried by the jobs that make it."""

    status: Literal["failed", "cancelled"] = "failed"
    video_id: Line | None = Field(None, max_length=100, examples=["01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"])
    kind: Kind | None = Field(None, examples=["encode"])
    pool: Line | None = Field(None, max_length=255, examples=["default"])
    chunk: int | None = Field(None, ge=0, le=2**31, examples=[3])
    rendition: Line | None = Field(None, max_length=100, examples=["720p"])
    code: Line | None = Field(None, max_length=100, examples=["TIMEOUT"], description="The failure's code.")


class Requeue(Reason):
    """Why, and at which priority from now on; the job keeps its own when none is said."""

    priority: Priority | None = Field(None, examples=["high"])


class Pause(Reason):
    """Why, and whether workers stop when their jobs are done."""

    drain: bool = False


@routes.get("/api/videos")
async def list_videos(
    given: Given,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query()] = None,
    archived: Annotated[bool | None, Query()] = None,
    sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="Only what is or becomes of this content.")] = None,
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
        plan=video.plan,
        probe=video.probe,
        warnings=video.warnings,
        watch_url=f"/watch/{video.slug}",
        hls_url=f"/videos/{video.slug}/master.m3u8" if manifests.has_hls(video, media) else None,
        dash_url=f"/videos/{video.slug}/manifest.mpd" if manifests.has_dash(video) else None,
    )


@routes.get("/api/videos/{which}/progress", responses=FOUND | PROGRESSING)
async def show_progress(given: Given, response: Response, which: Which) -> progress.VideoProgress:
    """Tell how far a video is, per rung."""
    async with reading(given, response, "progress") as connection:
        video = await _find(connection, which)
        of_video = await jobs.of_video(connection, video.video_id)
        ticks = await progress.of_video(connection, video.video_id)
    return progress.progress_of(video, of_video, ticks)


@routes.get("/api/videos/{which}/timeline", responses=FOUND)
async def show_timeline(given: Given, response: Response, which: Which) -> Page[timeline.Entry]:
    """Tell what happened to a video, with the place of each event on the log."""
    async with reading(given, response, "timeline") as connection:
        video = await _find(connection, which)
        return Page(items=list(await timeline.of_video(connection, video.video_id)), next=None)


@routes.patch("/api/videos/{which}", status_code=202, responses=FOUND)
async def edit_video(given: Given, response: Response, which: Which, edit: Edit) -> AcceptedVideo:
    """Change title or description; the address stays."""
    video = await _existing(given, which)
    event = catalog_producer.edited(given.context(), video.video_id, title=edit.title, description=edit.description)
    await write(given, response, [event])
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
    """Try a failed video again: what is there is kept."""
    video = await _existing(given, which)
    if video.status != "failed":
        raise Conflict(f"only a failed video can be retried; this one is {video.status}")
    why = reason.reason if reason else ""
    await write(given, response, [catalog_producer.retry_requested(given.context(), video.video_id, why)])
    return AcceptedVideo(video_id=video.video_id)


@routes.delete("/api/videos/{which}", status_code=202, responses=FOUND)
async def purge_video(given: Given, response: Response, which: Which) -> AcceptedVideo:
    """Delete a video for good: its source and everything made from it. The log keeps what happened."""
    video = await _existing(given, which)
    await write(given, response, [catalog_producer.purged(given.context(), video.video_id)])
    return AcceptedVideo(video_id=video.video_id)


# --- jobs and workers -----------------------------------------------------------------------------------------------


@routes.get("/api/jobs")
async def list_jobs(
    given: Given,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[jobs.Status | None, Query()] = None,
    video_id: OfVideo = None,
    kind: Annotated[Kind | None, Query()] = None,
    minimum: Minimum = None,
) -> Page[JobShown]:
    """List jobs, newest first."""
    async with reading(given, response, "jobs", minimum) as connection:
        of = await catalog.id_of(connection, video_id) if video_id else None
        found = await jobs.listing(connection, limit=limit, after=after_of(cursor), status=status, video_id=of, kind=kind)
    last = found[-1] if len(found) == limit else None
    following = cursor_of(last.queued_at, last.job_id) if last and last.queued_at else None
    return Page(items=[JobShown.model_validate(job) for job in found], next=following)


@routes.get("/api/queue")
async def show_queue(given: Given, response: Response) -> Queue:
    """Count jobs by state."""
    async with reading(given, response, "jobs") as connection:
        return Queue(await jobs.counts(connection))


@routes.get("/api/jobs/{job_id}", responses=FOUND)
async def show_job(given: Given, response: Response, job_id: JobId, minimum: Minimum = None) -> JobDetail:
    """Show a job, every attempt at it, and what happened to it."""
    async with reading(given, response, "jobs", minimum) as connection:
        job = await _find_job(connection, job_id)
        attempts = await jobs.attempts_at(connection, job.job_id)
        events = await timeline.of_job(connection, job.job_id)
    return JobDetail(job=JobShown.model_validate(job), attempts=list(attempts), timeline=list(events))


@routes.post("/api/jobs/{job_id}/cancel", status_code=202, responses=CHANGED)
async def cancel_job(given: Given, response: Response, job_id: JobId, reason: Reason | None = None) -> AcceptedJob:
    """Ask the dispatcher to end a job; a worker that is at it stops within seconds."""
    job = await _job(given, job_id)
    if job.status in ("completed", "failed", "cancelled"):
        raise Conflict(f"the job has ended: it is {job.status}")
    event = jobs_producer.cancel_requested(
        given.context(), job_id=job.job_id, video_id=job.video_id, pool=job.pool, reason=reason.reason if reason else ""
    )
    await write(given, response, [event])
    return AcceptedJob(job_id=job.job_id)


@routes.post("/api/jobs/{job_id}/retry", status_code=202, responses=CHANGED)
async def retry_job(given: Given, response: Response, job_id: JobId, reason: Reason | None = None) -> AcceptedJob:
    """Ask the dispatcher to try a failed or cancelled job again."""
    job = await _job(given, job_id)
    if job.status not in ("failed", "cancelled"):
        raise Conflict(f"only a failed or cancelled job can be retried; this one is {job.status}")
    event = jobs_producer.retry_requested(
        given.context(), job_id=job.job_id, video_id=job.video_id, pool=job.pool, reason=reason.reason if reason else ""
    )
    await write(given, response, [event])
    return AcceptedJob(job_id=job.job_id)


@routes.post("/api/jobs/{job_id}/requeue", status_code=202, responses=CHANGED)
async def requeue_job(given: Given, response: Response, job_id: JobId, wanted: Requeue | None = None) -> AcceptedJob:
    """Ask the dispatcher to take a job from whoever has it and to let it wait again, perhaps at another priority."""
    wanted = wanted or Requeue(reason="")
    job = await _job(given, job_id)
    if job.status in ("completed", "failed", "cancelled"):
        raise Conflict(f"the job has ended: it is {job.status}")
    event = jobs_producer.requeue_requested(
        given.context(),
        job_id=job.job_id,
        video_id=job.video_id,
        pool=job.pool,
        reason=wanted.reason,
        priority=wanted.priority,
    )
    await write(given, response, [event])
    return AcceptedJob(job_id=job.job_id)


@routes.post("/api/jobs/retry", status_code=202, responses=documented(422))
async def retry_jobs(given: Given, response: Response, wanted: Filter) -> AcceptedJobs:
    """Ask the dispatcher to try jobs again, the newest first, at most 500 at once; the reason is kept with each."""
    async with given.pool.connection() as connection:
        of = await catalog.id_of(connection, wanted.video_id) if wanted.video_id else None
        only = wanted.model_dump(exclude={"reason"}) | {"video_id": of}
        found = await jobs.listing(connection, limit=RETRIED_MAX, **only)
    context = given.context()
    events = [
        jobs_producer.retry_requested(context, job_id=job.job_id, video_id=job.video_id, pool=job.pool, reason=wanted.reason)
        for job in found
    ]
    if events:
        await write(given, response, events)
    return AcceptedJobs(job_ids=[job.job_id for job in found], more=len(found) == RETRIED_MAX)


@routes.get("/api/workers")
async def list_workers(given: Given, response: Response, limit: Limit = 100) -> Page[WorkerShown]:
    """List workers, the last that came first, with what they are doing now, and why they get no jobs if they do not."""
    async with reading(given, response, "workers") as connection:
        now = await moment(given, connection, "workers")
        found = await workers.listing(connection, limit)
        pauses = {(pause.pool, pause.worker_id): pause for pause in await jobs.pauses(connection)}
    return Page(items=[_shown(worker, pauses, now) for worker in found], next=None)


def _shown(worker: Worker, pauses: Mapping[tuple[str, str], jobs.Pause], now: datetime) -> WorkerShown:
    of_worker, of_pool = (pauses.get((worker.pool or "", which)) for which in (worker.worker_id, ""))
    pause = of_worker or of_pool
    drained = any(each is not None and each.drain for each in (of_worker, of_pool))
    quarantined = worker.quarantined_until is not None and now < worker.quarantined_until
    return WorkerShown(
        worker_id=worker.worker_id,
        name=worker.name,
        pool=worker.pool,
        version=worker.version,
        presence=workers.presence(worker, now, paused=pause is not None, drained=drained),
        job_ids=worker.job_ids,
        capabilities=worker.capabilities,
        cpu_count=worker.cpu_count,
        memory_bytes=worker.memory_bytes,
        cards=worker.cards,
        trials=worker.trials,
        paused=pause
        and Paused(of="worker" if of_worker else "pool", drain=drained, reason=pause.reason, paused_at=pause.paused_at),
        quarantined_until=worker.quarantined_until if quarantined else None,
        registered_at=worker.registered_at,
        heartbeat_at=worker.heartbeat_at,
    )


@routes.post("/api/workers/{worker_id}/pause", status_code=202, responses=FOUND)
async def pause_worker(given: Given, response: Response, worker_id: WorkerId, wanted: Pause | None = None) -> AcceptedDispatch:
    """Give a worker no more jobs; what it has goes on. With `drain` it stops after that."""
    pool, whole = await _worker(given, worker_id)
    return await _pause(given, response, pool, whole, wanted)


@routes.post("/api/workers/{worker_id}/resume", status_code=202, responses=FOUND)
async def resume_worker(given: Given, response: Response, worker_id: WorkerId, reason: Reason | None = None) -> AcceptedDispatch:
    """Give a worker jobs again; its quarantine, if it is in one, ends."""
    pool, whole = await _worker(given, worker_id)
    return await _resume(given, response, pool, whole, reason)


@routes.post("/api/pools/{pool}/pause", status_code=202, responses=FOUND)
async def pause_pool(given: Given, response: Response, pool: PoolName, wanted: Pause | None = None) -> AcceptedDispatch:
    """Give no worker of a pool a job any more; what runs goes on. With `drain` its workers stop after that."""
    return await _pause(given, response, await _known_pool(given, pool), None, wanted)


@routes.post("/api/pools/{pool}/resume", status_code=202, responses=FOUND)
async def resume_pool(given: Given, response: Response, pool: PoolName, reason: Reason | None = None) -> AcceptedDispatch:
    """Give the workers of a pool jobs again."""
    return await _resume(given, response, await _known_pool(given, pool), None, reason)


async def _pause(given: Services, response: Response, pool: str, worker_id: str | None, wanted: Pause | None) -> AcceptedDispatch:
    wanted = wanted or Pause(reason="")
    event = jobs_producer.pause_requested(given.context(), pool=pool, worker_id=worker_id, drain=wanted.drain, reason=wanted.reason)
    await write(given, response, [event])
    return AcceptedDispatch(pool=pool, worker_id=worker_id)


async def _resume(given: Services, response: Response, pool: str, worker_id: str | None, reason: Reason | None) -> AcceptedDispatch:
    why = reason.reason if reason else ""
    await write(given, response, [jobs_producer.resume_requested(given.context(), pool=pool, worker_id=worker_id, reason=why)])
    return AcceptedDispatch(pool=pool, worker_id=worker_id)


async def _worker(given: Services, which: str) -> tuple[str, str]:
    """Return pool and id of the worker with this id or part of one. Raises NotFound for one that never registered."""
    async with given.pool.connection() as connection:
        worker = await workers.by_id(connection, await workers.id_of(connection, which))
    if worker is None or worker.pool is None:
        raise NotFound(f"there is no worker {which}")
    return worker.pool, worker.worker_id


async def _known_pool(given: Services, pool: str) -> str:
    """Return the pool's name. Raises NotFound for one that nobody works in or owns: its pause would wait for ever, unseen."""
    async with given.pool.connection() as connection:
        known = given.options.pools + tuple(await workers.pools(connection))
    if pool not in known:
        raise NotFound(f"there is no pool {pool}; there are: {', '.join(sorted(set(known)))}")
    return pool


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


async def _job(given: Services, which: str) -> Job:
    async with given.pool.connection() as connection:
        return await _find_job(connection, which)


async def _find_job(connection: Any, which: str) -> Job:
    """Return a job by id or a part of it. Raises NotFound."""
    job = await jobs.by_id(connection, await jobs.id_of(connection, which))
    if job is None:
        raise NotFound(f"there is no job {which}")
    return job
