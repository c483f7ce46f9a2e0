"""For workers: the life of a job that they hold."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path

from api.limits import allowing
from api.problems import Fenced, documented
from api.worker import models
from api.worker.claims import ANSWER_S
from api.worker.decisions import Holding, over
from api.worker.leases import renewals
from api.worker.objects import check_part, check_result
from api.worker.services import Given, Services, Worker
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from events.jobs import JobAttemptFailed, JobCompleted, JobFailed, ResultRefused
from events.kinds import KINDS
from events.media import Failure, FailureStage
from events.progress import ProgressTicked, RungProgress
from producers import workers as producer
from producers.keys import Key

routes = APIRouter(prefix="/api/worker/{job_id}", tags=["jobs"], responses=documented(401, 403, 404, 409))
DECIDED_S = 15.0
"""The dispatcher decides within milliseconds, during its restart within seconds."""
JobId = Annotated[str, Path(max_length=36, pattern=r"^[0-9a-f-]{36}$")]
FAILURES = (JobAttemptFailed, JobFailed)


@routes.post("/progress")
async def progress(given: Given, key: Worker, job_id: JobId, said: models.Progress) -> models.ProgressAnswer:
    """Report that the job is in progress, and how far it is."""
    holding = await given.decisions.held(job_id, key.worker_id, said.epoch)
    context = given.context(holding.video_id)
    events = renewals(given, context, holding)
    if said.progress_percent is not None:
        rungs = tuple(
            RungProgress(
                name=item.name,
                percent=item.progress,
                segments_completed=item.segments_completed,
                segments_total=item.segments_total,
            )
            for item in said.quality_progress
        )
        tick = ProgressTicked(
            job_id=job_id,
            video_id=holding.video_id,
            worker_id=key.worker_id,
            epoch=said.epoch,
            kind=holding.kind,
            step=said.current_step or holding.kind,
            percent=said.progress_percent,
            frames=said.frames,
            speed=said.speed,
            rungs=rungs,
        )
        events.append(producer.ticked(context, tick))
    if events:
        await given.append(events)
    return models.ProgressAnswer(claim_expires_at=context.now + given.options.lease)


@routes.post("/release")
async def release(given: Given, key: Worker, job_id: JobId, said: models.Release) -> models.Accepted:
    """Hand the job back unfinished."""
    holding = await given.decisions.held(job_id, key.worker_id, said.epoch)
    released = producer.lease_released(
        given.context(holding.video_id),
        job_id=job_id,
        pool=holding.pool,
        worker_id=key.worker_id,
        epoch=said.epoch,
        reason=said.reason,
    )
    await given.append([released])
    return models.Accepted(message="Job released")


@routes.post("/fail")
async def fail(given: Given, key: Worker, job_id: JobId, said: models.Fail) -> models.FailAnswer:
    """Report that the attempt failed; the answer says whether there will be another one."""
    holding = await given.decisions.holding(job_id)
    if _said_before(holding, key, said.epoch) and holding.ended_by in FAILURES:
        return models.FailAnswer(will_retry=holding.ended_by is JobAttemptFailed, attempt_number=holding.attempt)
    holding = await given.decisions.held(job_id, key.worker_id, said.epoch)
    failure = said.failure or Failure(
        stage=_stage(holding),
        category="unknown",
        code="UNKNOWN",
        message=said.error_message or "The worker gave no reason.",
        retryable=said.retry,
    )
    fact = await _decided(given, holding, said.epoch, result=None, failure=failure)
    retry_at = fact.data.retry_at if isinstance(fact.data, JobAttemptFailed) else None
    return models.FailAnswer(will_retry=retry_at is not None, attempt_number=holding.attempt, retry_at=retry_at)


@routes.post("/part", responses=documented(422))
@allowing(answer_s=ANSWER_S)
async def part(given: Given, key: Worker, job_id: JobId, said: models.Part) -> models.Accepted:
    """Report some of many segments before the job is done, where `complete` would exceed one body. In order, from part 0 on."""
    holding = await given.decisions.held(job_id, key.worker_id, said.epoch)
    await check_part(given, holding, said.renditions)
    reported = producer.part_reported(
        given.context(holding.video_id),
        job_id=job_id,
        pool=holding.pool,
        worker_id=key.worker_id,
        epoch=said.epoch,
        part=said.part,
        renditions=said.renditions,
    )
    await given.append([reported])
    return models.Accepted(message="Part accepted")


@routes.post("/complete", responses=documented(422))
@allowing(answer_s=ANSWER_S)
async def complete(given: Given, key: Worker, job_id: JobId, said: models.Complete) -> models.Accepted:
    """Report that the job is done. Every object that the result names must be in the store; a repeated report changes nothing."""
    holding = await given.decisions.holding(job_id)
    if _said_before(holding, key, said.epoch) and holding.status == "completed":
        return models.Accepted(message="Job already completed")
    holding = await given.decisions.held(job_id, key.worker_id, said.epoch)
    await check_result(given, holding, said.result)
    await _decided(given, holding, said.epoch, result=said.result, failure=None)
    return models.Accepted(message="Job completed")


def _said_before(holding: Holding, key: Key, epoch: int) -> bool:
    return (holding.worker_id, holding.epoch) == (key.worker_id, epoch)


def _stage(holding: Holding) -> FailureStage:
    return KINDS[holding.kind].stage


async def _decided(given: Services, holding: Holding, epoch: int, **report: object) -> Envelope[Event]:
    """Report the end of an attempt and return the fact that accepts it.

    Raises Fenced, with the fact, when the claim ended otherwise, even at that very moment; LogUnavailable when there is no
    decision in time.
    """
    assert holding.worker_id is not None
    end = given.decisions.end(holding.job_id, epoch)
    try:
        await given.decisions.held(holding.job_id, holding.worker_id, epoch)  # checked again: an earlier end is not waited for
        reported = producer.result_reported(
            given.context(holding.video_id),
            job_id=holding.job_id,
            pool=holding.pool,
            worker_id=holding.worker_id,
            epoch=epoch,
            **report,  # type: ignore[arg-type]
        )
        await given.append([reported])
        async with asyncio.timeout(DECIDED_S):
            fact = await end
    except TimeoutError as error:
        raise LogUnavailable("the dispatcher has not answered yet; say it again") from error
    finally:
        end.cancel()
    if isinstance(fact.data, ResultRefused):
        raise Fenced("fenced", f"the result was refused: {fact.data.reason}")
    if not isinstance(fact.data, FAILURES if report["result"] is None else JobCompleted):
        raise over(type(fact.data))
    return fact
