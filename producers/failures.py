"""Events about failed attempts. Pure."""

from typing import Literal

from events.clock import Context
from events.envelope import Envelope, Event
from events.failures import FailureRerun, FailureResolved
from events.jobs import JobSubmitted
from events.kinds import RepeatableSpec, RerunSpec
from events.media import Failure


def resolved(context: Context, failure_id: str, *, video_id: str, reason: str) -> Envelope[Event]:
    """Report that a failure's cause is gone."""
    return _about(context, failure_id, video_id, FailureResolved(failure_id=failure_id, reason=reason))


def rerun(
    context: Context, failure_id: str, *, video_id: str, failed: Failure, again: Failure | None, worker: str, seconds: float
) -> Envelope[Event]:
    """Report a rerun's outcome, and whether it reproduced the failure: the same stage, category and code."""
    event = verdict(failure_id, failed=failed, again=again, worker=worker, seconds=seconds)
    return _about(context, failure_id, video_id, event)


def verdict(failure_id: str, *, failed: Failure, again: Failure | None, worker: str, seconds: float) -> FailureRerun:
    """Return the conclusion of a rerun."""
    same = again is not None and (again.stage, again.category, again.code) == (failed.stage, failed.category, failed.code)
    outcome: Literal["reproduced", "not_reproduced"] = "reproduced" if same else "not_reproduced"
    return FailureRerun(failure_id=failure_id, verdict=outcome, worker=worker, seconds=seconds, failure=again)


def rerun_submitted(
    context: Context, failure_id: str, *, video_id: str, pool: str, worker_id: str | None, failed: Failure, spec: RepeatableSpec
) -> Envelope[Event]:
    """Ask for a repeat of a failed job on another worker, with high priority; no output is kept."""
    again = RerunSpec(failure_id=failure_id, failed=failed, spec=spec)
    event = JobSubmitted(
        job_id=context.new_id(),
        video_id=video_id,
        pool=pool,
        spec=again,
        requirements=again.requirements().model_copy(update={"not_worker": worker_id}),
        priority="high",
    )
    return Envelope(context.new_id(), context.source, pool, context.now, event, video_id)


def _about(context: Context, failure_id: str, video_id: str, event: Event) -> Envelope[Event]:
    return Envelope(context.new_id(), context.source, failure_id, context.now, event, video_id)
