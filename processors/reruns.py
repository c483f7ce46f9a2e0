"""From a rerun's end to its verdict: another worker did once more what had failed, and the log is told whether it failed again."""

from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from events.envelope import Envelope, Event, Recorded, derive
from events.jobs import JobCompleted, JobFailed, JobQueued, RerunResult, RerunSpec
from events.media import Failure
from events.topics import JOBS
from processors.process import Process
from producers.failures import verdict
from projections.fold import Projection, Table, table_row
from projections.queries import load

SOURCE = "kinolog/reruns"


@table_row
class Row:
    """A rerun: of which failed attempt, and how that had ended."""

    job_id: str
    failure_id: str
    failed: Failure


def keys_of(recorded: Recorded[Event]) -> Collection[tuple[str]]:
    """Return the rerun that the fact is about."""
    event = recorded.envelope.data
    match event:
        case JobQueued(spec=RerunSpec()) | JobCompleted(result=RerunResult()):
            return ((event.job_id,),)
        case JobFailed() if event.kind == "rerun":
            return ((event.job_id,),)
        case _:
            return ()


def evolve(row: Row | None, recorded: Recorded[Event]) -> Row | None:
    """Note what is run again."""
    event = recorded.envelope.data
    if isinstance(event, JobQueued) and isinstance(event.spec, RerunSpec):
        return row or Row(event.job_id, event.spec.failure_id, event.spec.failed)
    return row


def process(now: Callable[[], datetime]) -> Process[Row]:
    """Return the process."""

    def react(row: Row | None, recorded: Recorded[Event]) -> tuple[Row | None, list[Envelope[Event]]]:
        event = recorded.envelope.data
        if row is None:
            return row, []
        match event:
            case JobCompleted(result=RerunResult(failure=again, seconds=seconds), worker_id=worker_id):
                pass
            case JobFailed(failure=failure):  # it ended its workers: that is how the attempt may have ended, too
                again, seconds = failure.model_copy(update={"stage": row.failed.stage}), 0.0
                worker_id = event.worker_id or "unknown"
            case _:
                return row, []
        told = verdict(row.failure_id, failed=row.failed, again=again, worker=worker_id, seconds=seconds)
        return row, [derive(recorded.envelope, 0, data=told, subject=row.failure_id, source=SOURCE, time=now())]

    return Process(PROJECTION, react)


PROJECTION = Projection(
    "reruns",
    (JOBS,),
    (Table("reruns", Row, ("job_id",), keys_of, evolve),),
    load(Path(__file__).with_suffix(".sql"))["create"],
)
