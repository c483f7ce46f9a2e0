"""Workers: their registrations and latest heartbeats; table `workers`.

Topics `workers` and `worker-heartbeats` fill separate columns, because topics have no common order.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, assert_never, cast

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.envelope import Recorded
from events.kinds import Capabilities
from events.topics import WORKER_HEARTBEATS, WORKERS
from events.workers import (
    EncoderTrial,
    GraphicsCard,
    WorkerCleared,
    WorkerDeployed,
    WorkerDrained,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerKeyEvent,
    WorkerLife,
    WorkerOffline,
    WorkerQuarantined,
    WorkerRegistered,
    WorkerRequestRefused,
    WorkerRolledBack,
)
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load
from projections.folding.repeats import once
from projections.short_ids import whole_id

OFFLINE_AFTER = timedelta(seconds=60)
Presence = Literal["idle", "busy", "draining", "gone", "offline", "quarantined", "paused"]
_SQL = load(Path(__file__).with_name("workers.sql"))


@table_row
class Worker:
    """One worker process, from its start to its end.

    `heartbeat_at`, `status` and `job_ids` come from topic `worker-heartbeats`, the rest from `workers`. `seen`: see
    `projections.folding.repeats`.
    """

    worker_id: str
    name: str | None = None
    pool: str | None = None
    version: str | None = None
    capabilities: Capabilities | None = None
    cpu_count: int | None = None
    memory_bytes: int | None = None
    cards: tuple[GraphicsCard, ...] = ()
    trials: tuple[EncoderTrial, ...] = ()
    registered_at: datetime | None = None
    drained_at: datetime | None = None
    offline_at: datetime | None = None
    quarantined_until: datetime | None = None
    heartbeat_at: datetime | None = None
    status: str | None = None
    job_ids: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


def keys_of(recorded: Recorded[WorkerEvent]) -> Collection[tuple[str]]:
    """Return the key of the worker."""
    event = recorded.envelope.data
    if isinstance(event, (WorkerHeartbeat, WorkerLife)):
        return ((event.worker_id,),)
    if isinstance(event, (WorkerDeployed, WorkerRolledBack, WorkerKeyEvent, WorkerRequestRefused)):
        return ()
    assert_never(event)


def evolve(worker: Worker | None, recorded: Recorded[WorkerHeartbeat | WorkerLife]) -> Worker | None:
    """Fold both topics, each into its own columns."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if not isinstance(event, WorkerHeartbeat):
        return _evolve_life(worker, cast("Recorded[WorkerLife]", recorded))
    if worker is not None and worker.heartbeat_at is not None and time <= worker.heartbeat_at:
        return worker
    return replace(worker or Worker(event.worker_id), heartbeat_at=time, status=event.status, job_ids=event.job_ids)


@once
def _evolve_life(worker: Worker | None, recorded: Recorded[WorkerLife]) -> Worker | None:
    event, time = recorded.envelope.data, recorded.envelope.time
    match event:
        case WorkerRegistered():
            return replace(
                worker or Worker(event.worker_id),
                name=event.name,
                pool=event.pool,
                version=event.version,
                capabilities=event.capabilities,
                cpu_count=event.cpu_count,
                memory_bytes=event.memory_bytes,
                cards=event.cards or (),
                trials=event.trials or (),
                registered_at=time,
                drained_at=None,
                offline_at=None,
            )
        case WorkerDrained():
            return replace(worker or Worker(event.worker_id), drained_at=time)
        case WorkerOffline():
            return replace(worker or Worker(event.worker_id), offline_at=time)
        case WorkerQuarantined():
            return replace(worker or Worker(event.worker_id), quarantined_until=_later(time, event.seconds))
        case WorkerCleared():
            return replace(worker or Worker(event.worker_id), quarantined_until=None)
        case _:
            assert_never(event)


def _later(time: datetime, seconds: float) -> datetime:
    """Return the moment `seconds` later, at most the last representable one: a fold must not fail."""
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


PROJECTION = Projection(
    "workers", (WORKERS, WORKER_HEARTBEATS), (Table("workers", Worker, ("worker_id",), keys_of, evolve),), _SQL["create"]
)

# --- readers --------------------------------------------------------------------------------------------------------

_WORKER = TypeAdapter(Worker)


def heard_at(worker: Worker) -> datetime | None:
    """Return the time of the worker's latest sign of life."""
    return max((time for time in (worker.heartbeat_at, worker.registered_at) if time is not None), default=None)


def presence(worker: Worker, now: datetime, *, paused: bool = False, drained: bool = False) -> Presence:
    """Return the worker's state at `now`, as shown to people; the dispatcher may have paused or drained it. Pure."""
    if worker.drained_at is not None:
        return "gone"
    heard = heard_at(worker)
    if heard is None or now - heard > OFFLINE_AFTER or (worker.offline_at is not None and worker.offline_at >= heard):
        return "offline"
    if worker.quarantined_until is not None and now < worker.quarantined_until:
        return "quarantined"
    if drained or worker.status == "draining":
        return "draining"
    if worker.status == "busy":
        return "busy"
    return "paused" if paused else "idle"


async def listing(connection: AsyncConnection[Any], limit: int = 100) -> Sequence[Worker]:
    """Return workers, the most recently registered first."""
    cursor = await connection.execute(_SQL["listing"], {"limit": limit})
    return [_WORKER.validate_json(text) for (text,) in await cursor.fetchall()]


async def id_of(connection: AsyncConnection[Any], which: str) -> str:
    """Return the id of the worker `which`, an id or part of one. Raises InvalidRequest for an ambiguous part."""
    return await whole_id(connection, _SQL["by_part"], which)


async def by_id(connection: AsyncConnection[Any], worker_id: str) -> Worker | None:
    """Return one worker."""
    cursor = await connection.execute(_SQL["by_id"], {"worker_id": worker_id})
    found = await cursor.fetchone()
    return _WORKER.validate_json(found[0]) if found else None


async def pools(connection: AsyncConnection[Any]) -> Sequence[str]:
    """Return the pools for which workers have registered."""
    cursor = await connection.execute(_SQL["pools"])
    return [pool for (pool,) in await cursor.fetchall()]


async def silent(connection: AsyncConnection[Any], since: datetime, limit: int = 100) -> Sequence[Worker]:
    """Return workers silent since `since` that have neither signed off nor been reported offline."""
    cursor = await connection.execute(_SQL["silent"], {"since": since, "limit": limit})
    return [_WORKER.validate_json(text) for (text,) in await cursor.fetchall()]
