"""The worker app on the real platform: the life of a job over HTTP, and everything that is refused, each with an event."""

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from events.clock import Context
from events.envelope import Envelope, Event
from events.jobs import AnalyseSpec, AudioSpec, EncodeSpec, JobClaimed, JobKind, JobSpec, JobSubmitted, Requirements, Source
from events.media import ObjectRef
from events.workers import WorkerKeyRevoked
from infra import supervision
from infra.runtime import kafka
from infra.runtime.clock import system_context
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from producers.appender import Appender
from tests.conftest import new_world
from tests.support.log import read_topic
from tests.support.platform import ROOT, Platform
from tests.support.remote import ABOUT, CAPABILITIES, register, token

SEGMENT = b"\x00\x00\x00\x18styp" + bytes(range(200))
SHA256 = hashlib.sha256(SEGMENT).hexdigest()
NOBODY = "01926f9c-0000-7000-8000-000000000000"
ANALYSED = {"container": "mp4", "duration_ms": 1000, "size_bytes": 9, "sha256": "5a" * 32}


def encode_spec() -> EncodeSpec:
    """Return a chunk to encode, from the vocabulary's example."""
    (path, *_) = sorted((ROOT / "events/examples/kinolog.job.submitted.v1").glob("*chunk*"))
    return EncodeSpec.model_validate(json.loads(path.read_text())["data"]["spec"])


@pytest.fixture(scope="module")
async def gate(engine: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """A platform without workers, so that every job is for us."""
    world = new_world(engine, tmp_path_factory.mktemp("gate"))
    async with Platform(world, workers=0, lease_s=30, lease_renew_s=1, backoff_base_s=0, worker_version_min="0.1.0") as running:
        yield running


@pytest.fixture
async def log(gate: Platform) -> AsyncIterator[Appender]:
    """What puts requests on the platform's log."""
    appender = Appender(lambda: kafka.open_producer(gate.settings), topic_prefix=gate.settings.topic_prefix)
    await appender.start()
    yield appender
    await appender.stop()


class Worker:
    """A registered worker, as its own program would speak."""

    def __init__(self, platform: Platform, joined: dict[str, Any]) -> None:
        self.platform = platform
        self.worker_id: str = joined["worker_id"]
        self.key: str = joined["api_key"]
        self.headers = {"X-Worker-API-Key": self.key}

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        more["headers"] = self.headers | more.get("headers", {})
        return await self.platform.worker.request(method, f"/api/worker{path}", **more)

    async def claim(self, kind: JobKind, wait_s: float = 10.0, **more: Any) -> dict[str, Any]:
        wish = {"claim_id": str(uuid.uuid4()), "code_version": "0.1.0", "wait_s": wait_s}
        wish |= {"capabilities": CAPABILITIES | {"kinds": [kind]}} | more
        answer = await self.call("POST", "/claim", json=wish)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def upload(
        self, job: dict[str, Any], name: str, data: bytes, *, epoch: int | None = None, **headers: str
    ) -> httpx.Response:
        kind = "segment" if "/" in name else "file"
        path = f"/upload/{job['job_id']}/{kind}/{name}"
        return await self.call("POST", path, params={"epoch": epoch or job["epoch"]}, content=data, headers=headers)


@pytest.fixture
async def worker(gate: Platform) -> Worker:
    """Somebody who may speak."""
    return Worker(gate, await register(gate))


async def submitted(log: Appender, spec: JobSpec) -> str:
    """Have a job queued; return its id."""
    context: Context = system_context("test")
    job_id, video_id = context.new_id(), context.new_id()
    event = JobSubmitted(job_id=job_id, video_id=video_id, pool="default", spec=spec, requirements=Requirements(kind=spec.kind))
    await log.append([Envelope[Event](context.new_id(), "test", "default", context.now, event, video_id)])
    return job_id


async def given_job(log: Appender, worker: Worker, spec: JobSpec | None = None) -> dict[str, Any]:
    """Return a job that the worker has claimed."""
    spec = spec or encode_spec()
    job_id = await submitted(log, spec)
    claimed = await worker.claim(spec.kind)
    assert claimed["job_id"] == job_id, claimed
    return claimed


async def refusals(platform: Platform, **wanted: object) -> list[Any]:
    """Return the audit's events about refusals that have these fields."""
    facts = [recorded.envelope.data for recorded in await read_topic(platform.settings, "workers")]
    found = [fact for fact in facts if type(fact).__name__ == "WorkerRequestRefused"]
    return [fact for fact in found if all(getattr(fact, name) == value for name, value in wanted.items())]


async def facts_of(platform: Platform, job_id: str) -> list[str]:
    """Return what was decided about a job."""
    facts = [recorded.envelope.data for recorded in await read_topic(platform.settings, "jobs")]
    return [type(fact).__name__ for fact in facts if getattr(fact, "job_id", "") == job_id]


async def audited(platform: Platform, **wanted: object) -> list[Any]:
    """Wait until the audit has a refusal with these fields: it is told after the answer."""
    async with asyncio.timeout(10):
        while not (found := await refusals(platform, **wanted)):
            await asyncio.sleep(0.05)
    return found


# --- the life of a job ----------------------------------------------------------------------------------------------


async def test_a_job_from_its_claim_to_its_end(gate: Platform, worker: Worker, log: Appender) -> None:
    waiting = asyncio.create_task(worker.claim("analyse", wait_s=20))
    job_id = await submitted(log, AnalyseSpec(source=Source(object_key="sources/x", size_bytes=9)))
    job = await waiting
    assert (job["job_id"], job["epoch"], job["attempt"], job["reason"]) == (job_id, 1, 1, "claimed")
    assert JobClaimed.model_validate(job["claim"]).worker_id == worker.worker_id
    tick = {"epoch": 1, "current_step": "probe", "progress_percent": 12.5}
    ticked = await worker.call("POST", f"/{job_id}/progress", json=tick)
    assert ticked.json()["state"] == "continue" and ticked.json()["claim_expires_at"] > job["claim_expires_at"]
    done = {"epoch": 1, "result": {"kind": "analyse", "probe": ANALYSED}}
    first = await worker.call("POST", f"/{job_id}/complete", json=done)
    again = await worker.call("POST", f"/{job_id}/complete", json=done)
    assert (first.json()["message"], again.json()["message"]) == ("Job completed", "Job already completed")
    late = await worker.call("POST", f"/{job_id}/progress", json=tick)
    assert (late.status_code, late.json()["state"]) == (409, "fenced")
    assert await facts_of(gate, job_id) == ["JobQueued", "JobClaimed", "JobCompleted"]


async def test_a_claim_without_a_job_is_answered_when_its_time_is_over(worker: Worker) -> None:
    answer = await worker.claim("extras", wait_s=0.2)
    assert (answer["job_id"], answer["reason"], answer["message"]) == (None, "no_job", "No jobs available")


async def test_a_claim_said_again_is_answered_once(worker: Worker, log: Appender) -> None:
    name = str(uuid.uuid4())
    await submitted(log, encode_spec())
    answers = [await worker.claim("encode", claim_id=name) for _ in range(3)]
    assert len({(answer["job_id"], answer["epoch"]) for answer in answers}) == 1
    await worker.call("POST", f"/{answers[0]['job_id']}/release", json={"epoch": 1, "reason": "enough"})
    other = await worker.claim("encode")
    assert (other["job_id"], other["epoch"]) == (answers[0]["job_id"], 2)
    await worker.call("POST", f"/{other['job_id']}/fail", json={"epoch": 2, "retry": False})


async def test_who_hangs_up_while_waiting_gets_no_job(gate: Platform, worker: Worker, log: Appender) -> None:
    wish = {"claim_id": str(uuid.uuid4()), "code_version": "0.1.0", "capabilities": CAPABILITIES | {"kinds": ["audio"]}}
    with pytest.raises(httpx.ReadTimeout):
        await worker.call("POST", "/claim", json=wish, timeout=0.5)
    source = Source(object_key="s", size_bytes=1)
    job_id = await submitted(log, AudioSpec(source=source, format="cmaf", segment_ms=6000, duration_ms=1, renditions=()))
    claimed = await worker.claim("audio")
    assert (claimed["job_id"], claimed["attempt"]) == (job_id, 1)
    assert claimed["epoch"] in (1, 2)
    await worker.call("POST", f"/{job_id}/fail", json={"epoch": claimed["epoch"], "retry": False})


async def test_a_failure_is_decided_and_the_answer_tells(worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    failed = (await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "error_message": "no disk"})).json()
    again = (await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "error_message": "no disk"})).status_code
    assert (failed["will_retry"], failed["attempt_number"]) == (True, 1)
    assert again == 200
    second = await worker.claim("encode")
    for_good = (await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": second["epoch"], "retry": False})).json()
    assert for_good == {"status": "ok", "will_retry": False, "attempt_number": 2, "retry_at": None}


async def test_a_cancelled_job_is_told_so_at_the_next_tick(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    async with asyncio.timeout(10):
        while (await gate.admin.post(f"/api/jobs/{job['job_id']}/cancel")).status_code != 202:
            await asyncio.sleep(0.05)
        while (answer := await worker.call("POST", f"/{job['job_id']}/progress", json={"epoch": 1})).status_code == 200:
            await asyncio.sleep(0.05)
    assert (answer.status_code, answer.json()["state"]) == (409, "cancelled")


# --- bytes ----------------------------------------------------------------------------------------------------------


async def test_a_source_is_answered_whole_and_in_parts(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    await ObjectStore(gate.settings).put_bytes(f"sources/{job['video_id']}/original", bytes(range(256)), "video/mp4")
    where, query = f"/source/{job['job_id']}", {"epoch": 1}
    whole = await worker.call("GET", where, params=query)
    part = await worker.call("GET", where, params=query, headers={"Range": "bytes=250-", "If-Range": whole.headers["etag"]})
    assert (whole.status_code, whole.content) == (200, bytes(range(256)))
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, bytes(range(250, 256)), "bytes 250-255/256")
    assert (await worker.call("GET", where, params={"epoch": 2})).status_code == 409
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})
    assert (await worker.call("GET", where, params=query)).status_code == 409


async def test_segments_are_kept_once_listed_and_missed_by_name(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    first = await worker.upload(job, "360p/00000.m4s", SEGMENT, **{"X-Content-SHA256": SHA256})
    again = await worker.upload(job, "360p/00000.m4s", SEGMENT)
    other = await worker.upload(job, "360p/00000.m4s", SEGMENT + b"x")
    assert first.json() == {"status": "ok", "written": True, "bytes_written": len(SEGMENT), "checksum_verified": True}
    assert (again.json()["written"], other.status_code) == (False, 409)
    stored = await ObjectStore(gate.settings).get_bytes(f"videos/{job['video_id']}/{job['job_id']}/1/360p/00000.m4s", 1000)
    assert stored == SEGMENT
    listed = await worker.call("GET", f"/upload/{job['job_id']}/segments/status", params={"epoch": 1, "quality": "360p"})
    assert listed.json() == {"quality": "360p", "received_segments": ["00000.m4s"], "total_size_bytes": len(SEGMENT)}
    final = {"epoch": 1, "quality": "360p", "segment_count": 3}
    told = (await worker.call("POST", f"/upload/{job['job_id']}/segment/finalize", json=final)).json()
    assert told == {"status": "incomplete", "complete": False, "missing_segments": ["00001.m4s", "00002.m4s"]}
    verified = (await worker.call("GET", f"/{job['job_id']}/verify-complete", params={"epoch": 1})).json()
    assert (verified["all_files_present"], verified["missing_files"], verified["job_status"]) == (False, ["result.json"], "claimed")
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})
    assert (await worker.upload(job, "360p/00001.m4s", SEGMENT)).status_code == 409


async def test_the_same_segment_sent_twice_at_once_is_written_once(worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    answers = await asyncio.gather(*(worker.upload(job, "360p/00000.m4s", SEGMENT) for _ in range(5)))
    assert sorted(answer.json()["written"] for answer in answers) == [False] * 4 + [True]
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return a tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
            opened.addfile(member, io.BytesIO(data))
    return packed.getvalue()


async def test_an_archive_is_unpacked_into_the_claims_prefix(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    packed = archive(("360p/00000.m4s", SEGMENT), ("./360p/00001.m4s", SEGMENT), ("result.json", b"{}"))
    path, query = f"/upload/{job['job_id']}/archive", {"epoch": 1}
    first = await worker.call("POST", path, params=query, content=packed)
    again = await worker.call("POST", path, params=query, content=packed)
    assert first.json() == {"status": "ok", "files": 3, "written": 3, "bytes_written": 2 * len(SEGMENT) + 2}
    assert (again.json()["files"], again.json()["written"]) == (3, 0)
    names = [stat.key for stat in await ObjectStore(gate.settings).under(f"videos/{job['video_id']}/")]
    prefix = f"videos/{job['video_id']}/{job['job_id']}/1"
    assert names == [f"{prefix}/360p/00000.m4s", f"{prefix}/360p/00001.m4s", f"{prefix}/result.json"]
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


def bomb() -> bytes:
    """Return an archive that claims a file of 64 GB, and one header that is said to have gigabytes."""
    header = tarfile.TarInfo("360p/00000.m4s")
    header.size = 64 * 2**30
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))


def long_header() -> bytes:
    header = tarfile.TarInfo("x")
    header.size, header.type = 3 * 2**30, tarfile.XHDTYPE
    return gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20))


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (b"no archive at all", 422),
        (archive(("360p/00000.m4s", SEGMENT))[:100], 422),
        (archive(("../../../etc/passwd", SEGMENT)), 422),
        (archive(("/360p/00000.m4s", SEGMENT)), 422),
        (archive(("360p/../../x.m4s", SEGMENT)), 422),
        (archive(("360p/run.sh", b"#!/bin/sh")), 422),
        (archive(("360p/00000.m4s", b"not a segment at all")), 422),
        (archive(("360p/00000.m4s", b""), kind=tarfile.SYMTYPE, link="/etc/passwd"), 422),
        (archive(("360p/00000.m4s", b""), kind=tarfile.LNKTYPE, link="/etc/passwd"), 422),
        (archive(("360p/00000.m4s", b""), kind=tarfile.CHRTYPE), 422),
        (bomb(), 413),
        (long_header(), 422),
    ],
    ids=["junk", "cut", "up", "root", "up-inside", "script", "magic", "symlink", "hardlink", "device", "bomb", "header"],
)
async def test_an_archive_that_is_wrong_leaves_nothing(
    gate: Platform, worker: Worker, log: Appender, packed: bytes, status: int
) -> None:
    job = await given_job(log, worker)
    answer = await worker.call("POST", f"/upload/{job['job_id']}/archive", params={"epoch": 1}, content=packed)
    assert (answer.status_code, len(answer.json()["detail"]) > 10) == (status, True), answer.text
    assert await ObjectStore(gate.settings).under(f"videos/{job['video_id']}/") == []
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


@pytest.mark.parametrize(
    "path",
    [
        "..%2F..%2Fx/00000.m4s",
        "360p/..%2Fx.m4s",
        "360p/%00.m4s",
        "360p/a%25.m4s",
        "360p/x.sh",
        "360p/.m4s",
        "360p/%20x.m4s",
        "UP/x.m4s",
        "360p/" + "x" * 252 + ".m4s",
        "360p/a..b.m4s",
    ],
)
async def test_a_name_that_a_job_cannot_have_is_refused(gate: Platform, worker: Worker, log: Appender, path: str) -> None:
    job = await given_job(log, worker)
    answer = await worker.upload(job, path, SEGMENT)
    assert answer.status_code in (404, 422)
    assert await ObjectStore(gate.settings).under(f"videos/{job['video_id']}/") == []
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


async def announced(worker: Worker, path: str, length: int) -> int:
    """Announce a body of a length and send none of it; return the status."""
    url = worker.platform.worker.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Worker-API-Key: {worker.key}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_wrong_bytes_are_refused_and_told(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    digest = await worker.upload(job, "360p/00000.m4s", SEGMENT + b"!", **{"X-Content-SHA256": SHA256})
    magic = await worker.upload(job, "360p/00000.ts", SEGMENT)
    assert [answer.status_code for answer in (digest, magic)] == [422, 422]
    where = f"/api/worker/upload/{job['job_id']}"
    assert await announced(worker, f"{where}/segment/360p/00000.m4s?epoch=1", 5 * 2**30) == 413
    assert await announced(worker, f"{where}/segment/finalize", 2 * 2**20) == 413
    assert await announced(worker, "/api/worker/heartbeat", 2 * 2**20) == 413
    assert await ObjectStore(gate.settings).under(f"videos/{job['video_id']}/") == []
    assert {refusal.status for refusal in await refusals(gate, worker_id=worker.worker_id)} >= {422}
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


# --- who may --------------------------------------------------------------------------------------------------------


async def test_another_workers_job_is_not_ones_own(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    thief = Worker(gate, await register(gate))
    tried = [
        await thief.call("POST", f"/{job['job_id']}/progress", json={"epoch": 1}),
        await thief.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1}),
        await thief.call("POST", f"/{job['job_id']}/release", json={"epoch": 1, "reason": "x"}),
        await thief.call("POST", f"/{job['job_id']}/complete", json={"epoch": 1, "result": {"kind": "analyse", "probe": ANALYSED}}),
        await thief.call("GET", f"/source/{job['job_id']}", params={"epoch": 1}),
        await thief.upload(job, "360p/00000.m4s", SEGMENT),
        await thief.call("GET", f"/upload/{job['job_id']}/segments/status", params={"epoch": 1, "quality": "360p"}),
    ]
    assert [answer.status_code for answer in tried] == [403] * 7
    assert all(answer.json()["state"] == "not_yours" for answer in tried)
    assert len(await refusals(gate, worker_id=thief.worker_id, status=403)) == 7
    assert (await worker.call("POST", f"/{NOBODY}/progress", json={"epoch": 1})).status_code == 404
    assert (await worker.call("POST", f"/{job['job_id']}/progress", json={"epoch": 1})).status_code == 200
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


async def test_a_result_that_is_not_true_is_refused(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    prefix = f"videos/{job['video_id']}/{job['job_id']}/1"

    def result(key: str) -> dict[str, Any]:
        ref = ObjectRef(key=key, size_bytes=2, sha256=hashlib.sha256(b"{}").hexdigest())
        return {"epoch": 1, "result": {"kind": "media", "renditions": [], "result": ref.model_dump()}}

    where = f"/{job['job_id']}/complete"
    wrong_kind = await worker.call("POST", where, json={"epoch": 1, "result": {"kind": "analyse", "probe": ANALYSED}})
    foreign = await worker.call("POST", where, json=result(f"videos/{NOBODY}/x/1/result.json"))
    missing = await worker.call("POST", where, json=result(f"{prefix}/result.json"))
    stale = await worker.call("POST", where, json=result(f"{prefix}/result.json") | {"epoch": 2})
    assert [answer.status_code for answer in (wrong_kind, foreign, missing, stale)] == [422, 422, 409, 409]
    assert "result.json" in missing.json()["detail"]
    await worker.upload(job, "result.json", b"{}")
    assert (await worker.call("POST", where, json=result(f"{prefix}/result.json"))).status_code == 200
    replayed = await worker.call("POST", where, json=result(f"{prefix}/result.json") | {"epoch": 2})
    assert replayed.status_code == 409
    assert len(await refusals(gate, worker_id=worker.worker_id, status=409)) == 1


class Attack(NamedTuple):
    """A request that must not succeed: by whom, what, and the status and route that the audit has."""

    by: Worker
    method: str
    path: str
    status: int
    route: str
    more: dict[str, Any]


def attacks(worker: Worker, thief: Worker, job: dict[str, Any]) -> list[Attack]:
    """Return what a worker may try with its own job, and somebody else with it."""
    of, upload = f"/{job['job_id']}", f"/upload/{job['job_id']}"
    epoch, wrong = {"epoch": 1}, {"X-Content-SHA256": "5a" * 32}
    good, up = archive(("360p/00000.m4s", SEGMENT)), archive(("../../../etc/passwd", SEGMENT))
    link = archive(("360p/00000.m4s", b""), kind=tarfile.SYMTYPE, link="/etc/passwd")
    archived, segment = "/upload/{job_id}/archive", "/upload/{job_id}/segment/{quality}/{filename}"
    final = {"epoch": 1, "quality": "360p", "segment_count": 1}
    done = {"epoch": 1, "result": {"kind": "analyse", "probe": ANALYSED}}
    return [
        Attack(worker, "POST", f"{upload}/segment/360p/a..b.m4s", 422, segment, {"params": epoch, "content": SEGMENT}),
        Attack(worker, "GET", f"/object{of}/..%2F..%2Fsources%2Fx", 422, "/object/{job_id}/{path:path}", {"params": epoch}),
        Attack(worker, "GET", f"/object{of}/{NOBODY}/1/..%2Fx", 422, "/object/{job_id}/{path:path}", {"params": epoch}),
        Attack(worker, "POST", f"{upload}/archive", 422, archived, {"params": epoch, "content": up}),
        Attack(worker, "POST", f"{upload}/archive", 422, archived, {"params": epoch, "content": link}),
        Attack(worker, "POST", f"{upload}/archive", 422, archived, {"params": epoch, "content": good, "headers": wrong}),
        Attack(worker, "POST", f"{upload}/archive", 413, archived, {"params": epoch, "content": bomb()}),
        Attack(
            worker, "POST", f"{upload}/segment/360p/0.m4s", 422, segment, {"params": epoch, "content": SEGMENT, "headers": wrong}
        ),
        Attack(worker, "POST", f"{of}/complete", 422, "/{job_id}/complete", {"json": done}),
        Attack(worker, "POST", f"{of}/complete", 409, "/{job_id}/complete", {"json": done | {"epoch": 2}}),
        Attack(worker, "POST", f"/{NOBODY}/complete", 404, "/{job_id}/complete", {"json": done}),
        Attack(thief, "GET", f"/object{of}/{NOBODY}/1/x.m4s", 403, "/object/{job_id}/{path:path}", {"params": epoch}),
        Attack(thief, "POST", f"{upload}/archive", 403, archived, {"params": epoch, "content": good}),
        Attack(thief, "POST", f"{upload}/segment/finalize", 403, "/upload/{job_id}/segment/finalize", {"json": final}),
        Attack(thief, "GET", f"{of}/verify-complete", 404, "/{job_id}/verify-complete", {"params": epoch}),
        Attack(thief, "POST", f"{of}/complete", 403, "/{job_id}/complete", {"json": done}),
    ]


async def test_of_an_attack_comes_a_clear_refusal_and_an_event_of_the_audit_and_nothing_else(
    gate: Platform, worker: Worker, log: Appender
) -> None:
    job = await given_job(log, worker)
    tried = attacks(worker, Worker(gate, await register(gate)), job)
    for attack in tried:
        answer = await attack.by.call(attack.method, attack.path, **attack.more)
        assert (answer.status_code, answer.headers["content-type"]) == (attack.status, "application/problem+json"), attack
        assert len(answer.json()["detail"]) > 10
    for attack in tried:
        await audited(gate, worker_id=attack.by.worker_id, route=f"/api/worker{attack.route}", status=attack.status)
    assert await ObjectStore(gate.settings).under(f"videos/{job['video_id']}/") == []
    assert (await worker.call("POST", f"/{job['job_id']}/progress", json={"epoch": 1})).status_code == 200
    assert await facts_of(gate, job["job_id"]) == ["JobQueued", "JobClaimed"]
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


async def test_a_completion_that_somebody_replays_completes_nothing(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker, AnalyseSpec(source=Source(object_key="sources/x", size_bytes=9)))
    thief = Worker(gate, await register(gate))
    done = {"epoch": 1, "result": {"kind": "analyse", "probe": ANALYSED}}
    where = f"/{job['job_id']}/complete"
    answers = [await one.call("POST", where, json=done) for one in (thief, worker, thief, worker)]
    later = await worker.call("POST", where, json=done | {"epoch": 2})
    assert [answer.status_code for answer in answers] == [403, 200, 403, 200]
    assert (answers[3].json()["message"], later.status_code) == ("Job already completed", 409)
    await audited(gate, worker_id=thief.worker_id, status=403)
    await audited(gate, worker_id=worker.worker_id, status=409)
    assert await facts_of(gate, job["job_id"]) == ["JobQueued", "JobClaimed", "JobCompleted"]


async def test_bodies_that_are_too_long_are_told_of(gate: Platform, worker: Worker) -> None:
    assert await announced(worker, "/api/worker/heartbeat", 2 * 2**20) == 413
    assert await audited(gate, status=413, worker_id="unknown")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "no_key"),
        ("", "no_key"),
        ("short", "malformed"),
        ("x" * 43, "unknown"),
        ("x" * 5000, "malformed"),
        ("\xff" * 43, "unknown"),
    ],
)
async def test_a_key_that_is_none_opens_nothing(gate: Platform, key: str | None, reason: str) -> None:
    headers = {} if key is None else {"X-Worker-API-Key": key.encode("latin-1")}
    answer = await gate.worker.post("/api/worker/heartbeat", json={}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert await refusals(gate, worker_id="unknown", status=401, reason=reason)
    if key:
        assert key not in answer.text


async def test_a_key_that_begins_like_a_good_one_is_not_it(gate: Platform, worker: Worker) -> None:
    forged = worker.key[:8] + ("a" if worker.key[8] != "a" else "b") + worker.key[9:]
    answer = await gate.worker.post("/api/worker/heartbeat", json={}, headers={"X-Worker-API-Key": forged})
    assert answer.status_code == 401
    assert await audited(gate, worker_id="unknown", status=401, reason="unknown"), "and nobody is blamed for it"
    assert (await worker.call("POST", "/heartbeat", json={})).status_code == 200


async def test_a_revoked_key_is_good_for_nothing_within_a_second(gate: Platform, worker: Worker) -> None:
    assert (await worker.call("POST", "/heartbeat", json={})).status_code == 200
    revoked = await gate.admin.post(f"/api/worker-keys/{worker.worker_id}/revoke", json={"reason": "sold"})
    assert revoked.status_code == 200
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(5):
        while (answer := await worker.call("POST", "/heartbeat", json={})).status_code == 200:
            await asyncio.sleep(0.02)
    assert loop.time() - begun < 1.0
    assert answer.status_code == 401 and "revoked" in answer.json()["detail"]
    (refusal,) = await refusals(gate, worker_id=worker.worker_id)
    assert (refusal.reason, refusal.key_id) == ("revoked", revoked.json()["key_ids"][0])
    assert (await gate.admin.post(f"/api/worker-keys/{worker.worker_id}/revoke")).status_code == 404


async def test_a_rotated_key_is_good_besides_the_new_one_for_a_while(worker: Worker) -> None:
    fresh = (await worker.call("POST", "/rotate", json={"overlap_s": 60})).json()
    assert fresh["worker_id"] == worker.worker_id and fresh["api_key"] != worker.key
    new = Worker(worker.platform, fresh)
    assert [(await one.call("POST", "/heartbeat", json={})).status_code for one in (worker, new)] == [200, 200]
    newest = Worker(worker.platform, (await new.call("POST", "/rotate", json={"overlap_s": 0})).json())
    async with asyncio.timeout(5):
        while (ended := await new.call("POST", "/heartbeat", json={})).status_code == 200:
            await asyncio.sleep(0.02)
    assert "expired" in ended.json()["detail"]
    assert await audited(worker.platform, worker_id=worker.worker_id, status=401, reason="expired")
    assert (await newest.call("POST", "/heartbeat", json={})).status_code == 200


async def test_a_join_token_is_good_once_for_its_time_and_for_joining_only(gate: Platform) -> None:
    made = await token(gate, life_s=60)
    headers = {"X-Join-Token": made["token"]}
    as_key = await gate.worker.post("/api/worker/heartbeat", json={}, headers={"X-Worker-API-Key": made["token"]})
    both = await asyncio.gather(*(gate.worker.post("/api/worker/register", json=ABOUT, headers=headers) for _ in range(2)))
    assert as_key.status_code == 401
    assert await audited(gate, status=401, reason="wrong_purpose")
    assert sorted(answer.status_code for answer in both) == [200, 401]
    brief = await token(gate, life_s=1)
    async with asyncio.timeout(10):
        while (await gate.admin.get("/api/worker-keys")).json()["items"][0]["expires_at"] > system_context("x").now.isoformat():
            await asyncio.sleep(0.05)
    late = await gate.worker.post("/api/worker/register", json=ABOUT, headers={"X-Join-Token": brief["token"]})
    assert (late.status_code, "expired" in late.json()["detail"]) == (401, True)


async def test_the_administrators_token_registers_and_a_wrong_one_does_not(gate: Platform) -> None:
    right = await gate.worker.post("/api/worker/register", json=ABOUT, headers={"X-Admin-Secret": gate.token})
    wrong = await gate.worker.post("/api/worker/register", json=ABOUT, headers={"X-Admin-Secret": "no"})
    none = await gate.worker.post("/api/worker/register", json=ABOUT)
    assert [answer.status_code for answer in (right, wrong, none)] == [200, 403, 401]


async def test_a_key_for_some_kinds_and_pools_gets_no_others(gate: Platform, log: Appender) -> None:
    narrow = Worker(gate, await register(gate, kinds=["verify"], pools=["default"]))
    job_id = await submitted(log, encode_spec())
    assert (await narrow.claim("encode", wait_s=0.3))["job_id"] is None
    wish = {"claim_id": str(uuid.uuid4()), "code_version": "0.1.0", "capabilities": CAPABILITIES, "pool": "night"}
    refused = await narrow.call("POST", "/claim", json=wish)
    assert (refused.status_code, "night" in refused.json()["detail"]) == (403, True)
    wide = Worker(gate, await register(gate))
    assert (await wide.claim("encode"))["job_id"] == job_id
    await wide.call("POST", f"/{job_id}/fail", json={"epoch": 1, "retry": False})


async def test_a_worker_of_another_version_is_told_so_and_gets_no_job(worker: Worker, log: Appender) -> None:
    job_id = await submitted(log, encode_spec())
    old = await worker.claim("encode", code_version="0.0.9")
    assert (old["job_id"], old["reason"]) == (None, "version")
    assert old["message"] == "Version 0.0.9 gets no jobs here: 0.1.0 to any is wanted"
    beat = (await worker.call("POST", "/heartbeat", json={"code_version": "0.0.9"})).json()
    assert (beat["version_ok"], beat["required_version"]) == (False, "0.1.0 to any")
    assert (await worker.claim("encode"))["job_id"] == job_id
    await worker.call("POST", f"/{job_id}/fail", json={"epoch": 1, "retry": False})


async def test_a_join_token_is_not_spent_on_a_pool_that_it_is_not_for(gate: Platform) -> None:
    headers = {"X-Join-Token": (await token(gate, pools=["default"]))["token"]}
    wrong = await gate.worker.post("/api/worker/register", json=ABOUT | {"pool": "night"}, headers=headers)
    right = await gate.worker.post("/api/worker/register", json=ABOUT, headers=headers)
    assert (wrong.status_code, right.status_code) == (403, 200)


async def test_deployments_are_told(gate: Platform, worker: Worker) -> None:
    for event in ("deployed", "rolled_back"):
        said = {"event": event, "version": "0.2.0", "previous_version": "0.1.0"}
        assert (await worker.call("POST", "/deployment", json=said)).status_code == 200
    facts = [recorded.envelope.data for recorded in await read_topic(gate.settings, "workers")]
    mine = [type(fact).__name__ for fact in facts if getattr(fact, "worker_id", "") == worker.worker_id]
    assert mine == [
        "WorkerKeyIssued",
        "WorkerKeyRevoked",
        "WorkerKeyIssued",
        "WorkerRegistered",
        "WorkerDeployed",
        "WorkerRolledBack",
    ]


async def test_no_key_no_hash_and_no_token_is_ever_on_the_log(gate: Platform, worker: Worker) -> None:
    made = await token(gate)
    text = "\n".join(repr(recorded.envelope) for recorded in await read_topic(gate.settings, "workers"))
    for secret in (worker.key, made["token"], "argon2", gate.token):
        assert secret not in text
    assert worker.key not in gate.log("worker")


async def test_a_claim_in_the_predecessors_shape_is_told_what_is_wanted(worker: Worker) -> None:
    """It sent no body, and could name a job: a claim has a name and says what the worker can do, the dispatcher chooses."""
    bare = await worker.call("POST", "/claim")
    wish = {"claim_id": str(uuid.uuid4()), "code_version": "0.1.0", "capabilities": CAPABILITIES, "wait_s": 0}
    named = await worker.call("POST", "/claim", json=wish, params={"job_id": NOBODY})
    assert (bare.status_code, bare.json()["detail"]) == (422, "body: Field required")
    assert (named.status_code, "the dispatcher chooses" in named.json()["detail"]) == (422, True)


# --- services that are away -----------------------------------------------------------------------------------------


@contextmanager
def stopped(local_engine: Settings, part: str) -> Iterator[None]:
    """Stop a part of the engine as a hanging machine does: it takes bytes, and answers nothing."""
    (row,) = [row for row in supervision.status(local_engine) if row["name"] == part]
    parent = psutil.Process(row["pid"])
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def timed(call: Awaitable[httpx.Response]) -> tuple[int, float, str | None]:
    """Return status, seconds, and what `Retry-After` says."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answer = await call
    return answer.status_code, loop.time() - begun, answer.headers.get("retry-after")


async def test_while_the_database_hangs_claims_ticks_and_results_go_on_and_the_rest_is_put_off(
    gate: Platform, local_engine: Settings, worker: Worker, log: Appender
) -> None:
    job = await given_job(log, worker)
    stranger = Worker(gate, await register(gate))  # whose key was never proven
    with stopped(local_engine, "postgres"):
        put_off = asyncio.gather(
            timed(stranger.call("POST", "/heartbeat", json={})),
            timed(worker.call("POST", f"/{NOBODY}/progress", json={"epoch": 1})),
        )
        tick = {"epoch": 1, "progress_percent": 50.0}
        went_on = [await timed(worker.call("POST", f"/{job['job_id']}/progress", json=tick)) for _ in range(2)]
        second = await given_job(log, worker)
        for claimed in (job, second):
            said = {"epoch": claimed["epoch"], "retry": False}
            went_on.append(await timed(worker.call("POST", f"/{claimed['job_id']}/fail", json=said)))
        for status, seconds, retry_after in await put_off:
            assert (status, retry_after) == (503, "2") and seconds < 8
        assert all(status == 200 and seconds < 2 for status, seconds, _ in went_on), went_on
    async with asyncio.timeout(10):
        while (await stranger.call("POST", "/heartbeat", json={})).status_code != 200:
            await asyncio.sleep(0.05)


async def test_a_revocation_bites_while_the_log_hangs_and_is_told_later(
    gate: Platform, local_engine: Settings, worker: Worker, log: Appender
) -> None:
    job = await given_job(log, worker)
    where, query = f"/upload/{job['job_id']}/segments/status", {"epoch": 1, "quality": "360p"}
    assert (await worker.call("GET", where, params=query)).status_code == 200
    with stopped(local_engine, "kafka"):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        revoking = asyncio.create_task(gate.admin.post(f"/api/worker-keys/{worker.worker_id}/revoke", json={"reason": "sold"}))
        async with asyncio.timeout(5):
            while (await worker.call("GET", where, params=query)).status_code == 200:
                await asyncio.sleep(0.02)
        assert loop.time() - begun < 1.0
        revoked = await revoking
        assert (revoked.status_code, len(revoked.json()["key_ids"])) == (200, 1)
    async with asyncio.timeout(20):
        while not [fact for fact in await revocations(gate) if fact.key_id in revoked.json()["key_ids"]]:
            await asyncio.sleep(0.1)


async def revocations(platform: Platform) -> list[WorkerKeyRevoked]:
    """Return what the log was told of revocations."""
    facts = [recorded.envelope.data for recorded in await read_topic(platform.settings, "workers")]
    return [fact for fact in facts if isinstance(fact, WorkerKeyRevoked)]


async def test_unknown_fields_and_strange_bodies_are_refused(worker: Worker) -> None:
    for body in ({"status": "dancing"}, {"surprise": 1}, {"job_ids": ["x" * 37]}, []):
        assert (await worker.call("POST", "/heartbeat", json=body)).status_code == 422
    assert (await worker.call("POST", "/heartbeat", content=b"{" * 100)).status_code == 422
