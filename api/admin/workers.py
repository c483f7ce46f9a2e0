"""For administrators: workers and pools, and pauses of them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.admin.models import FOUND, AcceptedDispatch, Page, Paused, Reason, WorkerShown
from api.admin.services import Given, Services, moment, reading, write
from api.services import Limit
from events.errors import NotFound
from events.text import Line
from producers import jobs as jobs_producer
from projections import jobs, workers
from projections.workers import Worker

routes = APIRouter(tags=["managing"])
WorkerId = Annotated[Line, Path(max_length=100, description="A worker's id, or eight characters or more of it.")]
PoolName = Annotated[Line, Path(max_length=255)]


class Pause(Reason):
    """The reason, and whether workers stop when their jobs are done."""

    drain: bool = False


@routes.get("/api/workers")
async def list_workers(given: Given, response: Response, limit: Limit = 100) -> Page[WorkerShown]:
    """List workers, the latest first, with their present jobs, and with the reason if they get none."""
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
    """Give a worker no more jobs; its present jobs go on. With `drain` it stops after them."""
    pool, whole = await _worker(given, worker_id)
    return await _pause(given, response, pool, whole, wanted)


@routes.post("/api/workers/{worker_id}/resume", status_code=202, responses=FOUND)
async def resume_worker(given: Given, response: Response, worker_id: WorkerId, reason: Reason | None = None) -> AcceptedDispatch:
    """Give a worker jobs again; this ends a quarantine, too."""
    pool, whole = await _worker(given, worker_id)
    return await _resume(given, response, pool, whole, reason)


@routes.post("/api/pools/{pool}/pause", status_code=202, responses=FOUND)
async def pause_pool(given: Given, response: Response, pool: PoolName, wanted: Pause | None = None) -> AcceptedDispatch:
    """Give the workers of a pool no more jobs; present jobs go on. With `drain` the workers stop after them."""
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
    """Return pool and id of the worker with this id or part of one. Raises NotFound for a worker that never registered."""
    async with given.pool.connection() as connection:
        worker = await workers.by_id(connection, await workers.id_of(connection, which))
    if worker is None or worker.pool is None:
        raise NotFound(f"there is no worker {which}")
    return worker.pool, worker.worker_id


async def _known_pool(given: Services, pool: str) -> str:
    """Return the pool's name. Raises NotFound for a pool without workers and owner: its pause would wait for ever, unseen."""
    async with given.pool.connection() as connection:
        known = given.options.pools + tuple(await workers.pools(connection))
    if pool not in known:
        raise NotFound(f"there is no pool {pool}; there are: {', '.join(sorted(set(known)))}")
    return pool
