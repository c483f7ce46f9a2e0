"""From a rerun's end to its verdict: another worker repeated the failed attempt. Pure; `planning.process` records it."""

from collections.abc import Mapping
from typing import assert_never

from events.failures import FailureRerun
from events.jobs import JobCompleted, JobFailed
from events.kinds import RerunResult, RerunSpec
from producers.failures import verdict


def verdict_on(asked: Mapping[str, RerunSpec], event: JobCompleted | JobFailed) -> FailureRerun | None:
    """Return what the end of one of these jobs tells of the failure; None when the event is no such end."""
    if (spec := asked.get(event.job_id)) is None:
        return None
    failed = spec.failed
    match event:
        case JobCompleted(result=RerunResult() as result):
            again, seconds, worker_id = result.failure, result.seconds, event.worker_id
        case JobCompleted():
            return None
        case JobFailed():  # it ended its workers: that is how the attempt may have ended, too
            again, seconds = event.failure.model_copy(update={"stage": failed.stage}), 0.0
            worker_id = event.worker_id or "unknown"
        case _:
            assert_never(event)
    return verdict(spec.failure_id, failed=failed, again=again, worker=worker_id, seconds=seconds)
