"""The worker app: how long a claim takes over HTTP, whatever the queue, and what 500 workers cost."""

import asyncio
import json
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import httpx
import psutil

from infra.runtime.appender import appender_of
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from tests.bench.bare import round_trips
from tests.bench.crowd import TICK_S
from tests.bench.dispatch import submitted
from tests.bench.figures import Figure
from tests.bench.pace import slower
from tests.support.platform import ROOT, Platform
from tests.support.remote import CAPABILITIES, register

RUNS = 3
CLAIMS = 150
QUEUED = 10_000
WORKERS = 500
KEYS = 10
"""Keys that the workers share: proving 500 of them would take a minute, once."""
MEASURED_S = 12.0
CORES = 2
CPU_PERCENT = 50
"""Of all cores at REFERENCE_PACE."""


async def gateway(settings: Settings) -> Sequence[Figure]:
    """Claim one at a time from a short and from a long queue; then let 500 workers tick and heartbeat."""
    crowded: dict[str, Any] = {
        "worker_requests_per_minute": 10_000_000,
        "connections_waiting_max": 2 * WORKERS,
    }  # all from one address
    async with Platform(settings, workers=0, lease_s=600, **crowded) as platform:
        appender = appender_of(settings, timeout_s=60)
        await appender.start()
        keys = [(await register(platform))["api_key"] for _ in range(KEYS)]
        await appender.append([submitted() for _ in range(CLAIMS * (RUNS + 1))])
        await _claims(platform, keys[0], CLAIMS)  # the first ones warm everything up
        bare = await round_trips(settings, CLAIMS * RUNS)
        short = [sorted(await _claims(platform, keys[0], CLAIMS)) for _ in range(RUNS)]
        for at in range(0, QUEUED + WORKERS, 500):
            await appender.append([submitted() for _ in range(min(500, QUEUED + WORKERS + CLAIMS * RUNS - at))])
        long = [sorted(await _claims(platform, keys[0], CLAIMS)) for _ in range(RUNS)]
        crowd = await _crowd(platform, keys)
        await appender.stop()
    return [
        _claim_figure(short, bare, 0.5, 25),
        _claim_figure(short, bare, 0.99, 25),
        Figure(
            f"claim with {QUEUED} jobs queued, p50",
            "ms",
            [_at(waits, 0.5) for waits in long],
            1.2,
            at_least=False,
            baseline=[_at(waits, 0.5) for waits in short],
        ),
        Figure(
            f"{WORKERS} workers: worker app + dispatcher, of {CORES} cores, at this pace",
            "%",
            [run["cpu"] for run in crowd],
            1,
            at_least=False,
            baseline=[CPU_PERCENT * run["slower"] for run in crowd],
        ),
        Figure(
            f"{WORKERS} workers: ticks answered, of those sent",
            "1/s",
            [run["rate"] for run in crowd],
            0.95,
            baseline=[WORKERS / TICK_S] * RUNS,
        ),
        Figure(f"{WORKERS} workers: answer to a tick, p50", "ms", [run["p50_ms"] for run in crowd]),
        Figure(f"{WORKERS} workers: answer to a tick, p99", "ms", [run["p99_ms"] for run in crowd]),
    ]


def _claim_figure(waits: Sequence[Sequence[float]], bare: Sequence[float], share: float, goal: float) -> Figure:
    name = f"claim over the worker app, p{share * 100:.0f}, of a bare record"
    return Figure(name, "ms", [_at(run, share) for run in waits], goal, at_least=False, baseline=[_at(bare, share)] * len(waits))


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


async def _crowd(platform: Platform, keys: Sequence[str]) -> list[dict[str, float]]:
    """Return, of each run, ticks a second, how late answers were, and the share of all cores that the server took, percent."""
    claims = []
    for number in range(WORKERS):
        key = keys[number % KEYS]
        job = await _claim(platform.worker, key)
        claims.append({"job_id": job["job_id"], "epoch": job["epoch"], "key": key})
    watched = [psutil.Process(platform.processes[name].pid) for name in ("worker", "dispatcher")]
    load = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.crowd", str(platform.worker.base_url.port), str(MEASURED_S), str(RUNS)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert load.stdin is not None and load.stdout is not None
    load.stdin.write(json.dumps(claims).encode())
    load.stdin.close()
    found = []
    for _ in range(RUNS):
        await load.stdout.readline()  # the run begins
        before, begun = sum(map(_cpu_s, watched)), perf_counter()
        line = json.loads(await load.stdout.readline())
        cpu = 100 * (sum(map(_cpu_s, watched)) - before) / (perf_counter() - begun) / CORES
        found.append(line | {"cpu": cpu, "slower": slower()})
    await load.wait()
    return found


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
