"""Progress of running jobs: topic `progress`, key = job_id. Kept for a week; nothing depends on it."""

from events.envelope import Event, Value
from events.kinds import JobKind
from events.text import MachineLine


class RungProgress(Value):
    """Progress of one rung or audio rendition inside a job."""

    name: str
    percent: float
    segments_completed: int = 0
    segments_total: int = 0


class ProgressTicked(Event, type="kinolog.progress.ticked.v1"):
    """Progress of one running job, once a second. `speed` is seconds of source per second; `percent` is 0..100."""

    job_id: str
    video_id: str
    worker_id: str
    epoch: int
    kind: JobKind
    step: MachineLine
    percent: float
    frames: int | None = None
    speed: float | None = None
    rungs: tuple[RungProgress, ...] = ()


ProgressEvent = ProgressTicked
