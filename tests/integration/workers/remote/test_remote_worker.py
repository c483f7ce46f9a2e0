"""Workers that have a URL and a token only: they make whole videos, whatever happens to the worker app meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.runtime.settings import Settings
from tests.support import clips
from tests.support.log import assert_whole
from tests.support.platform import Platform
from tests.support.remote import RemoteWorker, remote_worker, token
from tests.support.waiting import eventually


@pytest.fixture
async def alone(settings: Settings) -> AsyncIterator[Platform]:
    """A platform without workers of its own."""
    async with Platform(settings, workers=0, segment_s=1, chunk_s=2, lease_s=60, lease_renew_s=2, backoff_base_s=0) as running:
        yield running


def url_of(platform: Platform) -> str:
    return str(platform.worker.base_url)


async def heard_of(platform: Platform, worker: RemoteWorker) -> dict[str, object]:
    """Wait until the worker has given a sign of life; return what the platform knows of it."""

    async def known() -> list[dict[str, object]]:
        assert worker.process.returncode is None, worker.log.read_text()
        return list((await platform.admin.get("/api/workers")).json()["items"])

    (found,) = await eventually(known, lambda items: items and items[0]["heartbeat_at"])
    return found


async def test_a_video_is_made_by_a_worker_that_has_a_url_and_a_token(alone: Platform, tmp_path: Path) -> None:
    made = await token(alone)
    async with remote_worker(url_of(alone), made["token"], tmp_path / "attic") as worker:
        video_id = await alone.upload(clips.real_clips()["carphone"])
        video = await alone.ended(video_id, 120)
        assert video["status"] == "ready", (video, worker.log.read_text()[-3000:])
        known = await heard_of(alone, worker)
        assert known["worker_id"] == made["worker_id"]
        member = worker.directory / "membership.json"
        assert member.stat().st_mode & 0o077 == 0
        assert await worker.stop() == 0, worker.log.read_text()[-3000:]
        assert not (worker.directory / "work").exists()
        secret = json.loads(member.read_text())["key"]
        for log in [worker.log.read_text(), alone.log("worker"), alone.log("admin")]:
            assert secret not in log and made["token"] not in log
    await assert_whole(alone.settings)


async def test_a_machine_that_joined_comes_back_without_a_token_and_a_revoked_one_is_refused(
    alone: Platform, tmp_path: Path
) -> None:
    made = await token(alone)
    async with remote_worker(url_of(alone), made["token"], tmp_path / "attic") as worker:
        await heard_of(alone, worker)
        assert await worker.stop() == 0
    async with remote_worker(url_of(alone), made["token"], tmp_path / "attic") as worker:
        (known,) = (await alone.admin.get("/api/workers")).json()["items"]
        assert known["worker_id"] == made["worker_id"]
        assert (await alone.admin.post(f"/api/worker-keys/{made['worker_id']}/revoke")).status_code == 200
        assert await asyncio.wait_for(worker.process.wait(), 60) == 1
        assert "this key is revoked; join again with a new token" in worker.log.read_text()
