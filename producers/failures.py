"""What is said about failed attempts. Pure."""

from typing import Literal

from events.clock import Context
from events.envelope import Envelope, Event
from events.failures import FailureRerun, FailureResolved
from events.media import Failure


def resolved(context: Context, failure_id: str, *, video_id: str, reason: str) -> Envelope[Event]:
    """Say that a failure's cause is gone."""
    return _about(context, failure_id, video_id, FailureResolved(failure_id=failure_id, reason=reason))


def rerun(
    context: Context, failure_id: str, *, video_id: str, failed: Failure, again: Failure | None, worker: str, seconds: float
) -> Envelope[Event]:
    """Tell how a rerun ended, and whether the failure came again: the same stage, category and code."""
    same = again is not None and (again.stage, again.category, again.code) == (failed.stage, failed.category, failed.code)
    verdict: Literal["reproduced", "not_reproduced"] = "reproduced" if same else "not_reproduced"
    event = FailureRerun(failure_id=failure_id, verdict=verdict, worker=worker, seconds=seconds, failure=again)
    return _about(context, failure_id, video_id, event)


def _about(context: Context, failure_id: str, video_id: str, event: Event) -> Envelope[Event]:
    return Envelope(context.new_id(), context.source, failure_id, context.now, event, video_id)
