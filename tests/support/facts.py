"""Facts of one job and one worker, for folds."""

from datetime import timedelta
from typing import Any

from events.jobs import (
    JobClaimed,
    JobQueued,
)
from events.kinds import Capabilities, EncodeSpec, Requirements, Source
from events.progress import ProgressTicked, RungProgress
from events.workers import (
    EncoderTrial,
    GraphicsCard,
    WorkerHeartbeat,
    WorkerRegistered,
)
from tests.support.footage import START, VIDEO_ID, id_of, plan

PLAN = plan()
assert PLAN.video is not None
SPEC = EncodeSpec(source=Source(object_key="k", size_bytes=1), format="cmaf", plan=PLAN.video, chunk=PLAN.video.chunks[1])
KNOWN: dict[str, Any] = {"job_id": "j", "video_id": VIDEO_ID, "pool": "main"}
QUEUED = JobQueued(**KNOWN, spec=SPEC, requirements=Requirements(kind="encode"), priority="normal")
SOON = START + timedelta(minutes=1)


def claimed(epoch: int, attempt: int | None = None) -> JobClaimed:
    return JobClaimed(**KNOWN, worker_id="w", claim_id="c", epoch=epoch, attempt=attempt or epoch, lease_expires_at=SOON, spec=SPEC)


def held(epoch: int) -> dict[str, Any]:
    return {**KNOWN, "worker_id": "w", "epoch": epoch}


def ticked(percent: float, *, epoch: int = 1, job: str = "chunk 0") -> ProgressTicked:
    rungs = (RungProgress(name="720p", percent=percent / 2),)
    return ProgressTicked(
        job_id=id_of(job), video_id=VIDEO_ID, worker_id="w", epoch=epoch, kind="encode", step="encode", percent=percent, rungs=rungs
    )


REGISTERED = WorkerRegistered(
    worker_id="w",
    name="one",
    pool="main",
    version="0.1.0",
    capabilities=Capabilities(kinds=("encode",)),
    cpu_count=2,
    memory_bytes=2**33,
    cards=(GraphicsCard(model="NVIDIA T4", vram_bytes=2**34, driver="nvidia 550.54"),),
    trials=(EncoderTrial(encoder="h264_vaapi", works=False, reason="no such device"),),
)
BUSY = WorkerHeartbeat(worker_id="w", status="busy", job_ids=("j",))
