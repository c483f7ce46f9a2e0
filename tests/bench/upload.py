"""An upload of a GiB: how fast it passes through, and how much memory it takes on its way, which must not be its size.

Presigned parts go from the command line to the object store; a form goes through the admin app. What a process takes at its
height more than it took for a first upload of some MB is what the size costs.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import httpx
import psutil

from infra.runtime.settings import Settings
from tests.bench.figures import Figure
from tests.support.platform import ROOT, Platform, environment

SIZE_BYTES = 2**30
SMALL_BYTES = 64 * 2**20
"""Four parts: as many as are on their way at once."""
RUNS = 3
SAMPLED_EVERY_S = 0.1
GROWTH_MAX_MB = 128
MB = 1e6


@dataclass
class Passage:
    """One upload: how long it took, and the most resident memory of each process meanwhile, MB."""

    seconds: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)


async def upload(settings: Settings) -> Sequence[Figure]:
    """Upload a small file and a large one, by both ways, in turns."""
    ways: dict[str, Callable[[Platform, Path], Awaitable[Passage]]] = {"presigned parts": by_command, "form": by_form}
    found: dict[tuple[str, int], list[Passage]] = {(way, size): [] for way in ways for size in (SMALL_BYTES, SIZE_BYTES)}
    async with Platform(settings, workers=0) as platform:
        path = settings.var_dir / "upload.bin"
        for number in range(2 * RUNS):
            way = list(ways)[number % 2]
            for size in (SMALL_BYTES, SIZE_BYTES):
                _write(path, size, number)
                found[way, size].append(await ways[way](platform, path))
                path.unlink()
                await _purge(platform)
    before = found["presigned parts", SMALL_BYTES][0].peaks  # later ones would hide what a process keeps after a large one
    figures = []
    for way in ways:
        large = found[way, SIZE_BYTES]
        rates = [SIZE_BYTES / MB / passage.seconds for passage in large]
        figures.append(Figure(f"upload of {SIZE_BYTES // 2**30} GiB as {way}", "MB/s", rates))
        for process in large[0].peaks:
            growth = [passage.peaks[process] - before[process] for passage in large]
            figures.append(Figure(f"{way}: {process}'s memory grows by", "MB", growth, GROWTH_MAX_MB, at_least=False))
    return figures


def _write(path: Path, size_bytes: int, number: int) -> None:
    """Write a file of zeros that nobody has sent before; on the disk it has no more than its first bytes."""
    with path.open("wb") as file:
        file.write(b"%d of %d" % (number, size_bytes))
        file.truncate(size_bytes)


async def by_command(platform: Platform, path: Path) -> Passage:
    """Upload by `kinolog ingest`, through presigned addresses."""
    access = {"KINOLOG_ADMIN_URL": str(platform.admin.base_url), "KINOLOG_ADMIN_TOKEN": platform.token}
    command = [sys.executable, "-m", "infra.cli", "ingest", "--no-wait", "--json", str(path)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment(platform.settings) | access, stdout=asyncio.subprocess.PIPE
    )

    async def ended() -> None:
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    return await _watched(ended(), _servers(platform) | {"command line": psutil.Process(process.pid)})


async def by_form(platform: Platform, path: Path) -> Passage:
    """Upload as a form, through the admin app."""

    def post() -> None:
        with path.open("rb") as file:
            answer = httpx.post(
                f"{platform.admin.base_url}/api/videos",
                files={"file": (path.name, file)},
                headers={"Authorization": f"Bearer {platform.token}"},
                timeout=httpx.Timeout(30, read=600),
                trust_env=False,
            )
        assert answer.status_code == 201, answer.text

    return await _watched(asyncio.to_thread(post), _servers(platform))


def _servers(platform: Platform) -> dict[str, psutil.Process]:
    port = urlsplit(platform.settings.s3_endpoint).port
    listening = [found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    (store,) = {found.pid for found in listening if found.laddr and found.laddr.port == port and found.pid}
    return {"admin app": psutil.Process(platform.processes["admin"].pid), "object store": psutil.Process(store)}


async def _watched(work: Awaitable[None], processes: Mapping[str, psutil.Process]) -> Passage:
    """Do it, and look at the memory of the processes meanwhile."""
    passage, begun = Passage(), perf_counter()
    doing = asyncio.ensure_future(work)
    while not doing.done():
        for name, process in processes.items():
            try:
                resident = process.memory_info().rss / MB
            except psutil.NoSuchProcess:
                continue  # the command line has just ended
            passage.peaks[name] = max(resident, passage.peaks.get(name, 0.0))
        await asyncio.wait({doing}, timeout=SAMPLED_EVERY_S)
    doing.result()
    passage.seconds = perf_counter() - begun
    return passage


async def _purge(platform: Platform) -> None:
    """Let the store have its room back."""
    for video in (await platform.admin.get("/api/videos", params={"status": "processing"})).json()["items"]:
        (await platform.admin.delete(f"/api/videos/{video['video_id']}")).raise_for_status()
