"""Several uploads of the same content at once: one becomes a video, whichever way and process they came, and nothing else stays."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from events.contents import ContentClaimed
from events.objects import source_key
from events.topics import VIDEOS
from events.videos import UploadStarted, VideoUploaded
from infra.runtime.clock import system_context
from infra.runtime.objects import ObjectStore
from producers import uploads
from tests.support import clips
from tests.support.log import appending, read_topic, settled
from tests.support.platform import Platform, beside
from tests.support.waiting import eventually


@pytest.fixture
def data() -> bytes:
    """A small clip of which there is no other."""
    return clips.real_clips()["carphone"].read_bytes() + os.urandom(8)


@pytest.fixture
async def second(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """Another process of the admin app."""
    async with beside(platform, "admin") as http:
        yield http


async def sent(platform: Platform, data: bytes, **more: object) -> str:
    """Begin an upload and send its bytes; return its address."""
    begun = await platform.admin.post("/api/uploads", json={"filename": "a.mp4", "size_bytes": len(data), **more})
    begun.raise_for_status()
    await platform.until(begun.json()["video_id"], bool)
    (await platform.store.put(begun.json()["url"], content=data)).raise_for_status()
    return f"/api/uploads/{begun.json()['video_id']}"


async def listed(platform: Platform) -> set[str]:
    items = (await platform.admin.get("/api/videos", params={"limit": 100})).raise_for_status().json()["items"]
    return {item["video_id"] for item in items}


async def test_of_uploads_at_once_by_both_ways_in_two_processes_one_becomes_a_video(
    platform: Platform, second: httpx.AsyncClient, data: bytes
) -> None:
    before, sha256 = await listed(platform), hashlib.sha256(data).hexdigest()
    where = [await sent(platform, data) for _ in range(8)]
    admins = (platform.admin, second)

    def complete(number: int) -> Any:
        return admins[number % 2].post(f"{where[number]}/complete", json={"sha256": sha256, "title": str(number)})

    def form(number: int) -> Any:
        return admins[number % 2].post("/api/videos", files={"file": (f"{number}.mp4", data)})

    completed = [complete(number) for number in range(8)]
    forms = [form(number) for number in range(8)]
    found = await asyncio.gather(*(one for pair in zip(completed, forms, strict=True) for one in pair))
    found += [await form(0), *[await complete(number) for number in range(8)]]
    assert len({answer.json()["video_id"] for answer in found}) == 1, [answer.text for answer in found]
    assert len({answer.json()["slug"] for answer in found}) == 1
    made = [answer for answer in found if answer.status_code == 201]
    assert len(made) <= 1 and {answer.status_code for answer in found} <= {200, 201, 409}
    video_id = found[0].json()["video_id"]
    assert (await platform.ended(video_id))["status"] == "ready"
    assert await listed(platform) - before == {video_id}
    uploads = {path.rpartition("/")[2] for path in where}
    await eventually(lambda: kept(platform), lambda ids: not ids & uploads - {video_id})


async def kept(platform: Platform) -> set[str]:
    """Return the ids of the uploads whose bytes are there."""
    return {stat.key.split("/")[1] for stat in await ObjectStore(platform.settings).under("sources/")}


async def joined(platform: Platform, video_id: str) -> None:
    """Join the parts of an upload in the store."""
    found = [record.envelope.data for record in await read_topic(platform.settings, VIDEOS.name)]
    (begun,) = [event for event in found if isinstance(event, UploadStarted) and event.video_id == video_id]
    assert begun.multipart_id is not None
    store = ObjectStore(platform.settings)
    parts = [(number, etag) for number, etag, _ in await store.list_parts(begun.object_key, begun.multipart_id)]
    await store.complete_multipart(begun.object_key, begun.multipart_id, parts)


async def test_a_claim_whose_process_died_is_recorded_by_the_next_upload(platform: Platform, data: bytes) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    first, other = await sent(platform, data), await sent(platform, data)
    video_id = first.rpartition("/")[2]
    await joined(platform, video_id)  # as the process did before it claimed the content
    upload = VideoUploaded(
        video_id=video_id,
        title="First",
        filename="a.mp4",
        object_key=source_key(video_id),
        size_bytes=len(data),
        sha256=sha256,
    )
    async with appending(platform.settings) as appender:
        context = system_context("test")
        await appender.append([uploads.claimed(context, upload, instead_of=None)])
    await settled(platform.settings)
    answers_ = [await platform.admin.post(f"{path}/complete", json={"sha256": sha256}) for path in (other, first, other)]
    assert [(answer.status_code, answer.json()["video_id"]) for answer in answers_] == [(200, video_id)] * 3
    video = await platform.ended(video_id)
    assert (video["status"], video["title"]) == ("ready", "First")


async def test_content_of_a_failed_or_purged_video_may_come_again(platform: Platform) -> None:
    data = os.urandom(1000)
    sha256, made = hashlib.sha256(data).hexdigest(), []
    for turn in range(3):
        where = await sent(platform, data, sha256=sha256)
        answer = (await platform.admin.post(f"{where}/complete", json={})).raise_for_status().json()
        made.append(answer["video_id"])
        assert (await platform.ended(made[-1]))["status"] == "failed"
        if turn == 1:
            (await platform.admin.delete(f"/api/videos/{made[-1]}")).raise_for_status()
            await platform.until(made[-1], lambda video: video.get("status") == "purged")
    assert len(set(made)) == 3
    claims = [fact.envelope.data for fact in await read_topic(platform.settings, "contents")]
    mine = [claim for claim in claims if isinstance(claim, ContentClaimed) and claim.sha256 == sha256]
    assert [claim.instead_of for claim in mine] == [None, *made[:2]]


async def test_content_that_is_wanted_again_is_taken_again(platform: Platform, data: bytes) -> None:
    sha256, made = hashlib.sha256(data).hexdigest(), set()
    for force in ("false", "true"):
        begun = await platform.admin.post(
            "/api/uploads", params={"force": force}, json={"filename": "a.mp4", "size_bytes": len(data), "sha256": sha256}
        )
        video_id = begun.raise_for_status().json()["video_id"]
        await platform.until(video_id, bool)
        await platform.store.put(begun.json()["url"], content=data)
        wrong = await platform.admin.post(f"/api/uploads/{video_id}/complete", json={"sha256": "5a" * 32})
        assert wrong.status_code == 422 and "another SHA-256" in wrong.json()["detail"]
        completed = await platform.admin.post(f"/api/uploads/{video_id}/complete", json={})
        assert completed.json()["video_id"] == video_id
        made.add(video_id)
        await platform.ended(video_id)
    assert len(made) == 2
