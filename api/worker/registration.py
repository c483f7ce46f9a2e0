"""For workers: registration, signs of life, and keys."""

import hmac
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request

from api.access import Denied, check_pool
from api.problems import documented
from api.worker import models
from api.worker.services import Given, Services, Worker, address_of, required_version, version_ok
from events.workers import WorkerDeployed, WorkerDrained, WorkerHeartbeat, WorkerRegistered, WorkerRolledBack
from producers import hosts
from producers import workers as producer
from producers.keys import Key

routes = APIRouter(prefix="/api/worker", tags=["worker"], responses=documented(401))


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
    await _append_registered(given, key, about)
    fits = version_ok(about.code_version, options)
    message = "Keep the key; it is not shown again." if fits else too_old_or_new(given, about.code_version)
    return models.Registered(worker_id=key.worker_id, api_key=text, expires_at=key.expires_at, version_ok=fits, message=message)


@routes.put("/self")
async def describe(given: Given, key: Worker, about: models.WorkerSelf) -> models.Accepted:
    """Describe the worker, at each of its starts."""
    check_pool(key, about.pool)
    await _append_registered(given, key, about)
    return models.Accepted(message="Welcome")


@routes.post("/heartbeat")
async def heartbeat(given: Given, key: Worker, beat: models.Heartbeat) -> models.HeartbeatAnswer:
    """Give a sign of life."""
    context = given.context(None)
    status: Literal["idle", "busy", "draining"]
    status = ("busy" if beat.job_ids else "idle") if beat.status == "active" else beat.status
    event = WorkerHeartbeat(worker_id=key.worker_id, status=status, job_ids=beat.job_ids)
    await given.append([producer.worker_event(context, event)])
    return models.HeartbeatAnswer(
        server_time=context.now,
        required_version=required_version(given.options),
        version_ok=beat.code_version is None or version_ok(beat.code_version, given.options),
        worker_status=status,
        current_job_id=beat.job_ids[0] if beat.job_ids else None,
        last_heartbeat_recorded=context.now,
    )


@routes.post("/host")
async def host(given: Given, key: Worker, sample: models.HostSample) -> models.Accepted:
    """Report the figures of the worker's machine, every minute or so. The host is named by the worker's id."""
    actor = f"worker:{key.worker_id}"
    event = hosts.sampled(given.context(None), key.worker_id, sample.name or key.name or key.worker_id, sample.state, actor=actor)
    await given.append([event])
    return models.Accepted(message="Noted")


@routes.post("/goodbye")
async def goodbye(given: Given, key: Worker, said: models.Goodbye) -> models.Accepted:
    """Report that the worker takes no more jobs and ends."""
    await given.append([producer.worker_event(given.context(None), WorkerDrained(worker_id=key.worker_id, reason=said.reason))])
    return models.Accepted(message="Goodbye")


@routes.post("/deployment")
async def deployment(given: Given, key: Worker, said: models.Deployment) -> models.Accepted:
    """Report that another version runs on the worker's machine."""
    event: WorkerDeployed | WorkerRolledBack
    if said.event == "deployed":
        event = WorkerDeployed(worker_id=key.worker_id, version=said.version, previous_version=said.previous_version)
    else:
        event = WorkerRolledBack(
            worker_id=key.worker_id, version=said.version, previous_version=said.previous_version, reason=said.reason
        )
    await given.append([producer.worker_event(given.context(None), event)])
    return models.Accepted(message="Noted")


@routes.post("/rotate")
async def rotate(given: Given, key: Worker, wanted: models.Rotation) -> models.Registered:
    """Get another key; the present one is good for a while longer."""
    new, text = await given.access.rotate(key, overlap=timedelta(seconds=wanted.overlap_s), life=given.options.key_life)
    message = f"Keep the key; it is not shown again. The old one is good for {wanted.overlap_s} s."
    return models.Registered(worker_id=new.worker_id, api_key=text, expires_at=new.expires_at, version_ok=True, message=message)


async def _append_registered(given: Services, key: Key, about: models.WorkerSelf) -> None:
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
    await given.append([producer.worker_event(given.context(None), event)])


def too_old_or_new(given: Services, version: str) -> str:
    return f"Version {version} gets no jobs here: {required_version(given.options)} is wanted"
