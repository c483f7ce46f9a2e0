"""Who works here: topics `workers` and `worker-heartbeats`, key = worker_id."""

from typing import Literal

from pydantic import Field

from events.envelope import Event
from events.jobs import Capabilities


class WorkerRegistered(Event, type="kinolog.worker.registered.v1"):
    """A worker process started and says what it can do."""

    worker_id: str
    name: str = Field(max_length=255)
    pool: str
    version: str
    capabilities: Capabilities
    cpu_count: int
    memory_bytes: int


class WorkerHeartbeat(Event, type="kinolog.worker.heartbeat.v1"):
    """The worker is there."""

    worker_id: str
    status: Literal["idle", "busy", "draining"]
    job_ids: tuple[str, ...] = ()


class WorkerDrained(Event, type="kinolog.worker.drained.v1"):
    """The worker takes no more jobs and goes."""

    worker_id: str
    reason: str


class WorkerOffline(Event, type="kinolog.worker.offline.v1"):
    """The worker was not heard of for too long."""

    worker_id: str


class WorkerQuarantined(Event, type="kinolog.worker.quarantined.v1"):
    """The worker failed too many jobs in a row and gets none for a while."""

    worker_id: str
    pool: str
    failures: int
    seconds: float


WorkerEvent = WorkerRegistered | WorkerHeartbeat | WorkerDrained | WorkerOffline | WorkerQuarantined
