"""The worker app: how long a claim takes over HTTP, whatever the queue, and what 500 workers cost."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

import httpx
import psutil

from infra.runtime import kafka
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from producers.appender import Appender
from tests.bench.dispatch import submitted
from tests.bench.figures import Figure
from tests.support.platform import Platform
from tests.support.remote import CAPABILITIES, register

RUNS = 3
CLAIMS = 150
QUEUED = 10_000
WORKERS = 500
KEYS = 10
"""Keys that the workers share: proving 500 of them would take a minute, once."""
TICK_S = 1.0
HEARTBEAT_S = 10.0
MEASURED_S = 15.0
CORES = 2
WORKERS_PER_CLIENT = 20


async def gateway(settings: Settings) -> Sequence[Figure]:
    """Claim one at a time from a short and from a long queue; then let 500 workers tick and heartbeat."""
    async with Platform(settings, workers=0, lease_s=600, worker_requests_per_minute=10_000_000) as platform:
        appender = Appender(lambda: kafka.open_producer(settings), topic_prefix=settings.topic_prefix, timeout_s=60)
        await appender.start()
        keys = [(await register(platform))["api_key"] for _ in range(KEYS)]
        await appender.append([submitted() for _ in range(CLAIMS * (RUNS + 1))])
        await _claims(platform, keys[0], CLAIMS)  # the first ones warm everything up
        short = [sorted(await _claims(platform, keys[0], CLAIMS)) for _ in range(RUNS)]
        for at in range(0, QUEUED + WORKERS, 500):
            await appender.append([submitted() for _ in range(min(500, QUEUED + WORKERS + CLAIMS * RUNS - at))])
        long = [sorted(await _claims(platform, keys[0], CLAIMS)) for _ in range(RUNS)]
        cpu, late, rates = await _crowd(platform, keys)
        await appender.stop()
    return [
        Figure("claim over the worker app, p50", "ms", [_at(waits, 0.5) for waits in short], 15, at_least=False),
        Figure("claim over the worker app, p99", "ms", [_at(waits, 0.99) for waits in short], 50, at_least=False),
        Figure(
            f"claim with {QUEUED} jobs queued, p50",
            "ms",
            [_at(waits, 0.5) for waits in long],
            1.2,
            at_least=False,
            baseline=[_at(waits, 0.5) for waits in short],
        ),
        Figure(f"{WORKERS} workers: worker app + dispatcher, of {CORES} cores", "%", cpu, 50, at_least=False),
        Figure(f"{WORKERS} workers: ticks answered", "1/s", rates, 0.95 * WORKERS / TICK_S),
        Figure(f"{WORKERS} workers: answer to a tick, p99", "ms", late),
    ]


def _at(waits: Sequence[float], share: float) -> float:
    return waits[int(len(waits) * share)]


async def _claims(platform: Platform, key: str, count: int) -> list[float]:
    """Return how long each claim took, milliseconds."""
    waits = []
    for _ in range(count):
        begun = perf_counter()
        await _claim(platform.worker, key)
        waits.append(1000 * (perf_counter() - begun))
    return waits


async def _claim(http: httpx.AsyncClient, key: str) -> dict[str, Any]:
    wish = {"claim_id": new_id(), "code_version": "0.1.0", "capabilities": CAPABILITIES}
    answer = await http.post("/api/worker/claim", json=wish, headers={"X-Worker-API-Key": key})
    job: dict[str, Any] = answer.raise_for_status().json()
    assert job["job_id"] is not None, job
    return job


async def _crowd(platform: Platform, keys: Sequence[str]) -> tuple[list[float], list[float], list[float]]:
    """Return the share of CPU, percent, the slowest hundredth of ticks, milliseconds, and ticks a second, one of each run."""
    waits: list[float] = []
    async with AsyncExitStack() as stack:
        crowd = []
        for number in range(WORKERS):
            if number % WORKERS_PER_CLIENT == 0:  # a client with hundreds of connections is slow itself
                http = await stack.enter_async_context(httpx.AsyncClient(base_url=platform.worker.base_url, timeout=60))
            key = keys[number % KEYS]
            crowd.append(asyncio.create_task(_work(http, key, await _claim(http, key), number, waits)))
        watched = [psutil.Process(platform.processes[name].pid) for name in ("worker", "dispatcher")]
        cpu, late, rates = [], [], []
        for _ in range(RUNS):
            waits.clear()
            before, begun = sum(map(_cpu_s, watched)), perf_counter()
            await asyncio.wait(crowd, timeout=MEASURED_S, return_when=asyncio.FIRST_EXCEPTION)
            cpu.append(100 * (sum(map(_cpu_s, watched)) - before) / (perf_counter() - begun) / CORES)
            late.append(_at(sorted(waits), 0.99))
            rates.append(len(waits) / (perf_counter() - begun))
        for task in crowd:
            task.cancel()
        for ended in await asyncio.gather(*crowd, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended
    return cpu, late, rates


async def _work(http: httpx.AsyncClient, key: str, job: dict[str, Any], number: int, waits: list[float]) -> None:
    """Tick once a second, and give a sign of life every ten."""
    headers = {"X-Worker-API-Key": key}
    tick = {"epoch": job["epoch"], "current_step": "encode", "progress_percent": 50.0}
    await asyncio.sleep(TICK_S * number / WORKERS)
    loop = asyncio.get_running_loop()
    due, beats = loop.time(), number
    while True:
        begun = perf_counter()
        (await http.post(f"/api/worker/{job['job_id']}/progress", json=tick, headers=headers)).raise_for_status()
        waits.append(1000 * (perf_counter() - begun))
        beats += 1
        if beats % round(HEARTBEAT_S / TICK_S) == 0:
            beat = {"status": "busy", "job_ids": [job["job_id"]]}
            (await http.post("/api/worker/heartbeat", json=beat, headers=headers)).raise_for_status()
        due += TICK_S
        await asyncio.sleep(max(0.0, due - loop.time()))


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
