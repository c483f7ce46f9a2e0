"""Messages to listeners about an event, in the predecessor's shapes (contracts §1.2). Pure.

`progress`, `job_completed`, `job_failed`: `status` is that of the job, or of the video when `job_id` is null.
`worker_status`: the present state of a worker.
"""

from datetime import datetime
from typing import Any, NamedTuple, assert_never

from events.envelope import Recorded
from events.jobs import (
    ClaimRefused,
    DispatchPaused,
    DispatchResumed,
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFact,
    JobFailed,
    JobQueued,
    JobReleased,
    LeaseExpired,
    PartAccepted,
    RequestRefused,
    ResultRefused,
)
from events.progress import ProgressEvent, ProgressTicked
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoEvent,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
    VideoVisibilityChanged,
)
from events.workers import (
    WorkerCleared,
    WorkerDeployed,
    WorkerDrained,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerKeyIssued,
    WorkerKeyRevoked,
    WorkerKeyRotated,
    WorkerOffline,
    WorkerQuarantined,
    WorkerRegistered,
    WorkerRequestRefused,
    WorkerRolledBack,
)


class Notice(NamedTuple):
    """One message: the name of the event, its data, and its subject (a video or a worker)."""

    event: str
    about: str
    data: dict[str, Any]


def of_progress(recorded: Recorded[VideoEvent | JobFact | ProgressEvent]) -> Notice | None:
    """Return the message for listeners that follow videos; None when there is none."""
    event, time = recorded.envelope.data, recorded.envelope.time
    match event:
        case ProgressTicked():
            qualities = [
                {"name": rung.name, "status": "completed" if rung.percent >= 100 else "in_progress", "progress": rung.percent}
                for rung in event.rungs
            ]
            return _notice("progress", time, event, "processing", step=event.step, percent=event.percent, qualities=qualities)
        case JobQueued():
            return _notice("progress", time, event, "queued")
        case JobClaimed():
            return _notice("progress", time, event, "processing", step=event.spec.kind)
        case JobReleased():
            return _notice("progress", time, event, "queued")
        case JobAttemptFailed():
            return _notice("progress", time, event, "retrying", error=event.failure.message)
        case LeaseExpired():
            return _notice("progress", time, event, "retrying", error="The worker was not heard of in time.")
        case JobCancelled():
            return _notice("progress", time, event, "cancelled", error=event.reason)
        case JobCompleted():
            return _notice("job_completed", time, event, "completed", percent=100.0)
        case JobFailed():
            return _notice("job_failed", time, event, "failed", error=event.failure.message)
        case VideoPublished():
            qualities = [{"name": name, "status": "completed", "progress": 100.0} for name in event.rungs]
            return _notice("progress", time, event, "ready", percent=100.0, qualities=qualities)
        case VideoFailed():
            return _notice("progress", time, event, "failed", error=event.failure.message)
        case PartAccepted() | ClaimRefused() | ResultRefused() | RequestRefused() | DispatchPaused() | DispatchResumed():
            return None
        case (
            UploadStarted()
            | UploadAbandoned()
            | VideoUploaded()
            | VideoProbed()
            | VideoPlanned()
            | VideoRetryRequested()
            | VideoEdited()
            | VideoVisibilityChanged()
            | VideoArchived()
            | VideoRestored()
            | VideoPurged()
        ):
            return None
        case _:
            assert_never(event)


def _notice(
    name: str,
    time: datetime,
    event: Any,
    status: str,
    *,
    step: str | None = None,
    percent: float = 0.0,
    qualities: list[dict[str, Any]] | None = None,
    error: str | None = None,
) -> Notice:
    data = {
        "type": name,
        "video_id": event.video_id,
        "job_id": None if isinstance(event, VideoFailed) else getattr(event, "job_id", None),
        "current_step": step,
        "progress_percent": percent,
        "qualities": qualities or [],
        "status": status,
        "last_error": error,
        "timestamp": time.isoformat(),
    }
    return Notice(name, event.video_id, data)


def of_workers(recorded: Recorded[WorkerEvent]) -> Notice | None:
    """Return the message for listeners that follow workers; None when there is none."""
    event, time = recorded.envelope.data, recorded.envelope.time
    match event:
        case WorkerRegistered():
            return _worker(event.worker_id, time, "idle", name=event.name, pool=event.pool)
        case WorkerHeartbeat():
            return _worker(event.worker_id, time, event.status, job_ids=list(event.job_ids))
        case WorkerDrained():
            return _worker(event.worker_id, time, "gone")
        case WorkerOffline():
            return _worker(event.worker_id, time, "offline")
        case WorkerQuarantined():
            return _worker(event.worker_id, time, "quarantined")
        case (
            WorkerCleared()
            | WorkerDeployed()
            | WorkerRolledBack()
            | WorkerKeyIssued()
            | WorkerKeyRotated()
            | WorkerKeyRevoked()
            | WorkerRequestRefused()
        ):
            return None
        case _:
            assert_never(event)


def _worker(worker_id: str, time: datetime, status: str, **more: object) -> Notice:
    data = {"type": "worker_status", "worker_id": worker_id, "status": status, "timestamp": time.isoformat(), **more}
    return Notice("worker_status", worker_id, data)
