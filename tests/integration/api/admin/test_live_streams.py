"""Live status on the real platform: real sockets, the real log, reconnections in the middle of an encode, a thousand listeners."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from api.admin.live.messages import of_progress
from events.envelope import Envelope
from events.progress import ProgressTicked
from events.topics import Partition
from infra.local import supervision
from infra.runtime.clock import new_id, system_context
from infra.runtime.settings import Settings
from projections.folding.positions import Positions
from tests.support import clips
from tests.support.live import Heard, parse
from tests.support.log import appending, read_topic
from tests.support.platform import QUICK, Platform
from tests.support.waiting import eventually

LISTENERS = 1000


async def follow(platform: Platform, path: str, last: str | None = None) -> AsyncGenerator[Heard, None]:
    """Yield the messages of a stream."""
    headers = {"Last-Event-ID": last} if last else {}
    async with platform.admin.stream("GET", path, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        rest = b""
        async for data in answer.aiter_bytes():
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                for heard in parse(block):
                    yield heard


async def until_ready(
    platform: Platform, path: str, last: str | None = None, stop_after: int = 10**6, heard: list[Heard] | None = None
) -> list[Heard]:
    """Follow until the video is ready, or for some messages; what is heard is kept in `heard`, while it comes."""
    heard = [] if heard is None else heard
    async with aclosing(follow(platform, path, last)) as stream, asyncio.timeout(100):
        async for one in stream:
            heard.append(one)
            if (one.data.get("job_id", "") is None and one.data["status"] == "ready") or len(heard) >= stop_after:
                return heard
    raise AssertionError("the stream ended")


def said(heard: list[Heard]) -> dict[str, list[tuple[str, float, str]]]:
    """Return what was said of each job, in order, without the state at the beginning."""
    jobs: dict[str, list[tuple[str, float, str]]] = {}
    for one in heard:
        if one.event in ("progress", "job_completed", "job_failed"):
            step = (one.data["status"], one.data["progress_percent"], one.data["timestamp"])
            jobs.setdefault(str(one.data["job_id"]), []).append(step)
    return jobs


async def listen(platform: Platform, path: str, last: str | None, heard: list[Heard]) -> None:
    """Follow a stream, and keep what is heard."""
    async for one in follow(platform, path, last):
        heard.append(one)  # noqa: PERF401 - while it comes, somebody reads it


def messages(heard: list[Heard]) -> list[str]:
    """Return the notices, without the state at the beginning."""
    return [json.dumps(one.data) for one in heard if one.event not in ("initial", "heartbeat")]


async def notices_on_the_log(platform: Platform, video_id: str, begun: Mapping[Partition, int]) -> dict[Partition, list[str]]:
    """Return the notices that the log has for a video from these positions on, by partition."""
    expected: dict[Partition, list[str]] = {}
    for topic in ("videos", "jobs", "progress"):
        for recorded in await read_topic(platform.settings, topic):
            notice = of_progress(cast(Any, recorded))
            if notice and notice.about == video_id and recorded.offset >= begun[topic, recorded.partition]:
                expected.setdefault((topic, recorded.partition), []).append(json.dumps(notice.data))
    return expected


async def test_a_video_is_followed_to_its_end_and_reconnections_lose_and_repeat_nothing(platform: Platform) -> None:
    data = clips.real_clips()["carphone"].read_bytes() + os.urandom(8)
    begun = (await platform.admin.post("/api/uploads", json={"filename": "a.mp4", "size_bytes": len(data)})).json()
    video_id = begun["video_id"]
    await platform.store.put(begun["url"], content=data)
    path = f"/api/events/progress?video_ids={video_id}"
    await platform.until(video_id, bool)
    async with asyncio.TaskGroup() as group:
        whole: list[Heard] = []
        group.create_task(until_ready(platform, path, heard=whole))
        patchy = await until_ready(platform, path, stop_after=1)
        assert (patchy[0].event, patchy[0].data["videos"][0]["video_id"]) == ("initial", video_id)
        await eventually(lambda: whole)  # whoever begins to listen later does not hear how it began
        completed = await platform.admin.post(f"/api/uploads/{video_id}/complete", json={"title": "Live"})
        assert completed.status_code == 200
        while not any(one.data.get("status") == "ready" for one in patchy):
            patchy += await until_ready(platform, path, patchy[-1].id, stop_after=3)

    assert said(patchy) == said(whole)
    assert [one.event for one in patchy].count("initial") == 1
    for job_id, steps in said(patchy).items():
        if job_id != "None":
            steps.sort(key=lambda step: step[2])  # jobs and progress are two topics: one may be read a moment before the other
            assert [steps[0][0], steps[1][0], steps[-1][0]] == ["queued", "processing", "completed"]
    again = await until_ready(platform, path, patchy[0].id)
    assert said(again) == said(patchy), "the past can be heard again, from any position on"


@pytest.mark.parametrize("part", ["admin", "kafka"])
async def test_what_is_heard_is_what_is_on_the_log_whatever_is_killed(
    settings: Settings, local_engine: Settings, part: str
) -> None:
    """The whole of a video's life, heard across a crash: each message of the log once, in the order of its partition."""
    changes = QUICK | {"attempts_max": 100, "quarantine_after": 1000}  # leases may end while the broker is away
    async with Platform(settings, supervised=True, **changes) as platform:
        video_id = await platform.upload(clips.real_clips()["carphone"])
        await platform.until(video_id, bool)
        path = f"/api/events/progress?video_ids={video_id}"
        heard = await until_ready(platform, path, stop_after=2)
        if part == "admin":
            await platform.kill("admin")
            await platform.recovered()
        else:
            (row,) = [row for row in supervision.status(local_engine) if row["name"] == part]
            os.kill(row["pid"], signal.SIGKILL)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen(platform, path, heard[-1].id, heard))
            await platform.until(video_id, lambda video: video.get("status") == "ready", 150)
            begun = Positions.parse(str(heard[0].id)).next

            async def heard_and_logged() -> tuple[list[str], dict[Partition, list[str]]]:
                return messages(heard), await notices_on_the_log(platform, video_id, begun)

            found, expected = await eventually(heard_and_logged, lambda both: len(both[0]) >= sum(map(len, both[1].values())))
            listening.cancel()

    assert [one.event for one in heard].count("initial") == 1
    assert {partition: [text for text in found if text in notices] for partition, notices in expected.items()} == expected
    assert len(found) == sum(map(len, expected.values()))


async def test_workers_are_followed(platform: Platform) -> None:
    await eventually(lambda: present(platform))
    async with aclosing(follow(platform, "/api/events/workers")) as stream, asyncio.timeout(60):
        initial = await anext(stream)
        assert initial.event == "initial"
        there = {one["worker_id"] for one in initial.data["workers"] if one["status"] in ("idle", "busy")}
        assert there
        async for heard in stream:
            assert heard.event in ("worker_status", "heartbeat")
            if heard.data.get("worker_id") in there:
                break


async def present(platform: Platform) -> list[str]:
    """Return the workers that are there; one that was just started is not yet known."""
    items = (await platform.admin.get("/api/workers")).json()["items"]
    return [worker["worker_id"] for worker in items if worker["presence"] in ("idle", "busy")]


@pytest.mark.parametrize(
    ("path", "last"),
    [("/api/events/progress", "videos:0=1"), ("/api/events/workers", "nonsense"), ("/api/events/progress?as_of=2026-01-01", None)],
)
async def test_what_cannot_be_followed_is_refused(platform: Platform, path: str, last: str | None) -> None:
    answer = await platform.admin.get(path, headers={"Last-Event-ID": last} if last else {})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


@asynccontextmanager
async def listener(platform: Platform, video_id: str) -> AsyncIterator[asyncio.StreamReader]:
    """Yield the stream of one of many listeners, after its state, on a socket of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.settings.admin_port)
    try:
        request = (
            f"GET /api/events/progress?video_ids={video_id} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {platform.token}\r\n\r\n"
        )
        writer.write(request.encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert b"event: initial" in await reader.readuntil(b"\n\n")
        yield reader
    finally:
        writer.close()


async def test_a_thousand_listeners_hear_the_same_soon(platform: Platform) -> None:
    video_id, job_id = new_id(), new_id()

    def tick(percent: float) -> Envelope[Any]:
        event = ProgressTicked(
            job_id=job_id, video_id=video_id, worker_id=new_id(), epoch=1, kind="encode", step="encode", percent=percent
        )
        context = system_context("kinolog/test")
        return Envelope(new_id(), context.source, job_id, context.now, event, video_id)

    async def hear() -> float:
        async with AsyncExitStack() as stack:
            async with entering:
                reader = await stack.enter_async_context(listener(platform, video_id))
            connected.release()
            while b"event: heartbeat" in (frame := await reader.readuntil(b"\n\n")):
                continue  # not all of them were there within 30 s
            assert json.loads(frame.split(b"data: ")[1].split(b"\n")[0])["progress_percent"] == 42.0
            return asyncio.get_running_loop().time()

    connected = asyncio.Semaphore(0)
    entering = asyncio.Semaphore(200)  # more connections of one address that are slow to ask are ended
    async with appending(platform.settings) as appender, asyncio.timeout(200), asyncio.TaskGroup() as group:
        hearing = [group.create_task(hear()) for _ in range(LISTENERS)]
        for _ in range(LISTENERS):
            await connected.acquire()
        wanted = f"kinolog_live_listeners {LISTENERS}.0"  # those of the test before may not be quite gone
        await eventually(lambda: platform.admin.get("/metrics"), lambda answer: wanted in answer.text)
        appended_at = asyncio.get_running_loop().time()
        await appender.append([tick(42.0)])
    slowest = max(task.result() for task in hearing) - appended_at
    print(f"\n{LISTENERS} listeners heard it within {slowest * 1000:.0f} ms")
    assert slowest < 30
