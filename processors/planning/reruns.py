"""From a rerun's end to its verdict: another worker repeated the failed attempt. Pure; `planning.process` records it."""

from collections.abc import Mapping

from events.envelope import Event
from events.failures import FailureRerun
from events.jobs import JobCompleted, JobFailed
from events.kinds import RerunResult, RerunSpec
from producers.failures import verdict


def verdict_on(asked: Mapping[str, RerunSpec], event: Event) -> FailureRerun | None:
    """Return what the end of one of these jobs tells of the failure; None when the event is no such end."""
    match event:
        case JobCompleted(job_id=job_id, worker_id=worker_id, result=RerunResult(failure=again, seconds=seconds)) if (
            job_id in asked
        ):
            failed = asked[job_id].failed
        case JobFailed(job_id=job_id, failure=failure) if job_id in asked:
            failed = asked[job_id].failed  # it ended its workers: that is how the attempt may have ended, too
            again, seconds = failure.model_copy(update={"stage": failed.stage}), 0.0
            worker_id = event.worker_id or "unknown"
        case _:
            return None
    return verdict(asked[job_id].failure_id, failed=failed, again=again, worker=worker_id, seconds=seconds)
