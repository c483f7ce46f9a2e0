"""How soon a changed setting is in force in every process, while events are appended beside."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter

import httpx

from infra.runtime.appender import appender_of
from infra.runtime.settings import Settings
from tests.bench.figures import Figure
from tests.support.counting import ticks
from tests.support.following import moved, ports_of, positions
from tests.support.platform import Platform
from tests.support.telemetry_server import TelemetryServer

RUNS = 3
CHANGES = 50
GOAL_MS = 2000
EVENTS_A_SECOND = 3000
GROUPS_A_SECOND = 10


async def changed_settings(settings: Settings) -> Sequence[Figure]:
    """Change a setting over HTTP; each process shows its position on the topic, which it moves when the change is in force."""
    async with Platform(settings, workers=1) as platform, TelemetryServer(platform.settings) as telemetry:
        ports = [*ports_of(platform), telemetry.port]
        async with loaded(platform.settings) as rates, httpx.AsyncClient(timeout=30) as http:
            runs = [[await applied_ms(platform, http, ports, number) for number in range(CHANGES)] for _ in range(RUNS)]
    name = f"changed setting in all {len(ports)} processes"
    return [
        Figure(f"{name}, p50", "ms", [sorted(run)[CHANGES // 2] for run in runs]),
        Figure(f"{name}, p99", "ms", [sorted(run)[CHANGES * 99 // 100] for run in runs], GOAL_MS, at_least=False),
        Figure("events appended beside the changes", "events/s", rates),
    ]


async def applied_ms(platform: Platform, http: httpx.AsyncClient, ports: list[int], number: int) -> float:
    """Return the milliseconds from the request until the last process applies the change."""
    before = await positions(http, ports)
    begun = perf_counter()
    answer = await platform.admin.put("/api/settings/quarantine_s", json={"value": 100 + number})
    answer.raise_for_status()
    await moved(http, before)
    return 1000 * (perf_counter() - begun)


@asynccontextmanager
async def loaded(settings: Settings) -> AsyncIterator[list[float]]:
    """Append events while the block runs; at the end the list has their number in a second."""
    appender = appender_of(settings, timeout_s=60)
    await appender.start()
    rates: list[float] = []
    appended, begun = 0, perf_counter()

    async def load() -> None:
        nonlocal appended
        while True:
            late_s = appended / EVENTS_A_SECOND - (perf_counter() - begun)
            await asyncio.sleep(max(0.0, late_s))
            await appender.append(ticks(EVENTS_A_SECOND // GROUPS_A_SECOND, jobs=20))
            appended += EVENTS_A_SECOND // GROUPS_A_SECOND

    task = asyncio.create_task(load())
    try:
        yield rates
        rates.append(appended / (perf_counter() - begun))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await appender.stop()
