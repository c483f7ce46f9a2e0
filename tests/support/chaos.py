"""Calamities that befall a platform at work, drawn by a seed: processes killed and paused, networks cut, disks full.

Each calamity is an effect with an end: what it stopped goes on, what it cut is mended, what it filled has room again. What
it killed is started again by whoever does so in real life: supervisord for the engine, `Platform` for its processes, `Far`
for workers on other machines.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import httpx

from infra.local import supervision
from infra.local.engine.configs import directories
from infra.runtime.settings import Settings
from tests.support.disks import fill, resize, small_disk
from tests.support.platform import Platform
from tests.support.remote import RemoteWorker, start_worker, token
from tests.support.waiting import eventually
from tests.support.wire import Wire, wire

LEASE_S = 3.0
SETTINGS = {
    "lease_s": LEASE_S,
    "lease_renew_s": 0.5,
    "backoff_base_s": 0.05,
    "attempts_max": 100,
    "quarantine_after": 1000,
    "chunk_s": 4.0,
    "segment_s": 2.0,
    "worker_threads": 1,
}
"""Attempts without number: whatever befalls a job, nothing but its work decides how it ends."""
ROOM = "4g"
"""Of the store's disk, and of each far worker's: for 50 rounds, whose 350 videos of 7 MB stay."""
FAR_WORKERS = 2
AT_ONCE = 3
"""Calamities that befall together."""
UNFINISHED = 2
"""Videos that are being made at any time."""
FED_S = 3600.0
"""How long the next upload may be waited for: `Work.moved` says sooner when nothing goes on."""


class Far:
    """A worker on another machine, with a network and a disk of its own; started again whenever it ends."""

    def __init__(self, network: Wire, worker_id: str, token: str, directory: Path, disk: Path) -> None:
        self.network = network
        self.worker_id = worker_id
        self.disk = disk
        self._token = token
        self._directory = directory
        self.worker: RemoteWorker | None = None
        self.stopping = False

    async def keep_running(self) -> None:
        """Start it, again and again."""
        while not self.stopping:
            settings = {name: SETTINGS[name] for name in ("lease_s", "lease_renew_s", "worker_threads")}
            self.worker = await start_worker(self.network.url, self._token, self._directory, **settings)
            await self.worker.process.wait()

    async def stop(self) -> None:
        """Let it go in peace, also while it starts."""
        self.stopping = True
        assert self.worker is not None
        if self.worker.process.returncode is None:
            assert await self.worker.stop() in (0, -signal.SIGTERM), self.worker.log.read_text()[-3000:]


@dataclass
class World:
    """A platform with a worker of its own and workers elsewhere."""

    platform: Platform
    engine: Settings
    far: list[Far]
    store_disk: Path
    rng: Random

    def some_worker(self) -> Far:
        """Return one of the workers elsewhere."""
        return self.rng.choice(self.far)

    def process_of(self, far: Far) -> asyncio.subprocess.Process:
        """Return the process of a worker elsewhere."""
        assert far.worker is not None
        return far.worker.process


@asynccontextmanager
async def world(settings: Settings, engine: Settings, directory: Path, seed: int) -> AsyncIterator[World]:
    """Yield a world in which everything runs."""
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(directories(engine).objects / settings.s3_bucket, ROOM))
        platform = await stack.enter_async_context(Platform(settings, workers=1, supervised=True, **SETTINGS))
        far = []
        for number in range(FAR_WORKERS):
            home = directory / f"far-{number}"
            here = stack.enter_context(small_disk(home / "here", ROOM))
            network = await stack.enter_async_context(wire("127.0.0.1", platform.settings.worker_port))
            made = await token(platform)
            far.append(Far(network, made["worker_id"], made["token"], home, here))
        keeping = [asyncio.create_task(one.keep_running()) for one in far]
        try:
            await _joined(platform)
            yield World(platform, engine, far, disk, Random(seed))
            await asyncio.gather(*(one.stop() for one in far))
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            for one in far:
                if one.worker is not None and one.worker.process.returncode is None:
                    one.worker.process.kill()
                    await one.worker.process.wait()


async def _joined(platform: Platform) -> None:
    """Wait until all workers are there and wait for jobs."""
    await eventually(lambda: _presence(platform), lambda found: found == ["idle"] * (1 + FAR_WORKERS))


async def _presence(platform: Platform) -> list[str]:
    return [worker["presence"] for worker in (await platform.admin.get("/api/workers")).json()["items"]]


# --- calamities -----------------------------------------------------------------------------------------------------

Calamity = Callable[[World], Awaitable[None]]


def killed(name: str) -> Calamity:
    """Kill a process of the platform."""

    async def strike(world: World) -> None:
        process = world.platform.processes[name]
        if process.returncode is None:
            process.kill()

    return strike


def engine_killed(part: str) -> Calamity:
    """Kill a part of the engine."""

    async def strike(world: World) -> None:
        rows = await asyncio.to_thread(supervision.status, world.engine, engine_only=True)
        (pid,) = [row["pid"] for row in rows if row["name"] == part]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    return strike


async def far_killed(world: World) -> None:
    """Kill a worker elsewhere."""
    process = world.process_of(world.some_worker())
    if process.returncode is None:
        process.kill()


async def far_paused(world: World) -> None:
    """Pause a worker for longer than its lease: it comes back as one that has lost its job, and does not know it."""
    await _paused(world.process_of(world.some_worker()), world.rng.uniform(1.2, 1.6) * LEASE_S)


async def gateway_paused(world: World) -> None:
    """Pause the worker app, perhaps for longer than a lease."""
    await _paused(world.platform.processes["worker"], world.rng.uniform(0.5, 1.3) * LEASE_S)


async def dispatcher_paused(world: World) -> None:
    """Pause the dispatcher."""
    await _paused(world.platform.processes["dispatcher"], world.rng.uniform(0.3, 1.0) * LEASE_S)


async def _paused(process: asyncio.subprocess.Process, seconds: float) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
    if process.returncode is None:
        process.send_signal(signal.SIGCONT)


async def network_cut(world: World) -> None:
    """Cut a worker off, for a moment or for longer than its lease."""
    network = world.some_worker().network
    network.cut()
    await asyncio.sleep(world.rng.choice([0.0, 1.0, 1.3 * LEASE_S]))
    network.mend()


async def network_half_open(world: World) -> None:
    """Let what a worker says go nowhere for longer than its lease, without a word to it."""
    network = world.some_worker().network
    network.half_open()
    await asyncio.sleep(1.3 * LEASE_S)
    network.mend()


async def network_delayed(world: World) -> None:
    """Make a worker's network slow."""
    network = world.some_worker().network
    network.delay_s = world.rng.uniform(0.1, 0.5)
    await asyncio.sleep(LEASE_S)
    network.delay_s = 0.0


async def far_disk_full(world: World) -> None:
    """Leave no room on a worker's disk."""
    await _full(world.some_worker().disk, world.rng.uniform(0.5, 2.0))


async def store_disk_full(world: World) -> None:
    """Leave no room on the object store's disk."""
    await _full(world.store_disk, world.rng.uniform(0.5, 2.0))


async def _full(disk: Path, seconds: float) -> None:
    fill(disk)
    await asyncio.sleep(seconds)
    resize(disk, ROOM)


CALAMITIES: dict[str, Calamity] = {
    "processors killed": killed("processors"),
    "dispatcher killed": killed("dispatcher"),
    "dispatcher paused": dispatcher_paused,
    "worker app killed": killed("worker"),
    "worker app paused": gateway_paused,
    "admin app killed": killed("admin"),
    "public app killed": killed("public"),
    "broker killed": engine_killed("kafka"),
    "database killed": engine_killed("postgres"),
    "store killed": engine_killed("objects"),
    "store's disk full": store_disk_full,
    "own worker killed": killed("worker-1"),
    "far worker killed": far_killed,
    "far worker paused": far_paused,
    "far worker's disk full": far_disk_full,
    "network cut": network_cut,
    "network half open": network_half_open,
    "network delayed": network_delayed,
}


def gusts(rng: Random) -> list[list[str]]:
    """Return all calamities in an order by chance, some at a time."""
    names = rng.sample(list(CALAMITIES), len(CALAMITIES))
    return [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]


async def gust(world: World, names: list[str]) -> None:
    """Let some calamities befall the world within a moment; wait for their ends."""
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(CALAMITIES[name](world))  # type: ignore[arg-type]
            await asyncio.sleep(world.rng.uniform(0.0, 0.5))


# --- work -----------------------------------------------------------------------------------------------------------


class Work:
    """Videos that are uploaded one after the other, so that some are always being made."""

    def __init__(self, platform: Platform, clip: Path) -> None:
        self._platform = platform
        self._clip = clip
        self._stopped = asyncio.Event()
        self._done: dict[str, int] = {}
        self._ready: set[str] = set()
        self._feeding = asyncio.create_task(self._feed())

    async def __aenter__(self) -> "Work":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        if error is not None:
            self._feeding.cancel()
        await asyncio.wait({self._feeding})
        if error is None:
            self._feeding.result()

    async def moved(self, timeout_s: float) -> None:
        """Wait until another job is done."""
        before = await self._count()
        try:
            await eventually(self._count, lambda count: self._feeding.done() or count > before, timeout_s=timeout_s)
        except AssertionError as error:
            self._feeding.print_stack()
            said = await self._platform.say_whether_ready()
            raise AssertionError(f"no job was done within {timeout_s} s: {await self._states()}; {said}") from error
        if self._feeding.done():
            self._feeding.result()

    async def _feed(self) -> None:
        while await eventually(self._wanted, timeout_s=FED_S) == "a video":
            self._done[await upload_anyhow(self._platform, self._clip)] = 0

    def _wanted(self) -> str | None:
        if self._stopped.is_set():
            return "nothing"
        return "a video" if len(self._done) - len(self._ready) < UNFINISHED else None

    async def _count(self) -> int:
        """Return how many jobs are done; while the admin app is away, how many were."""
        for video_id in [video_id for video_id in self._done if video_id not in self._ready]:
            states = await self._states_of(video_id)
            self._done[video_id] = max(self._done[video_id], states.count("completed"))
            if states and set(states) == {"completed"} and (await self._video(video_id)).get("status") == "ready":
                self._ready.add(video_id)
        return sum(self._done.values())

    async def _states(self) -> dict[str, list[str]]:
        return {video_id: await self._states_of(video_id) for video_id in self._done if video_id not in self._ready}

    async def _states_of(self, video_id: str) -> list[str]:
        try:
            answer = await self._platform.admin.get("/api/jobs", params={"video_id": video_id, "limit": 100})
        except httpx.TransportError:
            return []
        return [job["status"] for job in answer.json()["items"]] if answer.status_code == 200 else []

    async def _video(self, video_id: str) -> Mapping[str, Any]:
        try:
            return await self._platform.video(video_id)
        except httpx.TransportError:
            return {}


async def upload_anyhow(platform: Platform, path: Path) -> str:
    """Upload a file, whatever is away meanwhile; return the video's id."""
    return await eventually(lambda: platform.upload(path), timeout_s=FED_S, despite=httpx.HTTPError)
