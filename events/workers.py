"""Who works here: topics `workers` and `worker-heartbeats`, key = worker_id."""

from typing import Literal

from pydantic import AwareDatetime, Field

from events.envelope import Event
from events.jobs import Capabilities, JobKind


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
    """Somebody may speak as this worker, or (`join`) fetch the key to do so, once. Neither key nor hash is ever on the log.

    `prefix` is the key's first eight characters, by which it is looked up. No pools or kinds means all of them.
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
    """The worker has a new key; the one that it replaces is good until `replaced_expires_at`."""

    worker_id: str
    key_id: str
    prefix: str
    replaced_key_id: str
    replaced_expires_at: AwareDatetime


class WorkerKeyRevoked(Event, type="kinolog.worker.key-revoked.v1"):
    """A key is good for nothing any more: an administrator took it back, or a join token was used."""

    worker_id: str
    key_id: str
    prefix: str
    reason: str


class WorkerRequestRefused(Event, type="kinolog.worker.request-refused.v1"):
    """The worker app refused requests, and why; `worker_id` is `unknown` when nobody was recognised.

    `count` requests alike since the last event about them: there is at most one a minute. `route` is a template.
    """

    worker_id: str
    key_id: str | None = None
    route: str
    status: int
    reason: str
    count: int = 1


WorkerEvent = (
    WorkerRegistered
    | WorkerHeartbeat
    | WorkerDrained
    | WorkerOffline
    | WorkerQuarantined
    | WorkerDeployed
    | WorkerRolledBack
    | WorkerKeyIssued
    | WorkerKeyRotated
    | WorkerKeyRevoked
    | WorkerRequestRefused
)
