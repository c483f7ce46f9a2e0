"""For administrators: failed attempts, their patterns, advice, and their outcome."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from api.admin.models import Page
from api.admin.services import Given, Services, moment, reading, write
from api.examples import JOB_ID
from api.problems import documented
from api.services import Cursor, Limit, Minimum, after_of, cursor_of
from events.errors import Conflict, NotFound
from events.failures import FailureRerun
from events.jobs import JobSubmitted
from events.kinds import RepeatableSpec
from events.media import Failure
from events.text import Line, Prose
from producers import failures as failures_producer
from projections import catalog, jobs
from projections.failures import projection as failures
from projections.failures.projection import FailureShown, Rerun
from projections.failures.report import FailureReport, report

routes = APIRouter(tags=["failures"])
FailureId = Annotated[
    Line, Path(max_length=60, description="A job's id or its beginning, a colon, the epoch of the claim that failed.")
]
Days = Annotated[int, Query(ge=1, le=3650, description="How many days before now the report is about.")]
Patterns = Annotated[int, Query(ge=1, le=100, description="How many patterns it names.")]
FOUND = documented(404)
CHANGED = documented(404, 409, 422)


class FailureDetail(BaseModel):
    """A failed attempt, and every rerun of it."""

    failure: FailureShown
    reruns: list[Rerun]


class Resolve(BaseModel):
    """Why the failure needs no more attention; the log keeps the reason."""

    reason: Prose = Field(min_length=1, max_length=500, examples=["the machine got more memory"])


class RerunDone(BaseModel):
    """The end of a rerun; without `failure` it succeeded. `worker` names the machine."""

    worker: Line = Field(min_length=1, max_length=255, examples=["gpu-2"])
    seconds: float = Field(ge=0, examples=[12.5])
    failure: Failure | None = None


class Again(BaseModel):
    """The work to repeat, as the failure's capsule describes it."""

    spec: RepeatableSpec = Field(examples=[{"kind": "analyse", "source": {"object_key": "sources/x/original", "size_bytes": 1}}])


class AcceptedFailure(BaseModel):
    """The request is on the log; its effect can be read from `X-Log-Position` on."""

    failure_id: str = Field(examples=[f"{JOB_ID}:1"])


class AcceptedJobAgain(AcceptedFailure):
    """The job that repeats the work; its verdict is added to the failure's reruns."""

    job_id: str = Field(examples=[JOB_ID])


class AcceptedRerun(AcceptedFailure):
    """The recorded verdict."""

    verdict: str = Field(examples=["reproduced"])


@routes.get("/api/failures")
async def list_failures(
    given: Given,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
    stage: Annotated[Line | None, Query(max_length=40)] = None,
    category: Annotated[Line | None, Query(max_length=40)] = None,
    code: Annotated[Line | None, Query(max_length=40)] = None,
    video_id: Annotated[Line | None, Query(max_length=100)] = None,
    job_id: Annotated[Line | None, Query(max_length=36)] = None,
    resolved: Annotated[bool | None, Query(description="Only resolved ones, or only open ones.")] = None,
    minimum: Minimum = None,
) -> Page[FailureShown]:
    """List failed attempts, newest first."""
    only = {"stage": stage, "category": category, "code": code}
    async with reading(given, response, "failures", minimum) as connection:
        only["video_id"] = await catalog.id_of(connection, video_id) if video_id else None
        only["job_id"] = await jobs.id_of(connection, job_id) if job_id else None
        found = await failures.listing(connection, limit=limit, after=after_of(cursor), resolved=resolved, only=only)
    last = found[-1] if len(found) == limit else None
    return Page(items=list(found), next=cursor_of(last.failed_at, last.failure_id) if last else None)


@routes.get("/api/failures/report")
async def show_report(given: Given, response: Response, days: Days = 7, limit: Patterns = 10) -> FailureReport:
    """Report the failures of the last days: patterns, urgent ones, and advice."""
    async with reading(given, response, "failures") as connection:
        return await report(connection, await moment(given, connection, "failures"), days=days, limit=limit)


@routes.get("/api/failures/{failure_id}", responses=FOUND)
async def show_failure(given: Given, response: Response, failure_id: FailureId, minimum: Minimum = None) -> FailureDetail:
    """Show one failed attempt, with its circumstances and its reruns."""
    async with reading(given, response, "failures", minimum) as connection:
        failure = await _find(connection, failure_id)
        return FailureDetail(failure=failure, reruns=list(await failures.reruns_of(connection, failure.failure_id)))


@routes.post("/api/failures/{failure_id}/resolve", status_code=202, responses=CHANGED)
async def resolve_failure(given: Given, response: Response, failure_id: FailureId, resolve: Resolve) -> AcceptedFailure:
    """Record that the cause of a failure is gone."""
    failure = await _existing(given, failure_id)
    if failure.resolved_by is not None:
        how = f"by a person: {failure.reason}" if failure.resolved_by == "person" else "by a later success"
        raise Conflict(f"the failure is resolved already, {how}")
    event = failures_producer.resolved(given.context(), failure.failure_id, video_id=failure.video_id, reason=resolve.reason)
    await write(given, response, [event])
    return AcceptedFailure(failure_id=failure.failure_id)


@routes.post("/api/failures/{failure_id}/rerun", status_code=202, responses=CHANGED)
async def rerun_failure(given: Given, response: Response, failure_id: FailureId, wanted: Again) -> AcceptedJobAgain:
    """Repeat the work on another worker than the one that failed; only the verdict of it is kept."""
    failure = await _existing(given, failure_id)
    event = failures_producer.rerun_submitted(
        given.context(),
        failure.failure_id,
        video_id=failure.video_id,
        pool=failure.pool,
        worker_id=failure.worker_id,
        failed=failure.failure,
        spec=wanted.spec,
    )
    await write(given, response, [event])
    assert isinstance(event.data, JobSubmitted)
    return AcceptedJobAgain(failure_id=failure.failure_id, job_id=event.data.job_id)


@routes.post("/api/failures/{failure_id}/reruns", status_code=202, responses=FOUND)
async def note_rerun(given: Given, response: Response, failure_id: FailureId, done: RerunDone) -> AcceptedRerun:
    """Record how a rerun of the attempt ended; the answer says whether it reproduced the failure."""
    failure = await _existing(given, failure_id)
    event = failures_producer.rerun(
        given.context(),
        failure.failure_id,
        video_id=failure.video_id,
        failed=failure.failure,
        again=done.failure,
        worker=done.worker,
        seconds=done.seconds,
    )
    await write(given, response, [event])
    assert isinstance(event.data, FailureRerun)
    return AcceptedRerun(failure_id=failure.failure_id, verdict=event.data.verdict)


async def _find(connection: Any, which: str) -> FailureShown:
    failure = await failures.by_id(connection, await failures.id_of(connection, which))
    if failure is None:
        raise NotFound(f"there is no failed attempt {which}")
    return failure


async def _existing(given: Services, failure_id: str) -> FailureShown:
    async with given.pool.connection() as connection:
        return await _find(connection, failure_id)
