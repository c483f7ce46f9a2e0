"""`python -m workers [NUMBER]`: one worker with one slot inside the cluster; the number distinguishes several on one machine."""

import asyncio
import gc
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from aiokafka.errors import KafkaConnectionError

from events.errors import KinologError
from infra.local.engine.endpoints import resolve
from infra.runtime import kafka, logs
from infra.runtime.appender import appender_of
from infra.runtime.clock import new_id, system_context
from infra.runtime.folders import keep_private, private_folder
from infra.runtime.objects import ObjectStore
from infra.runtime.refused_credentials import explained
from infra.runtime.settings import Settings
from infra.runtime.watchdog import Watchdog
from infra.settings.live import live_settings
from workers.app import Link, reporting, work_until_stopped
from workers.transport import LogTransport


def identity(file: Path, new_id: Callable[[], str]) -> str:
    """Return the worker's id. It outlives the process, so a new process at once frees the jobs that a killed one held."""
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.write_text(new_id())
        fresh.replace(file)
    return file.read_text()


async def run(settings: Settings, number: int) -> None:
    """Work until SIGTERM or SIGINT. Raises PortTaken, KafkaConnectionError."""
    directory = private_folder(settings.var_dir / "work") / str(number)
    name, worker_id = f"{platform.node()}-{number}", identity(directory.with_suffix(".id"), new_id)
    appender = appender_of(settings)
    transport = LogTransport(
        worker_id,
        settings.worker_pool,
        process_id=new_id(),
        append=appender.append,
        open_consumer=lambda: kafka.open_consumer(settings, idle_ms=5000),
        context=lambda correlation_id: system_context(f"kinolog/worker/{name}", correlation_id),
        topic_prefix=settings.topic_prefix,
    )
    watchdog = Watchdog(settings.stall_max_s)
    watchdog.start()
    await appender.start()  # first: it reports a platform that is away in a sentence
    try:
        async with (
            live_settings(settings, watchdog.pulse) as followers,
            reporting(settings, settings.var_dir / "telemetry" / str(number)) as report,
        ):
            await transport.start()
            try:
                live = followers.live
                link = Link(worker_id, name, transport, ObjectStore(settings), live.use, number == 1, followers.notes)
                port = settings.worker_metrics_port + number - 1
                await work_until_stopped(live.settings, link, directory, port, report)
            finally:
                await transport.stop()
    finally:
        await appender.stop()


def main() -> None:
    """Start one worker."""
    keep_private()
    settings = resolve(Settings.from_env(os.environ), "worker")
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    logs.configure(settings, f"worker-{number}")
    gc.freeze()
    try:
        with explained(settings, "worker"):
            asyncio.run(run(settings, number))
    except KafkaConnectionError:
        sys.exit(f"kinolog worker: no Kafka answers at {settings.kafka_bootstrap}; is the platform up, and this its folder?")
    except KinologError as error:
        sys.exit(f"kinolog worker: {error}")


if __name__ == "__main__":
    main()
