"""Figures of a policy: sums over decided facts, recorded or replayed. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from statistics import quantiles
from typing import NamedTuple, assert_never

from events.envelope import Envelope
from events.jobs import (
    AttemptEnd,
    ClaimRefused,
    DispatchPaused,
    DispatchResumed,
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobReleased,
    LeaseExpired,
    PartAccepted,
    RequestRefused,
    ResultRefused,
)
from events.kinds import EncodeSpec, JobSpec
from events.workers import WorkerCleared, WorkerQuarantined
from processors.dispatch.state import Decided


class Figures(NamedTuple):
    """Figures of a policy. A wait lasts from the moment a job is ready to its claim; times in seconds.

    `video_mb` is the size of completed encodes in 10⁶ bytes, estimated from the bit rates of their rungs.
    """

    jobs: int
    completed: int
    failed: int
    claims: int
    retries: int
    wait_p50_s: float
    wait_p95_s: float
    makespan_s: float
    worker_s: float
    video_mb: float


def claims_of(facts: Iterable[Envelope[Decided]]) -> list[tuple[str, int, str]]:
    """Return the claims in order: job, epoch, worker."""
    return [(f.data.job_id, f.data.epoch, f.data.worker_id) for f in facts if isinstance(f.data, JobClaimed)]


def measure(facts: Sequence[Envelope[Decided]], since: datetime | None) -> Figures:
    """Return the figures from `since` on; `facts` are all facts."""
    ready: dict[str, datetime] = {}
    begun: dict[str, datetime] = {}
    waits: list[float] = []
    worked, retries, claims = 0.0, 0, 0
    specs: dict[str, JobSpec] = {}
    ended: dict[str, JobCompleted | JobFailed | JobCancelled] = {}
    times: list[datetime] = []
    for fact in facts:
        event, counts = fact.data, since is None or fact.time >= since
        match event:
            case JobQueued():
                ready[event.job_id] = fact.time
                ended.pop(event.job_id, None)
            case JobClaimed():
                if counts:
                    waits.append((fact.time - ready.get(event.job_id, fact.time)).total_seconds())
                    claims += 1
                begun[event.job_id], specs[event.job_id] = fact.time, event.spec
            case JobAttemptFailed() | LeaseExpired():
                ready[event.job_id] = event.retry_at or fact.time
                retries += counts
            case JobReleased():
                ready[event.job_id] = fact.time
            case JobCompleted() | JobFailed() | JobCancelled():
                if counts:
                    ended[event.job_id] = event
            case (
                PartAccepted()
                | ClaimRefused()
                | ResultRefused()
                | RequestRefused()
                | DispatchPaused()
                | DispatchResumed()
                | WorkerQuarantined()
                | WorkerCleared()
            ):
                pass
            case _:
                assert_never(event)
        if isinstance(event, AttemptEnd):
            start = begun.pop(event.job_id, None)
            if start is not None and counts:
                worked += (fact.time - max(start, since or start)).total_seconds()
        job_id = getattr(event, "job_id", None)
        if counts and job_id:
            times.append(fact.time)
    completed = [event.job_id for event in ended.values() if isinstance(event, JobCompleted)]
    return Figures(
        jobs=len(ready),
        completed=len(completed),
        failed=sum(isinstance(event, JobFailed) for event in ended.values()),
        claims=claims,
        retries=retries,
        wait_p50_s=round(_quantile(waits, 50), 3),
        wait_p95_s=round(_quantile(waits, 95), 3),
        makespan_s=round((max(times) - min(times)).total_seconds(), 3) if times else 0.0,
        worker_s=round(worked, 3),
        video_mb=round(sum(_megabytes(specs.get(job_id)) for job_id in completed), 3),
    )


def _megabytes(spec: JobSpec | None) -> float:
    """Return the size of an encode by its bit rates, in 10⁶ bytes; 0 for other work."""
    if not isinstance(spec, EncodeSpec):
        return 0.0
    kbps = sum(rung.video_kbps for rung in spec.plan.rungs)
    return float(kbps * spec.chunk.frames / Fraction(spec.plan.frame_rate) / 8000)


def _quantile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[percent - 1]
