"""Routes for workers: who they are, and the life of a job they hold."""

import asyncio
import contextlib
import hmac
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request

from api.access import Denied, check_pool
from api.limits import allowing
from api.problems import Fenced, documented
from api.worker import models
from api.worker.decisions import Holding, over
from api.worker.leases import renewals
from api.worker.objects import check_part, check_result
from api.worker.services import Given, Services, Worker, address_of, required_version, version_ok
from events.envelope import Envelope, Event
from events.errors import InvalidRequest, LogUnavailable
from events.jobs import ClaimRefused, JobAttemptFailed, JobClaimed, JobCompleted, JobFailed, ResultRefused
from events.kinds import KINDS, Capabilities
from events.media import Failure, FailureStage
from events.progress import ProgressTicked, RungProgress
from events.text import Line
from events.workers import WorkerDeployed, WorkerDrained, WorkerHeartbeat, WorkerRegistered, WorkerRolledBack
from producers import workers as producer
from producers.keys import Key

DECIDED_S = 15.0
"""The dispatcher decides within milliseconds; while it is started again, within seconds."""
ANSWER_S = 60.0
"""Seconds until an answer begins: a claim waits up to 30 s for a job, a result for its objects and the dispatcher."""
ANSWERED_S = 5.0
"""How long after its deadline a claim may be answered."""
JobId = Annotated[str, Path(max_length=36, pattern=r"^[0-9a-f-]{36}$")]
NO_JOBS = {
    "no_job": "No jobs available",
    "quarantined": "This worker failed too often; it gets jobs again after a while",
    "unknown_pool": "There is no such pool",
    "paused": "The worker, or its pool, is paused",
    "draining": "The worker, or its pool, is drained: it takes no more jobs and stops",
}
FAILURES = (JobAttemptFailed, JobFailed)
routes = APIRouter(prefix="/api/worker", tags=["worker"], responses=documented(401))
held_routes = APIRouter(prefix="/api/worker/{job_id}", tags=["jobs"], responses=documented(401, 403, 404, 409))


# --- who is there ---------------------------------------------------------------------------------------------------


@routes.post("/register")
async def register(
    request: Request,
    given: Given,
    about: models.WorkerSelf,
    token: Annotated[str | None, Header(alias="X-Join-Token", description="A join token, good once.")] = None,
    secret: Annotated[str | None, Header(alias="X-Admin-Secret", description="Or the administrator's token.")] = None,
) -> models.Registered:
    """Become a worker; the answer has its key, which is shown once."""
    options = given.options
    if token is not None:
        address = address_of(request)
        key, text = await given.access.join(token, address, name=about.worker_name, pool=about.pool, life=options.key_life)
    elif secret is None:
        raise Denied("no_secret", "send `X-Join-Token: TOKEN` (`kinolog worker token` makes one) or `X-Admin-Secret`")
    elif not (expected := options.admin_secret()):
        raise Denied("no_secret_set", "the administrator's token is not on this machine; use a join token", status=503)
    else:
        with given.access.attempts.one(address_of(request)):
            if not hmac.compare_digest(secret.encode(), expected.encode()):
                raise Denied("wrong_secret", "this is not the administrator's token", status=403)
        key, text = await given.access.issue(name=about.worker_name, life=options.key_life)
    await _tell_registered(given, key, about)
    fits = version_ok(about.code_version, options)
    message = "Keep the key; it is not shown again." if fits else _too_old_or_new(given, about.code_version)
    return models.Registered(worker_id=key.worker_id, api_key=text, expires_at=key.expires_at, version_ok=fits, message=message)


@routes.put("/self")
async def describe(given: Given, key: Worker, about: models.WorkerSelf) -> models.Accepted:
    """Say what the worker is, at each of its starts."""
    check_pool(key, about.pool)
    await _tell_registered(given, key, about)
    return models.Accepted(message="Welcome")


@routes.post("/heartbeat")
async def heartbeat(given: Given, key: Worker, beat: models.Heartbeat) -> models.HeartbeatAnswer:
    """Give a sign of life."""
    context = given.context(None)
    status: Literal["idle", "busy", "draining"]
    status = ("busy" if beat.job_ids else "idle") if beat.status == "active" else beat.status
    event = WorkerHeartbeat(worker_id=key.worker_id, status=status, job_ids=beat.job_ids)
    await given.append([producer.told(context, event)])
    return models.HeartbeatAnswer(
        server_time=context.now,
        required_version=required_version(given.options),
        version_ok=beat.code_version is None or version_ok(beat.code_version, given.options),
        worker_status=status,
        current_job_id=beat.job_ids[0] if beat.job_ids else None,
        last_heartbeat_recorded=context.now,
    )


@routes.post("/goodbye")
async def goodbye(given: Given, key: Worker, said: models.Goodbye) -> models.Accepted:
    """Say that the worker takes no more jobs and goes."""
    await given.append([producer.told(given.context(None), WorkerDrained(worker_id=key.worker_id, reason=said.reason))])
    return models.Accepted(message="Goodbye")


@routes.post("/deployment")
async def deployment(given: Given, key: Worker, said: models.Deployment) -> models.Accepted:
    """Say that another version runs on the worker's machine."""
    event: WorkerDeployed | WorkerRolledBack
    if said.event == "deployed":
        event = WorkerDeployed(worker_id=key.worker_id, version=said.version, previous_version=said.previous_version)
    else:
        event = WorkerRolledBack(
            worker_id=key.worker_id, version=said.version, previous_version=said.previous_version, reason=said.reason
        )
    await given.append([producer.told(given.context(None), event)])
    return models.Accepted(message="Noted")


@routes.post("/rotate")
async def rotate(given: Given, key: Worker, wanted: models.Rotation) -> models.Registered:
    """Get another key; the present one is good for a while longer."""
    new, text = await given.access.rotate(key, overlap=timedelta(seconds=wanted.overlap_s), life=given.options.key_life)
    message = f"Keep the key; it is not shown again. The old one is good for {wanted.overlap_s} s."
    return models.Registered(worker_id=new.worker_id, api_key=text, expires_at=new.expires_at, version_ok=True, message=message)


async def _tell_registered(given: Services, key: Key, about: models.WorkerSelf) -> None:
    event = WorkerRegistered(
        worker_id=key.worker_id,
        name=about.worker_name,
        pool=about.pool,
        version=about.code_version,
        capabilities=about.capabilities,
        cpu_count=about.cpu_count,
        memory_bytes=about.memory_bytes,
        cards=about.cards,
        trials=about.trials,
    )
    await given.append([producer.told(given.context(None), event)])


def _too_old_or_new(given: Services, version: str) -> str:
    return f"Version {version} gets no jobs here: {required_version(given.options)} is wanted"


# --- claiming -------------------------------------------------------------------------------------------------------


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
        return models.Claimed(reason="version", message=_too_old_or_new(given, wish.code_version))
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
    """Ask the dispatcher. Whoever hangs up gets no job: one that was given meanwhile is handed back."""
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
    with contextlib.suppress(LogUnavailable):  # then the lease ends by itself
        await given.append([released])


# --- working --------------------------------------------------------------------------------------------------------


@held_routes.post("/progress")
async def progress(given: Given, key: Worker, job_id: JobId, said: models.Progress) -> models.ProgressAnswer:
    """Say that the job is worked on, and how far it is."""
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


@held_routes.post("/release")
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


@held_routes.post("/fail")
async def fail(given: Given, key: Worker, job_id: JobId, said: models.Fail) -> models.FailAnswer:
    """Say that the attempt failed; the answer tells whether there will be another one."""
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


@held_routes.post("/part", responses=documented(422))
@allowing(answer_s=ANSWER_S)
async def part(given: Given, key: Worker, job_id: JobId, said: models.Part) -> models.Accepted:
    """Name some of many segments before the job is done: what `complete` has too many of for one body. Part by part, from 0 on."""
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


@held_routes.post("/complete", responses=documented(422))
@allowing(answer_s=ANSWER_S)
async def complete(given: Given, key: Worker, job_id: JobId, said: models.Complete) -> models.Accepted:
    """Say that the job is done. Every object that the result names must be there; said again, it changes nothing."""
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
    """Report the end of an attempt and return the fact that takes it.

    Raises Fenced with what happened when the claim ended otherwise, in that very moment too, and LogUnavailable when nothing
    is decided in time.
    """
    assert holding.worker_id is not None
    end = given.decisions.end(holding.job_id, epoch)
    try:
        await given.decisions.held(holding.job_id, holding.worker_id, epoch)  # again: an end that came before is not waited for
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
