"""The worker app on the real platform: the life of a job over HTTP, and its bytes."""

import asyncio
import gzip
import hashlib
import tarfile
import uuid
from typing import Any

import httpx
import pytest

from events.jobs import JobClaimed
from events.kinds import AnalyseSpec, AudioSpec, Source
from infra.runtime.objects import ObjectStore
from producers.appender import Appender
from tests.support.gate import (
    ANALYSED,
    SEGMENT,
    SHA256,
    Worker,
    announced,
    archive,
    audited,
    bomb,
    encode_spec,
    facts_of,
    given_job,
    submitted,
)
from tests.support.platform import Platform
from tests.support.remote import CAPABILITIES
from tests.support.waiting import eventually


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


async def test_a_cancelled_job_is_reported_at_the_next_tick(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    await eventually(lambda: gate.admin.post(f"/api/jobs/{job['job_id']}/cancel"), lambda answer: answer.status_code == 202)
    tick = f"/{job['job_id']}/progress"
    answer = await eventually(lambda: worker.call("POST", tick, json={"epoch": 1}), lambda answer: answer.status_code != 200)
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
    first = await worker.upload(job, "360p/00000.m4s", SEGMENT, headers={"X-Content-SHA256": SHA256})
    again = await worker.upload(job, "360p/00000.m4s", SEGMENT)
    other = await worker.upload(job, "360p/00000.m4s", SEGMENT + b"x")
    assert first.json() == {"status": "ok", "written": True, "bytes_written": len(SEGMENT), "checksum_verified": True}
    assert (again.json()["written"], other.status_code) == (False, 409)
    stored = await ObjectStore(gate.settings).get_bytes(f"videos/{job['video_id']}/{job['job_id']}/1/360p/00000.m4s", 1000)
    assert stored == SEGMENT
    listed = await worker.call("GET", f"/upload/{job['job_id']}/segments/status", params={"epoch": 1, "quality": "360p"})
    assert listed.json() == {"quality": "360p", "received_segments": ["00000.m4s"], "total_size_bytes": len(SEGMENT)}
    final = {"epoch": 1, "quality": "360p", "segment_count": 3}
    answer = (await worker.call("POST", f"/upload/{job['job_id']}/segment/finalize", json=final)).json()
    assert answer == {"status": "incomplete", "complete": False, "missing_segments": ["00001.m4s", "00002.m4s"]}
    verified = (await worker.call("GET", f"/{job['job_id']}/verify-complete", params={"epoch": 1})).json()
    assert (verified["all_files_present"], verified["missing_files"], verified["job_status"]) == (False, ["result.json"], "claimed")
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})
    assert (await worker.upload(job, "360p/00001.m4s", SEGMENT)).status_code == 409


async def test_a_result_is_reported_in_parts(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    prefix, of = f"videos/{job['video_id']}/{job['job_id']}/1", f"/{job['job_id']}"
    for name in ("360p/00000.m4s", "360p/00001.m4s"):
        await worker.upload(job, name, SEGMENT)
    await worker.upload(job, "result.json", b"{}")

    def rendition(number: int) -> dict[str, Any]:
        there = {"key": f"{prefix}/360p/{number:05d}.m4s", "size_bytes": len(SEGMENT), "sha256": SHA256}
        segments = [{"number": number, "duration": 6000, "object": there}]
        return {"name": "360p", "kind": "video", "codecs": "avc1.42c01e", "timescale": 1000, "segments": segments}

    first, missing = ({"epoch": 1, "part": 0, "renditions": [rendition(number)]} for number in (0, 7))
    assert (await worker.call("POST", f"{of}/part", json=missing)).status_code == 409, "what is not in the store is no part"
    assert (await worker.call("POST", f"{of}/part", json=first)).json()["message"] == "Part accepted"
    ref = {"key": f"{prefix}/result.json", "size_bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    earlier = {"parts": 1, "segments": 1, "size_bytes": len(SEGMENT)}
    result = {"kind": "media", "renditions": [rendition(1)], "result": ref, "earlier": earlier}
    done = await worker.call("POST", f"{of}/complete", json={"epoch": 1, "result": result})
    assert done.json()["message"] == "Job completed"
    assert (await worker.call("POST", f"{of}/part", json=first)).status_code == 409
    assert await facts_of(gate, job["job_id"]) == ["JobQueued", "JobClaimed", "PartAccepted", "JobCompleted"]


async def test_a_report_that_is_too_long_is_refused_and_may_be_said_otherwise(
    gate: Platform, worker: Worker, log: Appender
) -> None:
    job = await given_job(log, worker, AnalyseSpec(source=Source(object_key="sources/x", size_bytes=9)))
    tracks = [{"index": n, "codec": "subrip", "kind": "text", "title": "t" * 950} for n in range(920)]
    done = {"epoch": 1, "result": {"kind": "analyse", "probe": ANALYSED | {"subtitles": tracks}}}
    answer = await worker.call("POST", f"/{job['job_id']}/complete", json=done)
    assert (answer.status_code, "at most 900000" in answer.json()["detail"]) == (413, True)
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})
    assert await facts_of(gate, job["job_id"]) == ["JobQueued", "JobClaimed", "JobFailed"]


async def test_the_same_segment_sent_twice_at_once_is_written_once(worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    answers = await asyncio.gather(*(worker.upload(job, "360p/00000.m4s", SEGMENT) for _ in range(5)))
    assert sorted(answer.json()["written"] for answer in answers) == [False] * 4 + [True]
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})


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


async def test_wrong_bytes_are_refused_and_recorded(gate: Platform, worker: Worker, log: Appender) -> None:
    job = await given_job(log, worker)
    digest = await worker.upload(job, "360p/00000.m4s", SEGMENT + b"!", headers={"X-Content-SHA256": SHA256})
    magic = await worker.upload(job, "360p/00000.ts", SEGMENT)
    assert [answer.status_code for answer in (digest, magic)] == [422, 422]
    where = f"/api/worker/upload/{job['job_id']}"
    assert await announced(worker, f"{where}/segment/360p/00000.m4s?epoch=1", 5 * 2**30) == 413
    assert await announced(worker, f"{where}/segment/finalize", 2 * 2**20) == 413
    assert await announced(worker, "/api/worker/heartbeat", 2 * 2**20) == 413
    assert await ObjectStore(gate.settings).under(f"videos/{job['video_id']}/") == []
    assert await audited(gate, worker_id=worker.worker_id, status=422)
    await worker.call("POST", f"/{job['job_id']}/fail", json={"epoch": 1, "retry": False})
