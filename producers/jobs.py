"""Requests of people about jobs. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event
from events.jobs import CancelRequested, PauseRequested, Priority, RequeueRequested, ResumeRequested, RetryRequested


def cancel_requested(context: Context, *, job_id: str, video_id: str, pool: str, reason: str) -> Envelope[Event]:
    """End a job that nobody needs."""
    event = CancelRequested(job_id=job_id, pool=pool, reason=reason)
    return Envelope(context.new_id(), context.source, pool, context.now, event, video_id)


def retry_requested(context: Context, *, job_id: str, video_id: str, pool: str, reason: str) -> Envelope[Event]:
    """Try a failed or cancelled job again."""
    event = RetryRequested(job_id=job_id, pool=pool, reason=reason)
    return Envelope(context.new_id(), context.source, pool, context.now, event, video_id)


def requeue_requested(
    context: Context, *, job_id: str, video_id: str, pool: str, reason: str, priority: Priority | None
) -> Envelope[Event]:
    """Put an unfinished job back into the queue, perhaps at another priority."""
    event = RequeueRequested(job_id=job_id, pool=pool, reason=reason, priority=priority)
    return Envelope(context.new_id(), context.source, pool, context.now, event, video_id)


def pause_requested(context: Context, *, pool: str, worker_id: str | None, drain: bool, reason: str) -> Envelope[Event]:
    """Give no more jobs to a worker, or to any worker of the pool."""
    id_ = context.new_id()
    event = PauseRequested(pool=pool, worker_id=worker_id, drain=drain, reason=reason)
    return Envelope(id_, context.source, pool, context.now, event, context.correlation_id or id_)


def resume_requested(context: Context, *, pool: str, worker_id: str | None, reason: str) -> Envelope[Event]:
    """Give jobs to a worker, or the pool, again."""
    id_ = context.new_id()
    event = ResumeRequested(pool=pool, worker_id=worker_id, reason=reason)
    return Envelope(id_, context.source, pool, context.now, event, context.correlation_id or id_)
