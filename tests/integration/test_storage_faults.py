"""Stores that refuse, disks that are full, uploads that nobody completes, attempts that left objects behind: end to end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.errors import ObjectMissing
from events.jobs import JobAttemptFailed, JobCompleted
from events.objects import source_key
from events.videos import UploadAbandoned, UploadStarted
from infra.runtime.objects import ATTEMPTS, ObjectStore
from infra.runtime.settings import Settings
from tests.support import clips, flashes
from tests.support.disks import resize, small_disk
from tests.support.log import assert_whole, read_topic
from tests.support.platform import Platform
from tests.support.store_proxy import store_proxy
from tests.support.waiting import eventually

QUICK: dict[str, Any] = {"lease_s": 60.0, "lease_renew_s": 0.5, "backoff_base_s": 0.1, "attempts_max": 2, "worker_threads": 1}
"""A lease that does not end because the machine stands still: each of the two attempts is to fail as the test has it."""


async def failures(settings: Settings) -> list[JobAttemptFailed]:
    """Return the attempts that failed and were tried again."""
    facts = [fact.envelope.data for fact in await read_topic(settings, "jobs")]
    return [fact for fact in facts if isinstance(fact, JobAttemptFailed)]


async def retried_to_the_end(platform: Platform, video_id: str) -> None:
    """Ask for another try; the video is published, and everything on the log is right."""
    (await platform.admin.post(f"/api/videos/{video_id}/retry")).raise_for_status()
    video = await platform.until(video_id, lambda video: video.get("status") == "ready", 120)
    assert video["failure"] is None
    await assert_whole(platform.settings)


@pytest.mark.parametrize("status", [503, 507])
async def test_a_store_that_refuses_writes_fails_the_video_clearly_and_keeps_its_source(settings: Settings, status: int) -> None:
    source = clips.real_clips()["carphone"]
    async with (
        store_proxy(settings.s3_endpoint) as (proxy, address),
        Platform(settings, s3_endpoint=address, **QUICK) as platform,
    ):
        video_id = await platform.upload(source)
        proxy.refuses = status

        video = await platform.until(video_id, lambda video: video.get("status") == "failed", 120)

        failure = video["failure"]
        assert (failure["stage"], failure["category"], failure["code"]) == ("encoding", "file_operations", "FILE_OP_STORE")
        assert failure["message"] == "The object store did not take or return a file that the job needs."
        assert "object store" in failure["detail"]
        assert proxy.refused >= 2 * ATTEMPTS, "each of two attempts asks the store several times"
        assert {fact.failure.code for fact in await failures(platform.settings)} == {"FILE_OP_STORE"}
        kept = await ObjectStore(platform.settings).stat(source_key(video_id))
        assert kept.size_bytes == source.stat().st_size

        proxy.refuses = None
        await retried_to_the_end(platform, video_id)


@pytest.fixture
def full_disk(settings: Settings) -> Iterator[Path]:
    """The workers' directory as a disk of its own with 64 kB."""
    with small_disk(settings.var_dir / "work", "64k") as disk:
        yield disk


@pytest.mark.parametrize("room", ["none for the source", "none for the segments"])
async def test_a_full_work_directory_fails_the_video_clearly_and_its_source_is_kept(
    settings: Settings, full_disk: Path, room: str
) -> None:
    source = clips.real_clips()["bikes"]
    if room == "none for the segments":
        kilobytes = source.stat().st_size // 1024 + 64
        resize(full_disk, f"{kilobytes}k")
    async with Platform(settings, **QUICK) as platform:
        video_id = await platform.upload(source)

        video = await platform.until(video_id, lambda video: video.get("status") == "failed", 120)

        failure = video["failure"]
        assert (failure["category"], failure["code"]) == ("resource_exhaustion", "RESOURCE_DISK")
        assert failure["stage"] == ("analysis" if room == "none for the source" else "encoding")
        assert failure["message"] == "The worker's disk is full."
        assert {fact.failure.code for fact in await failures(platform.settings)} == {"RESOURCE_DISK"}
        assert (await ObjectStore(platform.settings).stat(source_key(video_id))).size_bytes == source.stat().st_size

        resize(full_disk, "200m")
        await retried_to_the_end(platform, video_id)


async def parts_of(store: ObjectStore, key: str, multipart_id: str) -> list[int]:
    """Return the numbers of the parts that the store has; none for an upload that it does not know any more."""
    try:
        return [number for number, _etag, _size in await store.list_parts(key, multipart_id)]
    except ObjectMissing:
        return []


async def test_an_upload_that_nobody_completes_is_swept(settings: Settings) -> None:
    part_bytes = 5 * 2**20
    async with Platform(settings, workers=0, upload_part_bytes=part_bytes) as platform:
        store = ObjectStore(platform.settings)
        new = {"filename": "half.mp4", "size_bytes": 2 * part_bytes}
        begun = (await platform.admin.post("/api/uploads", json=new)).raise_for_status().json()
        where = f"/api/uploads/{begun['video_id']}"
        await platform.until(begun["video_id"], bool)
        urls = (await platform.admin.post(f"{where}/parts", json={"numbers": [1]})).raise_for_status().json()["urls"]
        (await platform.store.put(urls["1"], content=bytes(part_bytes))).raise_for_status()
        whole = {"filename": "whole.mp4", "size_bytes": 1000}
        single = (await platform.admin.post("/api/uploads", json=whole)).raise_for_status().json()
        (await platform.store.put(single["url"], content=bytes(1000))).raise_for_status()

        unknown = source_key("01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04")  # of an app that died before it recorded it
        stray = await store.create_multipart(unknown, "video/mp4")
        await store.upload_part(unknown, stray, 1, bytes(5 * 2**20))

        platform.settings = platform.settings.model_copy(update={"upload_ttl_s": 1})  # not before everything was sent
        await platform.kill("processors")
        await platform.start("processors")
        await platform.ready("processors")
        for video_id in (begun["video_id"], single["video_id"]):
            await platform.until(video_id, lambda video: video.get("status") == "abandoned")

        facts = [fact.envelope.data for fact in await read_topic(platform.settings, "videos")]
        started = {fact.video_id: fact for fact in facts if isinstance(fact, UploadStarted)}
        multipart_id = started[begun["video_id"]].multipart_id
        assert multipart_id

        async def left() -> list[object]:
            parts = await parts_of(store, source_key(begun["video_id"]), multipart_id)
            return [*parts, *await store.under("sources/"), *await store.open_multiparts("sources/")]

        await eventually(left, lambda left: not left)
        given_up = {fact.video_id: fact.reason for fact in facts if isinstance(fact, UploadAbandoned)}
        assert given_up == dict.fromkeys(started, "expired")
        assert (await platform.admin.post(f"{where}/complete", json={})).status_code == 409
        await assert_whole(platform.settings)


async def half_done(platform: Platform, video_id: str) -> str:
    """Wait until a job that is being worked on has stored something; return its prefix."""
    store = ObjectStore(platform.settings)

    async def stored() -> list[str]:
        answer = await platform.admin.get("/api/jobs", params={"video_id": video_id, "status": "claimed"})
        encodes = [job for job in answer.json()["items"] if job["kind"] == "encode"]
        prefixes = [f"videos/{video_id}/{job['job_id']}/{job['epoch']}/" for job in encodes]
        return [prefix for prefix in prefixes if await store.under(prefix)]

    return (await eventually(stored))[0]


async def objects_of(store: ObjectStore, accepted: list[JobCompleted]) -> dict[str, list[str]]:
    """Return the objects under the prefix of each accepted attempt."""
    prefixes = [f"videos/{fact.video_id}/{fact.job_id}/{fact.epoch}/" for fact in accepted]
    return {prefix: [stat.key for stat in await store.under(prefix)] for prefix in prefixes}


async def test_what_a_killed_attempt_left_behind_is_swept_and_what_was_accepted_stays(settings: Settings) -> None:
    choices: dict[str, Any] = {"orphan_ttl_s": 1, "segment_s": 1.0, "encoder_preset": "medium", "lease_s": 3.0, "attempts_max": 100}
    async with Platform(settings, **{**QUICK, **choices}) as platform:
        store = ObjectStore(platform.settings)
        video_id = await platform.upload(flashes.made("heavy"))
        left_behind = await half_done(platform, video_id)
        await platform.kill("worker-1")
        await platform.start("worker-1")

        video = await platform.ended(video_id, 180)

        assert video["status"] == "ready", video
        facts = [fact.envelope.data for fact in await read_topic(platform.settings, "jobs")]
        accepted = [fact for fact in facts if isinstance(fact, JobCompleted)]
        published = await objects_of(store, accepted)
        assert left_behind not in published
        await eventually(lambda: store.under(left_behind), lambda left: not left)
        assert await objects_of(store, accepted) == published
        assert any(published.values())
        await assert_whole(platform.settings)
