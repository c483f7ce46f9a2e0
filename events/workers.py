"""Workers: topics `workers` and `worker-heartbeats`, key = worker_id."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from events.envelope import Event, Value
from events.kinds import Capabilities, JobKind
from events.text import MachineLine, machine_line


class GraphicsCard(Value):
    """One card, as its driver reports it. `vram_bytes` is None when it shares the machine's memory or reports none."""

    model: MachineLine
    vram_bytes: int | None = None
    driver: MachineLine | None = None


class EncoderTrial(Value):
    """Trial of an encoder on one second of a test picture, with the reason when it failed."""

    encoder: MachineLine
    works: bool
    reason: MachineLine | None = None


class WorkerRegistered(Event, type="kinolog.worker.registered.v1"):
    """A worker process started and reports its capabilities."""

    worker_id: str
    name: Annotated[str, machine_line(255)] = Field(max_length=255)
    pool: str
    version: MachineLine
    capabilities: Capabilities
    cpu_count: int
    memory_bytes: int
    cards: tuple[GraphicsCard, ...] | None = None
    trials: tuple[EncoderTrial, ...] | None = None


class WorkerHeartbeat(Event, type="kinolog.worker.heartbeat.v1"):
    """The worker is alive."""

    worker_id: str
    status: Literal["idle", "busy", "draining"]
    job_ids: tuple[str, ...] = ()


class WorkerDrained(Event, type="kinolog.worker.drained.v1"):
    """The worker takes no more jobs and leaves."""

    worker_id: str
    reason: MachineLine


class WorkerOffline(Event, type="kinolog.worker.offline.v1"):
    """The worker was silent for too long."""

    worker_id: str


class WorkerQuarantined(Event, type="kinolog.worker.quarantined.v1"):
    """The worker failed too many jobs in a row. It gets none for a while, then one on probation.

    `times` counts quarantines without a success between them; each lasts twice as long as the previous one.
    """

    worker_id: str
    pool: str
    failures: int
    seconds: float
    times: int | None = None
    reason: Literal["failures_in_row", "probation_failed"] | None = None


class WorkerCleared(Event, type="kinolog.worker.cleared.v1"):
    """The worker's quarantine is over: it completed its job on probation, or a person ended it."""

    worker_id: str
    pool: str
    reason: Literal["probation_passed", "resumed"]


class WorkerDeployed(Event, type="kinolog.worker.deployed.v1"):
    """Another version runs on the worker's machine."""

    worker_id: str
    version: str
    previous_version: str | None = None


class WorkerRolledBack(Event, type="kinolog.worker.rolled-back.v1"):
    """The worker's machine went back to an older version."""

    worker_id: str
    version: str
    previous_version: str | None = None
    reason: str = ""


class WorkerKeyIssued(Event, type="kinolog.worker.key-issued.v1"):
    """The holder of the key may act as this worker, or (`join`) fetch such a key once. Key and hash are never on the log.

    `prefix` is the key's first eight characters and serves to look it up. No pools or kinds means all of them.
    """

    worker_id: str
    key_id: str
    prefix: str
    purpose: Literal["work", "join"]
    name: str = ""
    pools: tuple[str, ...] = ()
    kinds: tuple[JobKind, ...] = ()
    expires_at: AwareDatetime | None = None


class WorkerKeyRotated(Event, type="kinolog.worker.key-rotated.v1"):
    """The worker has a new key; the replaced key stays valid until `replaced_expires_at`."""

    worker_id: str
    key_id: str
    prefix: str
    replaced_key_id: str
    replaced_expires_at: AwareDatetime


class WorkerKeyRevoked(Event, type="kinolog.worker.key-revoked.v1"):
    """A key is no longer valid: an administrator revoked it, or a join token was used."""

    worker_id: str
    key_id: str
    prefix: str
    reason: str


class WorkerRequestRefused(Event, type="kinolog.worker.request-refused.v1"):
    """The worker app refused requests, and why. `worker_id` is `unknown` when no worker was recognised.

    `count` is the number of similar requests since the last event about them; there is at most one event a minute. `route`
    is a template.
    """

    worker_id: str
    key_id: str | None = None
    route: str
    status: int
    reason: str
    count: int = 1


WorkerLife = WorkerRegistered | WorkerDrained | WorkerOffline | WorkerQuarantined | WorkerCleared
"""Events that decide whether a worker is present and may have jobs."""
WorkerKeyEvent = WorkerKeyIssued | WorkerKeyRotated | WorkerKeyRevoked
WorkerEvent = WorkerLife | WorkerHeartbeat | WorkerDeployed | WorkerRolledBack | WorkerKeyEvent | WorkerRequestRefused
