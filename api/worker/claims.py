"""For workers: claims, answered as soon as there is a job."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from api.access import check_pool
from api.limits import allowing
from api.problems import Fenced, documented
from api.worker import models
from api.worker.registration import too_old_or_new
from api.worker.services import Given, Services, Worker, version_ok
from events.envelope import Envelope, Event
from events.errors import InvalidRequest, LogUnavailable
from events.jobs import ClaimRefused, JobClaimed
from events.kinds import Capabilities
from events.text import Line
from producers import workers as producer
from producers.keys import Key

routes = APIRouter(prefix="/api/worker", tags=["worker"], responses=documented(401))
ANSWER_S = 60.0
"""Seconds until an answer begins: a claim waits up to 30 s for a job, a result for its objects and the dispatcher."""
ANSWERED_S = 5.0
"""Maximum delay of an answer after the claim's deadline."""
NO_JOBS = {
    "no_job": "No jobs available",
    "quarantined": "This worker failed too often; it gets jobs again after a while",
    "unknown_pool": "There is no such pool",
    "paused": "The worker, or its pool, is paused",
    "draining": "The worker, or its pool, is drained: it takes no more jobs and stops",
}


@routes.post("/claim", responses=documented(422))
@allowing(answer_s=ANSWER_S)
async def claim(
    request: Request,
    given: Given,
    key: Worker,
    wish: models.Claim,
    job_id: Annotated[Line | None, Query(deprecated=True, description="Of the predecessor; refused.")] = None,
) -> models.Claimed:
    """Get a job; the answer comes as soon as there is one, or when `wait_s` is over."""
    if job_id is not None:
        raise InvalidRequest("the dispatcher chooses the job: claim without job_id; a person can say `kinolog jobs requeue`")
    check_pool(key, wish.pool)
    if not version_ok(wish.code_version, given.options):
        return models.Claimed(reason="version", message=too_old_or_new(given, wish.code_version))
    kinds = tuple(kind for kind in wish.capabilities.kinds if not key.kinds or kind in key.kinds)
    capabilities = wish.capabilities.model_copy(update={"kinds": kinds})
    claim_id = producer.claim_id_of(key.worker_id, wish.claim_id)
    fact = given.decisions.answered(claim_id)
    if fact is None:
        fact = await _ask(request, given, key, wish, claim_id, capabilities)
    if fact is None or not isinstance(fact.data, JobClaimed | ClaimRefused):
        return models.Claimed(reason="no_job", message=NO_JOBS["no_job"])
    if isinstance(fact.data, ClaimRefused):
        return models.Claimed(reason=fact.data.reason, message=NO_JOBS[fact.data.reason])
    try:
        holding = await given.decisions.held(fact.data.job_id, key.worker_id, fact.data.epoch)
    except Fenced:
        return models.Claimed(reason="no_job", message="The claim was answered, and is over")
    return models.Claimed(
        job_id=holding.job_id,
        video_id=holding.video_id,
        epoch=holding.epoch,
        attempt=holding.attempt,
        claim_expires_at=fact.data.lease_expires_at,
        correlation_id=fact.correlationid,
        claim=fact.data,
        message="Job claimed",
    )


async def _ask(
    request: Request, given: Services, key: Key, wish: models.Claim, claim_id: str, capabilities: Capabilities
) -> Envelope[Event] | None:
    """Ask the dispatcher. A client that hangs up gets no job: one granted meanwhile is handed back."""
    context = given.context(None)
    deadline = context.now + timedelta(seconds=wish.wait_s)
    if (abandoned := given.abandoned.pop(claim_id, None)) is not None:
        abandoned.cancel()  # the worker is back for it
    answer = given.decisions.answer(claim_id)
    gone = asyncio.create_task(_gone(request))
    try:
        await given.append(
            [
                producer.claim_requested(
                    context,
                    claim_id=claim_id,
                    worker_id=key.worker_id,
                    pool=wish.pool,
                    capabilities=capabilities,
                    deadline=deadline,
                    process_id=producer.claim_id_of(key.worker_id, wish.process_id) if wish.process_id else None,
                )
            ]
        )
        either: list[asyncio.Future[Any]] = [answer, gone]
        await asyncio.wait(either, timeout=wish.wait_s + ANSWERED_S, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            given.abandoned[claim_id] = answer
            answer.add_done_callback(lambda done: _hand_back_later(given, claim_id, done))
            asyncio.get_running_loop().call_later(wish.wait_s + ANSWERED_S, answer.cancel)
            return None
        return answer.result() if answer.done() else None
    finally:
        if not gone.done():
            answer.cancel()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _hand_back_later(given: Services, claim_id: str, answer: "asyncio.Future[Envelope[Event]]") -> None:
    if given.abandoned.get(claim_id) is answer:
        del given.abandoned[claim_id]
    if answer.cancelled() or not isinstance(answer.result().data, JobClaimed):
        return
    task = asyncio.create_task(_hand_back(given, answer.result()))
    given.tasks.add(task)
    task.add_done_callback(given.tasks.discard)


async def _hand_back(given: Services, fact: Envelope[Event]) -> None:
    claimed = fact.data
    assert isinstance(claimed, JobClaimed)
    released = producer.lease_released(
        given.context(fact.correlationid),
        job_id=claimed.job_id,
        pool=claimed.pool,
        worker_id=claimed.worker_id,
        epoch=claimed.epoch,
        reason="the worker had hung up when its claim was answered",
    )
    with contextlib.suppress(LogUnavailable):  # then the lease expires by itself
        await given.append([released])
