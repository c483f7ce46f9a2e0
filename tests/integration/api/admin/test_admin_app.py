"""The admin app on the real platform: uploads in every way and order, edits, jobs; what is wrong is said, and leaves nothing."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from infra.commands.support.output import short
from infra.runtime import postgres
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from tests.support import clips
from tests.support.apps import client, make
from tests.support.log import settled
from tests.support.platform import Platform, kinolog
from tests.support.waiting import eventually

PART_BYTES = 16 * 2**20
NOBODY = "01926f9c-0000-7000-8000-000000000000"


@pytest.fixture
def carphone() -> Path:
    """A small clip; bytes are put behind it to make its content new."""
    return clips.real_clips()["carphone"]


@pytest.fixture
def store(platform: Platform) -> ObjectStore:
    """The platform's store."""
    return ObjectStore(platform.settings)


async def begin(platform: Platform, size_bytes: int, **more: object) -> tuple[str, dict[str, Any]]:
    answer = await platform.admin.post("/api/uploads", json={"filename": "a.mp4", "size_bytes": size_bytes, **more})
    assert answer.status_code == 201, answer.text
    await platform.until(answer.json()["video_id"], bool)  # on a busy machine it takes longer than the app waits for it
    return f"/api/uploads/{answer.json()['video_id']}", answer.json()


def form(name: str, data: bytes, **fields: str) -> dict[str, Any]:
    return {"files": {"file": (name, data)}, "data": fields}


async def types_on_the_log(platform: Platform, video_id: str) -> list[str]:
    items = (await platform.admin.get(f"/api/videos/{video_id}/timeline")).json()["items"]
    return [item["type"].removeprefix("kinolog.") for item in items]


# --- presigned uploads ----------------------------------------------------------------------------------------------


async def test_parts_in_any_order_resumed_and_completed_again_and_again(platform: Platform, store: ObjectStore) -> None:
    data = os.urandom(PART_BYTES + 1000)
    where, begun = await begin(platform, len(data))
    assert (begun["url"], begun["part_bytes"]) == (None, PART_BYTES)
    pieces = {1: data[:PART_BYTES], 2: data[PART_BYTES:]}
    urls = (await platform.admin.post(f"{where}/parts", json={"numbers": [2, 1]})).json()["urls"]
    second = (await platform.store.put(urls["2"], content=pieces[2])).headers["etag"]
    there = (await platform.admin.get(where)).json()["parts"]
    assert there == [{"number": 2, "etag": second.strip('"'), "size_bytes": 1000}]
    early = await platform.admin.post(f"{where}/complete", json={})
    assert early.status_code == 409 and "1000 bytes" in early.json()["detail"]
    first = (await platform.store.put(urls["1"], content=pieces[1])).headers["etag"]
    parts = [{"number": 2, "etag": second}, {"number": 1, "etag": first}]
    wrong = await platform.admin.post(f"{where}/complete", json={"parts": [parts[0], {"number": 1, "etag": "0" * 32}]})
    twice = await platform.admin.post(f"{where}/complete", json={"parts": [*parts, parts[0]]})
    assert (wrong.status_code, twice.status_code) == (409, 422)
    answers = [await platform.admin.post(f"{where}/complete", json={"title": "Random", "parts": parts}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({(answer.json()["video_id"], answer.json()["slug"]) for answer in answers}) == 1
    stored = hashlib.sha256()
    async for piece in store.stream(f"sources/{begun['video_id']}/original"):
        stored.update(piece)
    assert stored.hexdigest() == hashlib.sha256(data).hexdigest()
    video = await platform.ended(begun["video_id"])
    assert (video["status"], video["title"]) == ("failed", "Random")
    assert (await types_on_the_log(platform, begun["video_id"])).count("video.uploaded.v1") == 1


async def test_a_file_of_another_size_or_none_at_all_is_not_taken(platform: Platform) -> None:
    where, begun = await begin(platform, 10)
    nothing = await platform.admin.post(f"{where}/complete", json={})
    assert nothing.status_code == 409 and "send it first" in nothing.json()["detail"]
    await platform.store.put(begun["url"], content=b"x" * 11)
    longer = await platform.admin.post(f"{where}/complete", json={})
    assert longer.status_code == 409 and "11 bytes together; 10" in longer.json()["detail"]
    await platform.store.put(begun["url"], content=b"x" * 10)
    assert (await platform.admin.post(f"{where}/complete", json={})).status_code == 200


async def test_a_small_file_may_be_sent_again_until_it_is_completed_and_not_after(platform: Platform, store: ObjectStore) -> None:
    where, begun = await begin(platform, 10)
    for data in (b"first sent", b"then again"):
        assert (await platform.store.put(begun["url"], content=data)).status_code == 200
    assert (await platform.admin.post(f"{where}/complete", json={})).status_code == 200

    await platform.store.put(begun["url"], content=b"much later")
    video = await platform.ended(begun["video_id"])
    await platform.store.put(begun["url"], content=b"much later")

    assert video["failure"]["code"] == "FILE_NOT_MEDIA"
    assert await store.get_bytes(f"sources/{begun['video_id']}/original", 100) == b"then again"
    assert [stat.key for stat in await store.under(f"sources/{begun['video_id']}/")] == [f"sources/{begun['video_id']}/original"]


async def nothing_under(store: ObjectStore, prefix: str) -> None:
    """Wait until nothing lies under a prefix."""
    await eventually(lambda: store.under(prefix), lambda left: not left)


async def test_a_cancelled_upload_leaves_nothing_and_stays_cancelled(platform: Platform, store: ObjectStore) -> None:
    for size in (10, PART_BYTES + 1):
        where, begun = await begin(platform, size)
        if begun["url"]:
            await platform.store.put(begun["url"], content=b"x" * size)
        else:
            urls = (await platform.admin.post(f"{where}/parts", json={"numbers": [1]})).json()["urls"]
            await platform.store.put(urls["1"], content=b"x" * 100)
        assert (await platform.admin.delete(where)).status_code == 204
        await platform.until(begun["video_id"], lambda video: video.get("status") == "abandoned")
        await nothing_under(store, f"sources/{begun['video_id']}/")
        for again in (platform.admin.post(f"{where}/complete", json={}), platform.admin.get(where), platform.admin.delete(where)):
            assert (await again).status_code == 409


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/uploads", {"filename": "a.mp4", "size_bytes": 0}, 422),
        ("/api/uploads", {"filename": "a.mp4", "size_bytes": 200 * 2**30}, 422),
        ("/api/uploads", {"filename": "", "size_bytes": 1}, 422),
        ("/api/uploads", {"filename": "x" * 1025, "size_bytes": 1}, 422),
        ("/api/uploads", {"filename": "a\x00b", "size_bytes": 1}, 422),
        ("/api/uploads", {"filename": "a.mp4", "size_bytes": 1, "sha256": "abc"}, 422),
        (f"/api/uploads/{NOBODY}/complete", {}, 404),
        (f"/api/uploads/{NOBODY}/complete", {"title": "x" * 256}, 422),
        (f"/api/uploads/{NOBODY}/complete", {"description": "x" * 5001}, 422),
        (f"/api/uploads/{NOBODY}/parts", {"numbers": [1]}, 404),
        ("/api/uploads/not-an-id/complete", {}, 422),
        (f"/api/videos/{NOBODY}/archive", None, 404),
        (f"/api/jobs/{NOBODY}/retry", None, 404),
        ("/api/jobs/retry", {"kind": "dance"}, 422),
    ],
)
async def test_what_cannot_be_is_refused_with_a_sentence(platform: Platform, path: str, body: object, status: int) -> None:
    answer = await platform.admin.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert len(answer.json()["detail"]) > 10


@pytest.mark.parametrize("path", ["/api/videos/%00", "/api/jobs/%00", "/api/jobs?video_id=%00", "/api/videos?q=%00&status=ready"])
async def test_a_nul_in_an_address_is_nobodys_fault_but_the_clients(platform: Platform, path: str) -> None:
    assert (await platform.admin.get(path)).status_code in (200, 404, 422)


async def test_only_parts_that_the_file_has_are_signed(platform: Platform) -> None:
    where, _ = await begin(platform, 2 * PART_BYTES + 1)
    assert (await platform.admin.post(f"{where}/parts", json={"numbers": [4]})).status_code == 422
    assert len((await platform.admin.post(f"{where}/parts", json={"numbers": [1, 2, 3]})).json()["urls"]) == 3
    single, _ = await begin(platform, 5)
    assert (await platform.admin.post(f"{single}/parts", json={"numbers": [1]})).status_code == 409


async def test_known_content_is_reported_unless_it_is_wanted_again(platform: Platform, carphone: Path) -> None:
    data = carphone.read_bytes() + os.urandom(8)
    sha256 = hashlib.sha256(data).hexdigest()
    made = await platform.admin.post("/api/videos", **form("first.mp4", data))
    assert made.status_code == 201
    first = made.json()["video_id"]
    await platform.until(first, lambda video: video.get("sha256") == sha256)
    announced = await platform.admin.post("/api/uploads", json={"filename": "b.mp4", "size_bytes": 1, "sha256": sha256})
    sent = await platform.admin.post("/api/videos", **form("second.mp4", data))
    for answer in (announced, sent):
        assert (answer.status_code, answer.json()["video_id"], answer.json()["slug"]) == (409, first, made.json()["slug"])
    (listed,) = (await platform.admin.get("/api/videos", params={"sha256": sha256})).json()["items"]
    assert listed["video_id"] == first
    again = await platform.admin.post("/api/videos", params={"force": "true"}, **form("third.mp4", data))
    assert again.status_code == 201 and again.json()["video_id"] != first


# --- forms ----------------------------------------------------------------------------------------------------------


async def test_a_form_is_made_into_a_video(platform: Platform, carphone: Path) -> None:
    data = carphone.read_bytes() + os.urandom(8)
    answer = await platform.admin.post("/api/videos", **form("../ a\u202eb.mp4", data, description="Said", priority="high"))
    assert answer.status_code == 201, answer.text
    video = await platform.ended(answer.json()["video_id"])
    assert (video["status"], video["description"], video["priority"]) == ("ready", "Said", "high")
    assert video["slug"] == answer.json()["slug"]
    assert (video["filename"], video["title"]) == ("../ a\u202eb.mp4", "../ a b.mp4")
    assert video["sha256"] == hashlib.sha256(data).hexdigest()
    assert (await types_on_the_log(platform, video["video_id"]))[:2] == ["upload.started.v1", "video.uploaded.v1"]


async def test_a_big_form_passes_with_flat_memory(platform: Platform) -> None:
    size, block = 256 * 2**20, os.urandom(2**20)
    pid = platform.processes["admin"].pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from here on
    before = peak_bytes(pid)

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.mp4"\r\n\r\n'
        for _ in range(size // len(block)):
            yield block
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await platform.admin.post("/api/videos", content=body(), headers=headers, timeout=100)
    assert answer.status_code == 201, answer.text
    assert peak_bytes(pid) - before < 6 * PART_BYTES
    stored = await ObjectStore(platform.settings).stat(f"sources/{answer.json()['video_id']}/original")
    assert stored.size_bytes == size


def peak_bytes(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"json": {}}, "multipart/form-data"),
        ({"files": {"other": ("a.mp4", b"x")}}, "no `file`"),
        ({"files": {"file": ("a.mp4", b"")}}, "empty"),
        ({"files": {"file": ("a.mp4", b"x")}, "data": {"title": "x" * 256}}, "title"),
        ({"files": {"file": ("a.mp4", b"x")}, "data": {"priority": "now"}}, "priority"),
        ({"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, "in the middle"),
    ],
)
async def test_a_form_that_is_wrong_is_refused(platform: Platform, request_: dict[str, Any], complaint: str) -> None:
    answer = await platform.admin.post("/api/videos", **request_)
    assert answer.status_code == 422
    assert complaint in answer.json()["detail"]


async def test_who_hangs_up_in_the_middle_leaves_nothing(platform: Platform, store: ObjectStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="gone.mp4"\r\n\r\n'
        yield os.urandom(PART_BYTES + 10)
        raise ConnectionError

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with pytest.raises(ConnectionError):
        await platform.admin.post("/api/videos", content=broken(), headers=headers)

    async def gone() -> list[dict[str, Any]]:
        items = (await platform.admin.get("/api/videos", params={"status": "abandoned"})).json()["items"]
        return [video for video in items if video["filename"] == "gone.mp4"]

    video_id = (await eventually(gone))[0]["video_id"]
    types = ["upload.started.v1", "upload.abandoned.v1"]
    await eventually(lambda: types_on_the_log(platform, video_id), lambda found: found == types)
    await nothing_under(store, f"sources/{video_id}/")


# --- managing -------------------------------------------------------------------------------------------------------


async def test_one_reads_ones_own_writes(platform: Platform) -> None:
    _, begun = await begin(platform, 10)
    which = f"/api/videos/{begun['video_id']}"
    for title in ("One", "Two", "Three"):
        written = await platform.admin.patch(which, json={"title": title})
        assert written.status_code == 202
        read = await platform.read(which, written.headers["X-Log-Position"])
        assert read.json()["title"] == title
        assert read.headers["X-Log-Position"].startswith("jobs:") or "videos:" in read.headers["X-Log-Position"]
    partition = written.headers["X-Log-Position"].split("=")[0]
    far = await platform.admin.get(which, headers={"X-Min-Position": f"{partition}=999999999"})
    assert (far.status_code, far.headers["retry-after"]) == (503, "2")
    assert (await platform.admin.get(which, headers={"X-Min-Position": "yesterday"})).status_code == 422
    assert (await platform.admin.patch(which, json={})).status_code == 422


async def test_archived_restored_and_purged(platform: Platform, store: ObjectStore, carphone: Path) -> None:
    made = (
        await platform.admin.post("/api/videos", **form("a.mp4", carphone.read_bytes() + os.urandom(8), title="Gone soon"))
    ).json()
    which, slug = f"/api/videos/{made['video_id']}", made["slug"]
    assert (await platform.ended(made["video_id"]))["status"] == "ready"
    assert (await platform.admin.post(f"{which}/retry")).status_code == 409

    async def shows(status: int) -> None:
        await eventually(lambda: platform.public.get(f"/api/videos/{slug}"), lambda answer: answer.status_code == status)

    for wish, status in (("archive", 404), ("restore", 200)):
        assert (await platform.admin.post(f"{which}/{wish}")).status_code == 202
        await shows(status)
    assert (await platform.public.get(f"/videos/{slug}/master.m3u8")).status_code == 200
    assert (await platform.admin.delete(which)).status_code == 202
    await shows(404)
    assert (await platform.public.get(f"/videos/{slug}/master.m3u8")).status_code == 404
    assert (await platform.admin.post(f"{which}/restore")).status_code == 404
    for folder in ("videos", "sources"):
        await nothing_under(store, f"{folder}/{made['video_id']}/")


async def test_jobs_and_workers_are_shown(platform: Platform, carphone: Path) -> None:
    made = (await platform.admin.post("/api/videos", **form("a.mp4", carphone.read_bytes() + os.urandom(8)))).json()
    await platform.ended(made["video_id"])
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"video_id": made["video_id"], "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await platform.admin.get("/api/jobs", params=params)).json()
        found += page["items"]
        if not (cursor := page["next"]):
            break
    assert {job["kind"] for job in found} >= {"analyse", "encode", "extras", "verify"}
    assert len({job["job_id"] for job in found}) == len(found)
    assert all("seen" not in job for job in found)
    path = f"/api/jobs/{found[0]['job_id']}"
    shown = (await platform.admin.get(path)).json()
    assert shown["attempts"][0]["outcome"] == "completed"
    assert shown["timeline"][0]["type"] == "kinolog.job.queued.v1"
    for wish in ("cancel", "retry"):
        assert (await platform.admin.post(f"{path}/{wish}", json={"reason": "test"})).status_code == 409
    workers = {worker["worker_id"]: worker for worker in (await platform.admin.get("/api/workers")).json()["items"]}
    worker = workers[shown["attempts"][0]["worker_id"]]  # other tests may have had more of them
    assert worker["presence"] in ("idle", "busy") and "encode" in worker["capabilities"]["kinds"]
    assert (await platform.admin.get("/api/queue")).json()["completed"] >= len(found)
    assert (await platform.admin.get("/api/jobs", params={"cursor": "!!"})).status_code == 422


async def test_failed_jobs_are_retried_by_filter(platform: Platform) -> None:
    sent = await platform.admin.post("/api/videos", **form("notes.mp4", b"no video " * 50 + os.urandom(8)))
    video = await platform.ended(sent.json()["video_id"])
    assert video["status"] == "failed"
    wanted = {"video_id": video["video_id"], "reason": "by the test"}
    answer = await platform.admin.post("/api/jobs/retry", json=wanted | {"kind": "encode"})
    assert answer.json() == {"job_ids": [], "more": False}
    answer = await platform.admin.post("/api/jobs/retry", json=wanted)
    assert (answer.status_code, len(answer.json()["job_ids"])) == (202, 1)
    job = f"/api/jobs/{answer.json()['job_ids'][0]}"
    await eventually(lambda: platform.admin.get(job), lambda answer: answer.json()["job"]["epoch"] >= 2)


async def test_eight_characters_of_an_id_name_it_in_every_command(platform: Platform) -> None:
    sent = await platform.admin.post("/api/videos", **form("notes.mp4", b"no video " * 50 + os.urandom(8)))
    video = await platform.ended(sent.json()["video_id"])
    (failure,) = (await platform.admin.get("/api/failures", params={"video_id": video["video_id"]})).json()["items"]
    worker = failure["worker_id"]
    for id_, words in {
        video["video_id"]: ("videos", "timeline", "jobs --video", "failures list --video", "events tail --subject"),
        failure["job_id"]: ("jobs show", "explain job", "failures list --job", "jobs retry"),
        failure["failure_id"]: ("failures show", "failures capsule"),
        worker: ("pause --worker", "resume --worker"),
    }.items():
        for command in words:
            done = await asyncio.to_thread(kinolog, platform, *command.split(), short(id_), "--json")
            assert done.returncode == 0, (command, done.stderr)
            assert id_ in done.stdout or (command == "explain job" and "queued" in done.stdout), command
    (event, *_) = (await platform.admin.get(f"/api/videos/{short(video['video_id'])}/timeline")).json()["items"]
    shown = await asyncio.to_thread(kinolog, platform, "events", "show", short(event["id"]), "--json")
    assert json.loads(shown.stdout)["event"]["id"] == event["id"]
    assert (await platform.admin.get(f"/api/jobs/{NOBODY[-8:]}")).status_code == 404


async def test_a_pool_that_is_not_there_cannot_be_paused(platform: Platform) -> None:
    for wish in ("pause", "resume"):
        answer = await platform.admin.post(f"/api/pools/nosuch/{wish}", json={"reason": "a typing error"})
        assert (answer.status_code, answer.json()["detail"]) == (404, "there is no pool nosuch; there are: default")


async def test_a_paused_pool_gets_no_jobs_until_it_is_resumed(settings: Settings, tmp_path: Path) -> None:
    """A job that waits is requeued at another priority; a worker that is drained ends by itself."""
    async with Platform(settings) as platform:
        worker = await the_worker(platform)
        paused = await platform.admin.post("/api/pools/default/pause", json={"reason": "the store is moved"})
        assert (paused.status_code, paused.json()) == (202, {"pool": "default", "worker_id": None})
        (tmp_path / "nothing.mp4").write_bytes(b"no video")
        video_id = await platform.upload(tmp_path / "nothing.mp4")
        job = await the_job(platform, video_id, "queued")
        shown = await the_worker(platform)
        assert (shown["presence"], shown["paused"]["of"], shown["paused"]["reason"]) == ("paused", "pool", "the store is moved")
        assert {"encoder": "libx264", "works": True, "reason": None} in shown["trials"]
        assert "paused (its pool is paused: the store is moved)" in kinolog(platform, "workers").stdout.replace("\n", " ")
        answer = await platform.admin.post(f"/api/jobs/{job}/requeue", json={"reason": "urgent", "priority": "high"})
        assert answer.status_code == 202
        await the_job(platform, video_id, "queued", priority="high")
        await platform.admin.post("/api/pools/default/resume", json={"reason": "it has moved"})
        assert (await platform.ended(video_id))["status"] == "failed"
        assert (await platform.admin.post(f"/api/jobs/{job}/requeue")).status_code == 409
        drained = await platform.admin.post(f"/api/workers/{worker['worker_id']}/pause", json={"drain": True})
        assert drained.json()["worker_id"] == worker["worker_id"]
        async with asyncio.timeout(60):
            assert await platform.processes["worker-1"].wait() == 0
        assert (await platform.admin.post(f"/api/workers/{NOBODY}/resume")).status_code == 404


async def the_worker(platform: Platform) -> dict[str, Any]:
    """Return the platform's one worker; it is ready a moment before it is listed."""
    await settled(platform.settings)
    found = await eventually(lambda: platform.admin.get("/api/workers"), lambda answer: answer.json()["items"])
    worker: dict[str, Any]
    (worker,) = found.json()["items"]
    return worker


async def the_job(platform: Platform, video_id: str, status: str, **more: str) -> str:
    """Wait until the video's one job is so; return its id."""

    async def jobs() -> list[dict[str, Any]]:
        return list((await platform.admin.get("/api/jobs", params={"video_id": video_id})).json()["items"])

    found = await eventually(jobs, lambda jobs: jobs and {"status": status, **more}.items() <= jobs[0].items())
    return str(found[0]["job_id"])


async def test_metrics_are_by_route(platform: Platform) -> None:
    await platform.admin.get(f"/api/videos/{NOBODY}")
    wanted = (
        'kinolog_http_requests_total{app="admin",method="GET",route="/api/videos/{which}",status="404"}',
        'kinolog_http_requests_in_flight{app="admin"} 1.0',
    )
    async with httpx.AsyncClient(base_url=platform.admin.base_url, timeout=30) as anybody:
        # a request is counted after its answer
        answer = await eventually(lambda: anybody.get("/metrics"), lambda answer: all(sample in answer.text for sample in wanted))
    assert NOBODY not in answer.text


# --- services that are away -----------------------------------------------------------------------------------------


async def test_while_the_log_is_away_writes_are_put_off_and_reads_go_on(platform: Platform) -> None:
    async def away(envelopes: Sequence[Envelope[Event]]) -> Sequence[Any]:
        raise LogUnavailable

    pool = await postgres.open_pool(platform.settings)
    store = ObjectStore(platform.settings)
    try:
        async with client(make("admin", pool=pool, store=store, append=away)) as http:
            for answer in (
                await http.post("/api/uploads", json={"filename": "a", "size_bytes": 1}),
                await http.post("/api/videos", files={"file": ("a.mp4", b"x")}),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert "log" in answer.json()["detail"]
            assert (await http.get("/api/videos")).status_code == 200
    finally:
        await pool.close()


async def test_without_database_and_store_health_goes_on_and_readiness_says_what_is_missing(platform: Platform) -> None:
    pool = await postgres.open_pool(platform.settings)
    await pool.close()
    nowhere = ObjectStore(platform.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"}))
    async with client(make("public", pool=pool, store=nowhere)) as http:
        assert (await http.get("/health")).status_code == 200
        ready = await http.get("/ready")
        assert (ready.status_code, set(ready.json()["missing"])) == (503, {"postgres", "objects"})
        assert ready.json()["can"] == {"read": False}
        answer = await http.get("/api/videos")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
