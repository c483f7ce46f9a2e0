"""Real videos made by workers here and elsewhere while one calamity follows the other; at the end everything is right.

`make chaos ROUNDS=50` lets more of them befall than `make test`; the seed that it prints repeats the order.
"""

import asyncio
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from events.jobs import JobClaimed, JobCompleted, LeaseExpired
from events.videos import VideoUploaded
from infra.runtime.settings import Settings
from tests.support.chaos import SETTINGS, Work, World, gust, gusts, world
from tests.support.log import assert_whole, read_topic
from tests.support.transcoding import decoded_frames
from tests.support.waiting import eventually
from tests.support.work import ffmpeg_path

ROUNDS = int(os.environ.get("ROUNDS", "1"))
SEED = int(os.environ.get("SEED", "6"))
SECONDS, FRAMES_PER_S = 12, 60
JOBS = SECONDS // 4 + 4
"""Chunks of 4 s; analysis, sound, thumbnail, verification."""
RECOVERED_S = 120.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of busy pictures: enough work for calamities to meet it."""
    path = tmp_path_factory.mktemp("clips") / "busy.mp4"
    recipe = ["-f", "lavfi", "-i", f"testsrc2=s=640x360:r={FRAMES_PER_S}:d={SECONDS}", "-f", "lavfi", "-i", f"sine=440:d={SECONDS}"]
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path)]
    subprocess.run([ffmpeg_path(), "-v", "error", *recipe, *encoding], check=True)
    return path


@pytest.mark.timeout(300 + 600 * ROUNDS)
async def test_whatever_befalls_every_video_is_made_once_and_whole(
    settings: Settings, local_engine: Settings, clip: Path, tmp_path: Path
) -> None:
    played: set[str] = set()
    async with world(settings, local_engine, tmp_path, SEED) as chaos:
        for number in range(ROUNDS):
            print(f"\nseed {SEED}, round {number + 1} of {ROUNDS}")
            await one_round(chaos, clip)
            await chaos.platform.recovered(RECOVERED_S)
            uploaded = await published(chaos)
            await everything_is_right(chaos, uploaded)
            await plays(chaos, uploaded - played)
            played = uploaded


async def one_round(chaos: World, clip: Path) -> None:
    """Have videos made while calamities befall, some at once, then others as soon as work goes on."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with Work(chaos.platform, clip) as work:
        for names in gusts(chaos.rng):
            await work.moved(RECOVERED_S)
            print(f"{loop.time() - begun:6.1f} s  {', '.join(names)}")
            await gust(chaos, names)
        await work.moved(RECOVERED_S)
        await everybody_has_worked(chaos)


async def everybody_has_worked(chaos: World) -> None:
    """Wait until workers here and elsewhere have had their part: on a slow machine some of them are there late."""

    async def who_has_worked() -> set[str]:
        facts = [recorded.envelope.data for recorded in await read_topic(chaos.platform.settings, "jobs")]
        return {fact.worker_id for fact in facts if isinstance(fact, JobCompleted)}

    await eventually(who_has_worked, lambda found: found > {far.worker_id for far in chaos.far}, timeout_s=RECOVERED_S)


async def published(chaos: World) -> set[str]:
    """Wait until every video that was uploaded is published; return their ids. Whoever sent one may not know of it."""
    facts = [recorded.envelope.data for recorded in await read_topic(chaos.platform.settings, "videos")]
    uploaded = {fact.video_id for fact in facts if isinstance(fact, VideoUploaded)}
    for video_id in uploaded:
        video = await chaos.platform.ended(video_id, RECOVERED_S)
        assert video["status"] == "ready", video
    print(f"         {len(uploaded)} videos are published")
    return uploaded


async def everything_is_right(chaos: World, video_ids: set[str]) -> None:
    """Each job was completed once, by who held it, and was never given away after; all is whole."""
    facts: defaultdict[str, list[Any]] = defaultdict(list)
    for recorded in await read_topic(chaos.platform.settings, "jobs"):
        if isinstance(recorded.envelope.data, JobClaimed | JobCompleted | LeaseExpired):
            facts[recorded.envelope.data.job_id].append(recorded.envelope.data)
    assert len(facts) == JOBS * len(video_ids)
    for history in facts.values():
        assert [type(fact) for fact in history].count(JobCompleted) == 1
        assert isinstance(history[-1], JobCompleted), "nothing happens to a job that is done"
        claims = [fact for fact in history if isinstance(fact, JobClaimed)]
        assert [claim.epoch for claim in claims] == list(range(1, len(claims) + 1))
        assert (history[-1].epoch, history[-1].worker_id) == (claims[-1].epoch, claims[-1].worker_id)
        assert history[-1].attempt <= SETTINGS["attempts_max"]
    workers = {history[-1].worker_id for history in facts.values()}
    assert workers > {far.worker_id for far in chaos.far}, "workers here and elsewhere have had their part"
    await assert_whole(chaos.platform.settings)


async def plays(chaos: World, video_ids: set[str]) -> None:
    """Every picture of every video comes out of a player."""
    base = str(chaos.platform.public.base_url)
    for video_id in video_ids:
        video = await chaos.platform.video(video_id)
        for address in (video["hls_url"], video["dash_url"]):
            assert await asyncio.to_thread(decoded_frames, base + address) == SECONDS * FRAMES_PER_S
