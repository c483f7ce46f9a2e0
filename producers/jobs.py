"""What people ask of jobs. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event
from events.jobs import CancelRequested, RetryRequested


def cancel_requested(context: Context, *, job_id: str, video_id: str, pool: str, reason: str) -> Envelope[Event]:
    """End a job that nobody needs."""
    event = CancelRequested(job_id=job_id, pool=pool, reason=reason)
    return Envelope(context.new_id(), context.source, pool, context.now, event, video_id)


def retry_requested(context: Context, *, job_id: str, video_id: str, pool: str, reason: str) -> Envelope[Event]:
    """Try a failed or cancelled job again."""
    event = RetryRequested(job_id=job_id, pool=pool, reason=reason)
    return Envelope(context.new_id(), context.source, pool, context.now, event, video_id)
