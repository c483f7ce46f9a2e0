"""`python -m workers [NUMBER]`: one worker with one slot; the number tells several on one machine apart."""

import asyncio
import gc
import os
import platform
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from events.jobs import Capabilities
from events.media import SystemContext
from infra.engine.endpoints import resolve
from infra.runtime import hardware, kafka, logs, metrics
from infra.runtime.binaries import ffmpeg, ffprobe
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from producers.appender import Appender
from producers.reports import Report
from producers.telemetry import TelemetryClient
from workers import telemetry
from workers.kinds import RUNNERS
from workers.loop import Identity, Outcome, Tools, Worker
from workers.sources import Sources
from workers.transcode.versions import ask_versions
from workers.transport import LogTransport
from workers.work import Limits, Work

VERSION = "0.1.0"
SOFTWARE_ENCODERS = ("libx264", "libx265", "libsvtav1")
DRAIN_S = 20.0
TELEMETRY_TIMEOUT_S = 4.0


def observe(kind: str, outcome: Outcome, seconds: float) -> None:
    """Tell Prometheus how an attempt ended."""
    metrics.WORKER_JOB_SECONDS.labels(kind, outcome).observe(seconds)


@asynccontextmanager
async def reporting(settings: Settings, number: int) -> AsyncIterator[Callable[[Report | None], None]]:
    """Yield what takes telemetry reports: it drops them unless the settings name a server."""
    if not settings.telemetry_url:
        yield lambda report: None
        return
    directory = settings.var_dir.resolve() / "telemetry" / str(number)
    async with httpx.AsyncClient(base_url=settings.telemetry_url, timeout=TELEMETRY_TIMEOUT_S) as http:
        client = TelemetryClient(http, directory, SystemClock(), new_id, random.SystemRandom())
        await client.start()
        try:
            yield lambda report: client.report(report) if report is not None else None
        finally:
            await client.stop()


async def run(settings: Settings, number: int) -> None:
    """Work until SIGTERM or SIGINT."""
    async with reporting(settings, number) as report:
        await work_until_stopped(settings, number, report)


async def work_until_stopped(settings: Settings, number: int, report: Callable[[Report | None], None]) -> None:
    """Open what a worker uses, and work."""
    name = f"{platform.node()}-{number}"
    worker_id = new_id()
    directory = settings.var_dir.resolve() / "work" / str(number)
    shutil.rmtree(directory, ignore_errors=True)
    clock = SystemClock()
    store = ObjectStore(settings)
    sources = Sources(directory / "sources", store, bytes_max=settings.work_dir_max_bytes // 2)
    appender = Appender(
        lambda: kafka.open_producer(settings),
        topic_prefix=settings.topic_prefix,
        observe_seconds=metrics.LOG_APPEND_SECONDS.observe,
    )
    transport = LogTransport(
        worker_id,
        settings.worker_pool,
        append=appender.append,
        open_consumer=lambda: kafka.open_consumer(settings, idle_ms=5000),
        context=lambda correlation_id: system_context(f"kinolog/worker/{name}", correlation_id),
        topic_prefix=settings.topic_prefix,
    )
    limits = Limits(threads=settings.worker_threads, memory_max_bytes=settings.ffmpeg_memory_max_bytes)

    def work(prefix: str, job_directory: Path) -> Work:
        return Work(prefix, job_directory, store, sources, clock, ffmpeg(settings), ffprobe(settings), limits)

    async def surroundings(job_directory: Path) -> SystemContext:
        tools = await ask_versions(ffmpeg(settings), SOFTWARE_ENCODERS, job_directory, limits)
        return hardware.system_context(name, job_directory, tools)

    node = telemetry.Node(VERSION, hardware.processor_name())
    identity = Identity(worker_id, name, settings.worker_pool, VERSION, os.cpu_count() or 1, psutil.virtual_memory().total)
    worker = Worker(
        identity,
        Capabilities(kinds=tuple(RUNNERS), encoders=SOFTWARE_ENCODERS),
        Tools(
            transport=transport,
            append=appender.append,
            context=lambda correlation_id: system_context(f"kinolog/worker/{name}", correlation_id),
            clock=clock,
            runners=RUNNERS,
            work=work,
            observe=observe,
            surroundings=surroundings,
            began=lambda spec: report(telemetry.started(node, spec)),
            ended=lambda spec, *how: report(telemetry.finished(node, spec, *how)),
        ),
        directory / "jobs",
        lease_s=settings.lease_s,
        renew_s=settings.lease_renew_s,
        drain_s=DRAIN_S,
    )
    await appender.start()
    await transport.start()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, worker.stop)
    try:
        async with metrics.serve(settings.worker_metrics_port + number - 1, host=settings.bind_host):
            await worker.run()
    finally:
        await transport.stop()
        await appender.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Start one worker."""
    settings = resolve(Settings.from_env(os.environ))
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    logs.configure(settings, f"worker-{number}")
    gc.freeze()
    asyncio.run(run(settings, number))


if __name__ == "__main__":
    main()
