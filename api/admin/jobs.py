"""For administrators: jobs, and requests to the dispatcher about them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from api.admin.models import CHANGED, FOUND, AcceptedJob, AcceptedJobs, JobDetail, JobShown, Page, Queue, Reason
from api.admin.services import Given, Services, reading, write
from api.problems import documented
from api.services import Cursor, Limit, Minimum, after_of, cursor_of
from events.errors import Conflict, NotFound
from events.jobs import Priority
from events.kinds import JobKind
from events.text import Line
from producers import jobs as jobs_producer
from projections import catalog, jobs, timeline
from projections.jobs import Job

routes = APIRouter(tags=["managing"])
Kind = JobKind
RETRIED_MAX = 500
"""Maximum number of jobs that one call retries."""
JobId = Annotated[Line, Path(max_length=36, description="A job's id, or eight characters or more of it.")]
OfVideo = Annotated[Line | None, Query(max_length=100, description="Only of this video: its id, slug, or a part of the id.")]


class Filter(Reason):
    """Selects jobs; without fields, all failed ones. A chunk is a job; retrying a rung retries the jobs that make it."""

    status: Literal["failed", "cancelled"] = "failed"
    video_id: Line | None = Field(None, max_length=100, examples=["01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"])
    kind: Kind | None = Field(None, examples=["encode"])
    pool: Line | None = Field(None, max_length=255, examples=["default"])
    chunk: int | None = Field(None, ge=0, le=2**31, examples=[3])
    rendition: Line | None = Field(None, max_length=100, examples=["720p"])
    code: Line | None = Field(None, max_length=100, examples=["TIMEOUT"], description="The failure's code.")


class Requeue(Reason):
    """The reason, and the priority from now on; without one the job keeps its own."""

    priority: Priority | None = Field(None, examples=["high"])


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
    """Show a job, every attempt at it, and its history."""
    async with reading(given, response, "jobs", minimum) as connection:
        job = await _find_job(connection, job_id)
        attempts = await jobs.attempts_at(connection, job.job_id)
        events = await timeline.of_job(connection, job.job_id)
    return JobDetail(job=JobShown.model_validate(job), attempts=list(attempts), timeline=list(events))


@routes.post("/api/jobs/{job_id}/cancel", status_code=202, responses=CHANGED)
async def cancel_job(given: Given, response: Response, job_id: JobId, reason: Reason | None = None) -> AcceptedJob:
    """Ask the dispatcher to end a job; its worker stops within seconds."""
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
    """Ask the dispatcher to take a job from its worker and to queue it again, optionally at another priority."""
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
    """Ask the dispatcher to try jobs again, the newest first, at most 500 at once; the log keeps the reason with each."""
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


async def _job(given: Services, which: str) -> Job:
    async with given.pool.connection() as connection:
        return await _find_job(connection, which)


async def _find_job(connection: Any, which: str) -> Job:
    """Return a job by id or a part of it. Raises NotFound."""
    job = await jobs.by_id(connection, await jobs.id_of(connection, which))
    if job is None:
        raise NotFound(f"there is no job {which}")
    return job
