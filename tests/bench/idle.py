"""What an idle platform takes: everything that `make start` starts, with one worker and the local engine, for a minute."""

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from infra.local import supervision
from infra.local.engine import postgres
from infra.local.engine.configs import directories
from infra.runtime.settings import PREFIX, Settings
from tests.bench.figures import Figure
from tests.bench.pace import slower
from tests.support.engine import free_ports
from tests.support.platform import environment

SETTLE_S = 20.0
WINDOW_S = 20.0
RUNS = 3
IDLE_PERCENT = 10
"""Of one core at REFERENCE_PACE."""
MB = 1e6
PORTS = (
    *("kafka_port", "kafka_controller_port", "postgres_port", "s3_port", "public_port", "admin_port", "worker_port"),
    *("telemetry_port", "processors_port", "dispatcher_port", "worker_metrics_port"),
)


async def idle(settings: Settings) -> Sequence[Figure]:
    """Measure memory, pages that processes share counted for each (RSS) and once (PSS), and processor time."""
    directory = settings.var_dir.parent / "idle"
    local = Settings(var_dir=directory, workers=1, **dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    with _running(local):
        await asyncio.sleep(SETTLE_S)
        resident, shared_once, busy, allowed = [], [], [], []
        for _ in range(RUNS):
            before = _seconds(local)
            await asyncio.sleep(WINDOW_S)
            after = _seconds(local)
            allowed.append(IDLE_PERCENT * slower())
            busy.append(100 * sum(spent - before.get(process, 0.0) for process, spent in after.items()) / WINDOW_S)
            memory = [process.memory_full_info() for process in after]
            resident.append(sum(info.rss for info in memory) / MB)
            shared_once.append(sum(info.pss for info in memory) / MB)
    return [
        Figure("idle platform, memory (RSS)", "MB", resident, 1600, at_least=False),
        Figure("idle platform, memory (PSS)", "MB", shared_once, 1600, at_least=False),
        Figure("idle platform, of one core, at this pace", "%", busy, 1, at_least=False, baseline=allowed),
    ]


@contextmanager
def _running(local: Settings) -> Iterator[None]:
    given = {name: value for name, value in environment(local).items() if name.startswith(PREFIX)}
    os.environ.update(given)  # the supervisor hands it down
    try:
        supervision.start(local)
        yield
    finally:
        supervision.stop(local)
        for name in given:
            del os.environ[name]
        shutil.rmtree(postgres.data_directory(local), ignore_errors=True)


def _seconds(local: Settings) -> dict[psutil.Process, float]:
    """Return the processor time of every process of the platform, the supervisor and PostgreSQL's connections included."""
    supervisor = psutil.Process(int((directories(local).run / "supervisord.pid").read_text()))
    found = {}
    for process in (supervisor, *supervisor.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a connection that was closed just now
            times = process.cpu_times()
            found[process] = times.user + times.system
    return found
