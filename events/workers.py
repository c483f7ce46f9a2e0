"""Who works here: topics `workers` and `worker-heartbeats`, key = worker_id."""

from typing import Literal

from pydantic import Field

from events.envelope import Event, Value
from events.jobs import Capabilities


class GraphicsCard(Value):
    """One card, as its driver tells; `vram_bytes` is None where it shares the machine's memory or does not tell."""

    model: str
    vram_bytes: int | None = None
    driver: str | None = None


class EncoderTrial(Value):
    """Whether an encoder encoded one second of a test picture, and if not, why."""

    encoder: str
    works: bool
    reason: str | None = None


class WorkerRegistered(Event, type="kinolog.worker.registered.v1"):
    """A worker process started and says what it can do."""

    worker_id: str
    name: str = Field(max_length=255)
    pool: str
    version: str
    capabilities: Capabilities
    cpu_count: int
    memory_bytes: int
    cards: tuple[GraphicsCard, ...] | None = None
    trials: tuple[EncoderTrial, ...] | None = None


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
    """The worker failed too many jobs in a row and gets none for a while; then one, on probation.

    `times` counts quarantines without a success between them; each lasts twice as long as the one before.
    """

    worker_id: str
    pool: str
    failures: int
    seconds: float
    times: int | None = None
    reason: Literal["failures_in_row", "probation_failed"] | None = None


class WorkerCleared(Event, type="kinolog.worker.cleared.v1"):
    """The worker's quarantine is over: it did its job on probation, or a person says so."""

    worker_id: str
    pool: str
    reason: Literal["probation_passed", "resumed"]


WorkerEvent = WorkerRegistered | WorkerHeartbeat | WorkerDrained | WorkerOffline | WorkerQuarantined | WorkerCleared
