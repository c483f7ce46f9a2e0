"""How soon a video can be watched: from its completed upload until the master playlist lists pictures and sound.

Beside it, a bare ffmpeg that makes only the first segment of every rung, in one run, and nothing else: no analysis, no sound,
no check of what was made, no store.
"""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from events.jobs import JobClaimed, JobCompleted
from events.kinds import EncodeSpec
from events.videos import VideoUploaded
from infra.runtime.settings import Settings
from projections.catalog import slug_for
from tests.bench.figures import Figure
from tests.bench.media import run_bare
from tests.support.log import read_topic
from tests.support.platform import Platform
from tests.support.work import ffmpeg_path

RUNS = 3
SHORT_S, FILM_S = 60, 2400
WITHIN_S = 3.0
RATIO_MAX = 1.3
WAIT_S = 600.0
STEPS = {"analysis": "analyse", "first chunk": "encode", "first sound": "audio"}
"""Jobs before the first play, and their kinds."""
EVERY_S = 0.2
"""So often the master is asked for: each look takes time from the encoder."""


@dataclass(frozen=True)
class FirstPlay:
    """One upload: seconds until it played, and how many of them each step had a worker; the job of the first chunk."""

    seconds: float
    steps: Mapping[str, float]
    first: EncodeSpec


async def first_play(settings: Settings) -> Sequence[Figure]:
    """Upload clips of 720p with sound to an idle platform: one of a minute, and a film of 40."""
    folder = settings.var_dir.parent
    short = clip(folder / "short.mp4", SHORT_S)
    film = looped(short, folder / "film.mp4", FILM_S)
    figures = []
    async with Platform(settings, workers=1) as platform:
        await played(platform, short)  # the first one warms up what all others find warm
        for name, path in (("60 s", short), ("40 min", film)):
            found, bare = [], []
            for run in range(RUNS):
                found.append(await played(platform, path))
                bare.append(await asyncio.to_thread(run_bare, found[-1].first, path, folder / f"bare-{name}-{run}"))
            ours = [one.seconds for one in found]
            figures.append(Figure(f"{name}: upload complete -> first play", "s", ours, WITHIN_S, at_least=False))
            figures.append(Figure(f"{name}: that / a bare ffmpeg", "s", ours, RATIO_MAX, at_least=False, baseline=bare))
            figures += [Figure(f"{name}: of that, {step}", "s", [one.steps[step] for one in found]) for step in STEPS]
    return figures


def clip(path: Path, seconds: int) -> Path:
    """Make a clip of 720p with something that moves, some grain, and sound."""
    pictures = ["-f", "lavfi", "-i", f"testsrc2=s=1280x720:r=25:d={seconds},noise=alls=4:allf=t"]
    sound = ["-f", "lavfi", "-i", f"aevalsrc='0.3*sin(440*2*PI*t)+0.2*random(0)|0.3*sin(550*2*PI*t)':d={seconds}:s=48000"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"]
    subprocess.run([ffmpeg_path(), "-v", "error", *pictures, *sound, *codecs, "-movflags", "+faststart", str(path)], check=True)
    return path


def looped(source: Path, path: Path, seconds: int) -> Path:
    """Repeat a clip until it is as long as a film, without encoding it again."""
    command = [ffmpeg_path(), "-v", "error", "-stream_loop", "-1", "-i", str(source), "-t", str(seconds), "-c", "copy"]
    subprocess.run([*command, "-movflags", "+faststart", str(path)], check=True)
    return path


async def played(platform: Platform, path: Path) -> FirstPlay:
    """Upload a copy, wait until it plays, purge it, and wait until its jobs have ended."""
    copy = path.with_name(f"{path.stem}-{perf_counter()}.mp4")
    copy.write_bytes(path.read_bytes() + b"\0\0\0\x10free" + str(perf_counter()).encode()[:8].ljust(8))  # content counts once
    video_id = await platform.upload(copy)
    master = f"/videos/{slug_for(copy.stem, video_id)}/master.m3u8"
    async with asyncio.timeout(WAIT_S):
        while (answer := await platform.public.get(master)).status_code != 200:
            await asyncio.sleep(EVERY_S)
    playable = datetime.now().astimezone()
    copy.unlink()
    assert "TYPE=AUDIO" in answer.text and "720p.m3u8" in answer.text, answer.text
    (await platform.admin.delete(f"/api/videos/{video_id}")).raise_for_status()
    while any(job["status"] in ("queued", "claimed") for job in await _jobs(platform, video_id)):
        await asyncio.sleep(EVERY_S)
    facts: list[Any] = await read_topic(platform.settings, "jobs") + await read_topic(platform.settings, "videos")
    mine = [fact.envelope for fact in facts if getattr(fact.envelope.data, "video_id", None) == video_id]
    (uploaded,) = (envelope.time for envelope in mine if isinstance(envelope.data, VideoUploaded))
    claims = [envelope for envelope in mine if isinstance(envelope.data, JobClaimed)]
    ends = {envelope.data.job_id: envelope.time for envelope in mine if isinstance(envelope.data, JobCompleted)}
    steps = {
        step: next((ends[c.data.job_id] - c.time).total_seconds() for c in claims if c.data.spec.kind == kind)
        for step, kind in STEPS.items()
    }
    first = next(claim.data.spec for claim in claims if isinstance(claim.data.spec, EncodeSpec))
    return FirstPlay((playable - uploaded).total_seconds(), steps, first)


async def _jobs(platform: Platform, video_id: str) -> Sequence[Any]:
    answer = await platform.admin.get("/api/jobs", params={"video_id": video_id})
    return answer.raise_for_status().json()["items"]  # type: ignore[no-any-return]
