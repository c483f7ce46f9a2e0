"""Faults one at a time, on the real engine, where more is promised than `test_chaos` can see: nothing is spent or done twice."""

import asyncio
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.jobs import JobClaimed, JobCompleted, JobReleased, LeaseExpired, ResultRefused
from infra.runtime.settings import Settings
from tests.support.log import assert_whole, completions, read_topic
from tests.support.platform import QUICK, Platform, answers
from tests.support.remote import remote_worker, token
from tests.support.waiting import eventually
from tests.support.work import ffmpeg_path

CHUNKS = 7


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 seconds, thus seven chunks, the first short, busy enough that a chunk takes half a second or more."""
    path = tmp_path_factory.mktemp("clips") / "busy.mp4"
    recipe = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=60:d=24", "-f", "lavfi", "-i", "sine=440:d=24"]
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path)]
    subprocess.run([ffmpeg_path(), "-v", "error", *recipe, *encoding], check=True)
    return path


async def jobs_of(platform: Platform, video_id: str) -> list[dict[str, Any]]:
    """Return the video's jobs, empty while the admin app is away."""
    try:
        answer = await platform.admin.get("/api/jobs", params={"video_id": video_id, "limit": 100})
    except httpx.TransportError:
        return []
    return list(answer.json()["items"]) if answer.status_code == 200 else []


async def published_once(platform: Platform, video_id: str) -> None:
    """Wait for publication; check that every job was completed once and that everything on the log is right."""
    video = await platform.ended(video_id, 180)
    assert video["status"] == "ready", video
    counted = await completions(platform.settings)
    assert len(counted) == CHUNKS + 5
    assert set(counted.values()) == {1}
    await assert_whole(platform.settings)


async def test_uploads_completed_twice_or_wrongly(settings: Settings, clip: Path) -> None:
    async with Platform(settings, upload_part_bytes=5 * 2**20) as platform:
        data = clip.read_bytes()
        begun = (
            await platform.admin.post("/api/uploads", json={"filename": "../\N{PILE OF POO}.mp4", "size_bytes": len(data)})
        ).json()
        path = f"/api/uploads/{begun['video_id']}"
        await platform.until(begun["video_id"], bool)
        early = await platform.admin.post(f"{path}/complete", json={"parts": [{"number": 1, "etag": "00"}]})
        assert early.status_code == 409
        size = begun["part_bytes"]
        numbers = list(range(1, -(-len(data) // size) + 1))
        urls = (await platform.admin.post(f"{path}/parts", json={"numbers": numbers})).json()["urls"]
        parts = []
        for number in reversed(numbers):
            sent = await platform.store.put(urls[str(number)], content=data[(number - 1) * size : number * size])
            parts.append({"number": number, "etag": sent.headers["etag"]})
        there = (await platform.admin.get(path)).json()["parts"]
        assert [part["number"] for part in there] == numbers
        wrong = [{**part, "etag": "0" * 32} for part in parts]
        assert (await platform.admin.post(f"{path}/complete", json={"parts": wrong})).status_code == 409
        both = await asyncio.gather(*(platform.admin.post(f"{path}/complete", json={"parts": parts}) for _ in range(3)))
        assert {answer.status_code for answer in both} == {200}
        assert len({answer.json()["slug"] for answer in both}) == 1
        again = await platform.admin.post(f"{path}/complete", json={})
        assert again.json()["slug"] == both[0].json()["slug"]
        video = await platform.ended(begun["video_id"], 180)
        assert video["status"] == "ready"
        assert video["filename"] == "../\N{PILE OF POO}.mp4"


async def test_a_killed_worker_that_is_back_costs_neither_time_nor_an_attempt(settings: Settings, clip: Path) -> None:
    changes = QUICK | {"lease_s": 600.0, "encoder_preset": "medium"}  # nobody waits for the end of a lease
    async with Platform(settings, workers=1, supervised=True, **changes) as platform:
        video_id = await platform.upload(clip)
        shown: list[float] = []
        for wanted in (1, 3):
            await eventually(partial(chunks_done, platform, video_id, wanted))
            await eventually(lambda: encodes(platform, video_id))
            await platform.kill("worker-1")
            shown.append(
                (await platform.public.get(f"/api/videos/{await slug_of(platform, video_id)}/progress")).json()["progress_percent"]
            )
        await published_once(platform, video_id)
        facts = [fact.envelope.data for fact in await read_topic(platform.settings, "jobs")]
        assert [fact.abandoned for fact in facts if isinstance(fact, JobReleased)].count(True) >= 2
        assert all(fact.abandoned for fact in facts if isinstance(fact, JobReleased))
        assert not [fact for fact in facts if isinstance(fact, LeaseExpired | ResultRefused)]
        assert {fact.attempt for fact in facts if isinstance(fact, JobClaimed)} == {1}
        assert shown == sorted(shown)


# --- workers outside the cluster ------------------------------------------------------------------------------------


async def test_the_worker_app_may_be_killed_again_and_again(settings: Settings, clip: Path, tmp_path: Path) -> None:
    """Workers say again what was not answered: no claim is lost, no attempt is spent, nothing is done twice."""
    changes = QUICK | {"lease_s": 120.0}  # longer than the app is away, however long it takes to start
    async with Platform(settings, workers=0, supervised=True, **changes) as platform:
        url, made = str(platform.worker.base_url), await token(platform)
        async with remote_worker(url, made["token"], tmp_path / "attic", worker_threads=1, lease_s=120.0) as worker:
            video_id = await platform.upload(clip)
            for wanted in (1, 3):
                await eventually(partial(chunks_done, platform, video_id, wanted))
                await eventually(lambda: answers(platform.worker, "/ready"))
                await platform.kill("worker")
            await published_once(platform, video_id)
            assert await worker.stop() == 0
        attempts = [fact.envelope.data for fact in await read_topic(platform.settings, "jobs")]
        assert not [fact for fact in attempts if isinstance(fact, LeaseExpired | ResultRefused)]


async def test_a_worker_far_away_that_is_stopped_twice_hands_its_job_back_at_once(
    settings: Settings, clip: Path, tmp_path: Path
) -> None:
    changes = {"chunk_s": 60.0, "encoder_preset": "veryslow", "lease_s": 60.0}  # a job that outlasts the worker
    async with Platform(settings, workers=0, **(QUICK | changes)) as platform:
        url, made = str(platform.worker.base_url), await token(platform)
        async with remote_worker(url, made["token"], tmp_path / "attic", worker_threads=1) as worker:
            video_id = await platform.upload(clip)
            await eventually(lambda: holds(platform, video_id, made["worker_id"]))
            assert await worker.stop(times=2) == 0
        facts = [fact.envelope.data for fact in await read_topic(platform.settings, "jobs")]
        held = {fact.job_id for fact in facts if isinstance(fact, JobClaimed)} - {
            fact.job_id for fact in facts if isinstance(fact, JobCompleted)
        }
        released = {fact.job_id: (fact.worker_id, fact.epoch) for fact in facts if isinstance(fact, JobReleased)}
        assert released == dict.fromkeys(held, (made["worker_id"], 1)) and held


async def test_a_worker_far_away_that_is_killed_and_back_goes_on_at_once(settings: Settings, clip: Path, tmp_path: Path) -> None:
    changes = QUICK | {"lease_s": 600.0, "encoder_preset": "medium"}
    async with Platform(settings, workers=0, **changes) as platform:
        url, made = str(platform.worker.base_url), await token(platform)
        async with remote_worker(url, made["token"], tmp_path / "attic", worker_threads=1, lease_s=600.0):
            video_id = await platform.upload(clip)
            await eventually(lambda: holds(platform, video_id, made["worker_id"]))
        async with remote_worker(url, made["token"], tmp_path / "attic", worker_threads=1, lease_s=600.0):
            await published_once(platform, video_id)
        facts = [fact.envelope.data for fact in await read_topic(platform.settings, "jobs")]
        assert {fact.abandoned for fact in facts if isinstance(fact, JobReleased)} == {True}
        assert {fact.attempt for fact in facts if isinstance(fact, JobClaimed)} == {1}


async def chunks_done(platform: Platform, video_id: str, count: int) -> bool:
    """Return whether so many chunks are done."""
    return [job["status"] for job in await jobs_of(platform, video_id) if job["kind"] == "encode"].count("completed") >= count


async def encodes(platform: Platform, video_id: str) -> bool:
    """Return whether a chunk is being encoded now."""
    return any((job["kind"], job["status"]) == ("encode", "claimed") for job in await jobs_of(platform, video_id))


async def slug_of(platform: Platform, video_id: str) -> str:
    """Return the name under which viewers find a video."""
    return str((await platform.video(video_id))["slug"])


async def holds(platform: Platform, video_id: str, worker_id: str) -> bool:
    """Return whether a worker encodes a chunk now."""
    found = await jobs_of(platform, video_id)
    return any((job["kind"], job["status"], job["worker_id"]) == ("encode", "claimed", worker_id) for job in found)
