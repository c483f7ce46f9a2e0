"""Repeats a failed attempt on this machine with the worker's own code; its results are deleted."""

import platform
import time
from pathlib import Path
from typing import NamedTuple

from events.media import Failure, SystemContext
from events.objects import rerun_prefix
from infra.runtime import hardware
from infra.runtime.binaries import ffmpeg, ffprobe
from infra.runtime.clock import SystemClock, new_id
from infra.runtime.objects import ObjectStore
from infra.runtime.scratch import scratch
from infra.runtime.settings import Settings
from projections.failures.capsule import Capsule
from workers.attempts.attempt import attempt
from workers.attempts.work import Limits, Progress, Work
from workers.kinds import RUNNERS
from workers.sources import Sources
from workers.transcode.versions import ENCODERS, ask_versions


class Outcome(NamedTuple):
    """Result of a rerun; `failure` is None when it succeeded."""

    worker: str
    seconds: float
    failure: Failure | None


async def rerun(settings: Settings, capsule: Capsule) -> Outcome:
    """Run the capsule's job once, with this machine's limits. Its objects have a prefix of their own, and are deleted."""
    worker = platform.node()
    store = ObjectStore(settings)
    prefix = rerun_prefix(capsule.job_id, new_id())
    limits = Limits(threads=settings.worker_threads, memory_max_bytes=settings.ffmpeg_memory_max_bytes)
    with scratch(settings) as folder:
        sources = Sources(folder / "sources", store, bytes_max=settings.work_dir_max_bytes // 2)
        job = folder / "job"
        work = Work(prefix, job, store, sources.used_in(job), SystemClock(), ffmpeg(settings), ffprobe(settings), limits)

        async def surroundings(directory: Path) -> SystemContext:
            tools = await ask_versions(ffmpeg(settings), tuple(ENCODERS), directory, limits)
            return hardware.system_context(worker, directory, tools)

        async def ignore(progress: Progress) -> None:
            """Ignore progress: a rerun has no watcher."""

        started = time.monotonic()
        try:
            made = await attempt(capsule.spec, RUNNERS[capsule.spec.kind], work, surroundings, ignore)
        finally:
            await store.delete_prefix(prefix)
    return Outcome(worker, round(time.monotonic() - started, 3), made if isinstance(made, Failure) else None)
