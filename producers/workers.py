"""Events that the worker app writes for workers outside the cluster, and about their keys. Pure."""

from datetime import datetime
from uuid import UUID, uuid5

from events.clock import Context
from events.envelope import Envelope, Event
from events.jobs import ClaimRequested, LeaseReleased, LeaseRenewed, PartReported, ResultReported
from events.kinds import Capabilities, JobResult
from events.media import Failure, Rendition
from events.progress import ProgressTicked
from events.workers import WorkerEvent


def worker_event(context: Context, event: WorkerEvent) -> Envelope[Event]:
    """Return an event about a worker."""
    id_ = context.new_id()
    return Envelope(id_, context.source, event.worker_id, context.now, event, id_)


def claim_requested(
    context: Context,
    *,
    claim_id: str,
    worker_id: str,
    pool: str,
    capabilities: Capabilities,
    deadline: datetime,
    process_id: str | None = None,
) -> Envelope[Event]:
    """Ask for a job. A repeat with the same `claim_id` is the same request, so that it is answered once."""
    event = ClaimRequested(worker_id=worker_id, pool=pool, capabilities=capabilities, deadline=deadline, process_id=process_id)
    return Envelope(claim_id, context.source, pool, context.now, event, claim_id)


def claim_id_of(worker_id: str, chosen: str) -> str:
    """Return the id of the request, or process, that a worker calls `chosen`: no worker can produce the id of another worker's."""
    return str(uuid5(UUID(worker_id), chosen))


def lease_renewed(context: Context, *, job_id: str, pool: str, worker_id: str, epoch: int) -> Envelope[Event]:
    """Report that the worker still works on the job."""
    return _request(context, pool, LeaseRenewed(job_id=job_id, pool=pool, worker_id=worker_id, epoch=epoch))


def lease_released(context: Context, *, job_id: str, pool: str, worker_id: str, epoch: int, reason: str) -> Envelope[Event]:
    """Hand the job back."""
    return _request(context, pool, LeaseReleased(job_id=job_id, pool=pool, worker_id=worker_id, epoch=epoch, reason=reason))


def result_reported(
    context: Context,
    *,
    job_id: str,
    pool: str,
    worker_id: str,
    epoch: int,
    result: JobResult | None = None,
    failure: Failure | None = None,
) -> Envelope[Event]:
    """Report the end of the attempt."""
    event = ResultReported(job_id=job_id, pool=pool, worker_id=worker_id, epoch=epoch, result=result, failure=failure)
    return _request(context, pool, event)


def part_reported(
    context: Context, *, job_id: str, pool: str, worker_id: str, epoch: int, part: int, renditions: tuple[Rendition, ...]
) -> Envelope[Event]:
    """Report a part of the result that will follow."""
    event = PartReported(job_id=job_id, pool=pool, worker_id=worker_id, epoch=epoch, part=part, renditions=renditions)
    return _request(context, pool, event)


def ticked(context: Context, tick: ProgressTicked) -> Envelope[Event]:
    """Report the progress of a job."""
    id_ = context.new_id()
    return Envelope(id_, context.source, tick.job_id, context.now, tick, context.correlation_id or id_)


def _request(context: Context, pool: str, event: Event) -> Envelope[Event]:
    id_ = context.new_id()
    return Envelope(id_, context.source, pool, context.now, event, context.correlation_id or id_)
