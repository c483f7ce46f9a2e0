"""Composition shared by both kinds of worker: the loop, a transport, a store, the tools of this machine."""

import asyncio
import os
import platform
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from events.errors import LogUnavailable
from events.kinds import KINDS, Capabilities, EncodeSpec, JobResult, JobSpec
from events.media import Failure, SystemContext
from infra.runtime import hardware as machine
from infra.runtime import metrics
from infra.runtime.binaries import ffmpeg, ffprobe
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.sampling import Sampler
from infra.runtime.settings import Settings
from infra.runtime.telemetry import telemetry_client
from infra.runtime.version import VERSION
from producers import hosts
from producers.reports import Report
from workers import telemetry
from workers.attempts.work import Limits, ObjectStore, Work
from workers.kinds import RUNNERS
from workers.loop import Identity, Outcome, Tools, Worker
from workers.sources import Sources
from workers.transcode.detect import Hardware, detect
from workers.transcode.versions import ask_versions
from workers.transport import Transport

log = structlog.get_logger(__name__)
DRAIN_S = 20.0


@dataclass(frozen=True)
class Link:
    """A worker's access to the platform: its identity, transport and store.

    `follow` calls a function with the settings in force, now and after each change; `notes` are for `/ready`. One worker of
    a machine `samples_host`.
    """

    worker_id: str
    name: str
    transport: Transport
    store: ObjectStore
    follow: Callable[[Callable[[Settings], None]], None]
    samples_host: bool
    notes: Callable[[], Mapping[str, str]] = dict


def observe(kind: str, outcome: Outcome, seconds: float) -> None:
    """Record the outcome of an attempt in the metrics."""
    metrics.WORKER_JOB_SECONDS.labels(kind, outcome).observe(seconds)


def began(spec: JobSpec) -> None:
    """Record the start of a run in the metrics."""
    metrics.WORKER_ACTIVE_JOBS.labels(spec.kind).inc()


def ended(spec: JobSpec, seconds: float, result: JobResult | None) -> None:
    """Record the end of a run in the metrics; rungs are encoded together, so each took as long as its chunk."""
    metrics.WORKER_ACTIVE_JOBS.labels(spec.kind).dec()
    if isinstance(spec, EncodeSpec) and result is not None:
        for rung in spec.plan.rungs:
            metrics.WORKER_RUNG_SECONDS.labels(rung.name).observe(seconds)


def capabilities(hardware: Hardware) -> Capabilities:
    """Return the capabilities of a worker on such a machine."""
    return Capabilities(kinds=tuple(RUNNERS), encoders=hardware.encoders, vram_bytes=hardware.vram_bytes, gpu=hardware.gpu)


def slots(named: Sequence[str], capabilities: Capabilities) -> tuple[Capabilities, ...]:
    """Return the capabilities that each slot claims with, from the setting `worker_slots`. Pure.

    Without named slots there is one for every kind, and one for light kinds beside it: sound, thumbnails and the analysis of
    the next upload do not wait for a chunk. Each slot waits for jobs by itself, so that no wait has to be cancelled because
    another slot became free.
    """
    found = []
    for name in named:
        kind, _, count = name.partition("=")
        found += [capabilities.model_copy(update={"kinds": (kind,)})] * int(count)
    light = tuple(kind for kind in capabilities.kinds if KINDS[kind].light)
    return tuple(found) or (capabilities, capabilities.model_copy(update={"kinds": light}))


@asynccontextmanager
async def reporting(settings: Settings, directory: Path) -> AsyncIterator[Callable[[Report | None], None]]:
    """Yield the receiver of telemetry reports; it drops them unless the settings name a server."""
    if not settings.telemetry_url:
        yield lambda report: None
        return
    async with telemetry_client(settings.telemetry_url, directory) as client:
        yield lambda report: client.report(report) if report is not None else None


async def sample_host(link: Link, directory: Path, every_s: float) -> None:
    """Record the figures of this machine, at intervals, until cancelled. The worker goes on without a sample that fails."""
    sampler, clock = Sampler(directory), SystemClock()
    while True:
        await clock.sleep(every_s)
        try:
            state = await asyncio.to_thread(sampler.sample)
            context, actor = system_context(f"kinolog/worker/{link.name}"), f"worker:{link.worker_id}"
            host = platform.node()
            await link.transport.append([hosts.sampled(context, host, host, state, actor=actor)])
        except LogUnavailable:
            log.debug("host_sample_lost")  # the next one may arrive
        except Exception as error:
            log.exception("host_sample_failed", error=str(error))


async def work_until_stopped(
    settings: Settings, link: Link, directory: Path, metrics_port: int, report: Callable[[Report | None], None]
) -> None:
    """Work until SIGTERM or SIGINT, in a directory emptied before and after. A second signal hands the jobs back at once."""
    shutil.rmtree(directory, ignore_errors=True)
    clock = SystemClock()
    sources = Sources(directory / "sources", link.store, bytes_max=settings.work_dir_max_bytes // 2)
    limits = Limits(threads=settings.worker_threads, memory_max_bytes=settings.ffmpeg_memory_max_bytes)

    def work(prefix: str, job_directory: Path) -> Work:
        return Work(
            prefix, job_directory, link.store, sources.used_in(job_directory), clock, ffmpeg(settings), ffprobe(settings), limits
        )

    directory.mkdir(parents=True, exist_ok=True)
    hardware = await detect(ffmpeg(settings), directory, limits)
    log.info("encoders_tried", trials={trial.encoder: trial.reason or "works" for trial in hardware.trials}, cards=hardware.cards)

    async def surroundings(job_directory: Path) -> SystemContext:
        tools = await ask_versions(ffmpeg(settings), hardware.encoders, job_directory, limits)
        return machine.system_context(link.name, job_directory, tools)

    node = telemetry.Node(VERSION, machine.processor_name())

    def run_began(spec: JobSpec) -> None:
        began(spec)
        report(telemetry.started(node, spec))

    def run_ended(spec: JobSpec, seconds: float, result: JobResult | None, failure: Failure | None) -> None:
        ended(spec, seconds, result)
        report(telemetry.finished(node, spec, seconds, result, failure))

    pool, memory = settings.worker_pool, psutil.virtual_memory().total
    worker = Worker(
        Identity(link.worker_id, link.name, pool, VERSION, os.cpu_count() or 1, memory, hardware),
        slots(settings.worker_slots, capabilities(hardware)),
        Tools(
            transport=link.transport,
            context=lambda correlation_id: system_context(f"kinolog/worker/{link.name}", correlation_id),
            clock=clock,
            runners=RUNNERS,
            work=work,
            observe=observe,
            surroundings=surroundings,
            began=run_began,
            ended=run_ended,
        ),
        directory / "jobs",
        lease_s=settings.lease_s,
        renew_s=settings.lease_renew_s,
        drain_s=DRAIN_S,
    )
    link.follow(lambda changed: worker.use(lease_s=changed.lease_s, renew_s=changed.lease_renew_s))

    async def warned() -> Mapping[str, str]:
        return link.notes()

    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, worker.stop)
    sampling = asyncio.create_task(sample_host(link, directory, settings.host_sample_s)) if link.samples_host else None
    try:
        token = settings.metrics_token.get_secret_value()
        async with metrics.serve(metrics_port, warned=warned, host=settings.bind_host, metrics_token=token):
            await worker.run()
    finally:
        if sampling is not None:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        shutil.rmtree(directory, ignore_errors=True)
