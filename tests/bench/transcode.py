"""What the whole platform takes for a clip: from the first claim to published, until something plays, with one worker and two."""

import asyncio
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8

from events.jobs import JobClaimed, JobCompleted
from events.kinds import EncodeSpec
from events.videos import VideoPublished, VideoUploaded
from infra.runtime.settings import Settings
from tests.bench.figures import Figure
from tests.bench.media import bare_run
from tests.support.log import read_topic
from tests.support.platform import Platform, has_ended
from tests.support.work import ffmpeg_path

LONG_S, SHORT_S, TINY_S = 120, 60, 3
RUNS = 3
UPLOADS = 20
BARE_S = 20
WAIT_S = 1200.0
EVERY_S = 1.0
"""So often it is looked whether something plays; each look takes time from the encoders. The other times are the log's."""


async def transcode(settings: Settings) -> Sequence[Figure]:
    """Publish a 1080p clip of 120 s beside bare runs of ffmpeg, and tiny ones on an idle platform."""
    folder = settings.var_dir.parent
    long, tiny = (clip(folder / f"{seconds}.mp4", seconds) for seconds in (LONG_S, TINY_S))
    ours, bare, first = [], [], []
    async with Platform(settings, workers=1) as platform:
        starts = [(await published(platform, tiny)).to_first_encoder for _ in range(UPLOADS)]
        for run in range(RUNS):
            done = await published(platform, long)
            ours.append(done.seconds)
            first.append(done.first_playable / done.first_chunk)
            bare.append(await bare_run(long, folder / f"bare-{run}"))
    return [
        Figure("first claim -> published, 120 s / one bare ffmpeg", "s", ours, 1.25, at_least=False, baseline=bare),
        Figure("first segment playable / time of its chunk", "ratio", first, 1.3, at_least=False),
        Figure("upload complete -> first encoder, p95", "s", [sorted(starts)[round(0.95 * UPLOADS) - 1]], 1.0, at_least=False),
    ]


async def two_workers(settings: Settings) -> Sequence[Figure]:
    """Publish a 1080p clip of 60 s by one worker on one core, and by two on a core each."""
    short = clip(settings.var_dir.parent / "short.mp4", SHORT_S)
    walls: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(RUNS):
        for workers, seconds in walls.items():
            async with Platform(settings, workers=workers, chunk_s=10.0, segment_s=5.0) as platform:
                for number, core in zip(range(workers), sorted(os.sched_getaffinity(0)), strict=False):
                    os.sched_setaffinity(platform.processes[f"worker-{number + 1}"].pid, {core})  # ffmpeg's threads are bound, too
                seconds.append((await published(platform, short)).seconds)
    possible = await asyncio.to_thread(_two_cores, short, settings.var_dir.parent)
    room = [possible * wall for wall in walls[2]]
    return [
        Figure("one worker on one core / two", "s", walls[1], baseline=walls[2]),
        Figure("the same, of what two bare runs of ffmpeg gain", "s", walls[1], 0.85, baseline=room),
    ]


def _two_cores(clip: Path, folder: Path) -> float:
    """Return how many times more two runs of ffmpeg on a core each make than one: 2, where cores share nothing."""
    cores = sorted(os.sched_getaffinity(0))[:2]

    def encode(core: int) -> subprocess.Popen[bytes]:
        command = ["taskset", "-c", str(core), ffmpeg_path(), "-v", "error", "-y", "-threads", "1", "-i", str(clip)]
        codec = ["-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-t", str(BARE_S)]
        return subprocess.Popen([*command, *codec, str(folder / f"core-{core}.mp4")])

    def seconds(cores: Sequence[int]) -> float:
        begun = perf_counter()
        assert not any(running.wait() for running in [encode(core) for core in cores])
        return perf_counter() - begun

    return median(2 * seconds(cores[:1]) / seconds(cores) for _ in range(RUNS))


def clip(path: Path, seconds: int) -> Path:
    """Make a 1080p clip with something that moves and some grain."""
    recipe = ["-f", "lavfi", "-i", f"testsrc2=s=1920x1080:r=25:d={seconds},noise=alls=4:allf=t", "-c:v", "libx264"]
    subprocess.run([ffmpeg_path(), "-v", "error", *recipe, "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


@dataclass(frozen=True)
class Published:
    """Seconds: from the first claim to published; of the first chunk, claim to completion; from that claim until a
    segment could be fetched; and from the completed upload to the first encoder."""

    seconds: float
    first_chunk: float
    first_playable: float
    to_first_encoder: float


async def published(platform: Platform, path: Path) -> Published:
    """Upload a copy of the clip and wait until it is published."""
    copy = path.with_name(f"{perf_counter()}.mp4")
    copy.write_bytes(path.read_bytes() + b"\0\0\0\x10free" + str(perf_counter()).encode()[:8].ljust(8))  # content counts once
    video_id = await platform.upload(copy)
    playing = asyncio.create_task(_first_segment(platform, video_id))
    video = await platform.until(video_id, has_ended, WAIT_S)
    assert video["status"] == "ready", video
    playable = await playing
    copy.unlink()
    facts: list[Any] = await read_topic(platform.settings, "jobs") + await read_topic(platform.settings, "videos")
    mine = [fact.envelope for fact in facts if getattr(fact.envelope.data, "video_id", None) == video_id]

    def times(kind: type) -> list[datetime]:
        return sorted(envelope.time for envelope in mine if isinstance(envelope.data, kind))

    claims = {e.data.job_id: e.time for e in mine if isinstance(e.data, JobClaimed) and isinstance(e.data.spec, EncodeSpec)}
    ends = {e.data.job_id: e.time for e in mine if isinstance(e.data, JobCompleted)}
    job = min(claims, key=lambda job: claims[job])
    return Published(
        (times(VideoPublished)[0] - times(JobClaimed)[0]).total_seconds(),
        (ends[job] - claims[job]).total_seconds(),
        (playable - claims[job]).total_seconds(),
        (claims[job] - times(VideoUploaded)[0]).total_seconds(),
    )


async def _first_segment(platform: Platform, video_id: str) -> datetime:
    """Return when a player could fetch the first segment."""
    while True:
        with suppress(httpx.HTTPStatusError, IndexError, KeyError):
            url = (await platform.video(video_id))["hls_url"] or ""
            master = m3u8.loads((await platform.public.get(url)).raise_for_status().text)
            playlist_url = urljoin(url, master.playlists[0].uri)
            playlist = m3u8.loads((await platform.public.get(playlist_url)).raise_for_status().text)
            (await platform.public.get(urljoin(playlist_url, playlist.segments[0].uri))).raise_for_status()
            return datetime.now().astimezone()
        await asyncio.sleep(EVERY_S)
