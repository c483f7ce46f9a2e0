"""Who may do what at the worker app on the real platform: everything else is refused, each with an event."""

import asyncio
import hashlib
import tarfile
import uuid
from typing import Any, NamedTuple

import httpx
import pytest

from events.kinds import AnalyseSpec, Source
from events.media import ObjectRef
from infra.runtime.clock import system_context
from infra.runtime.objects import ObjectStore
from producers.appender import Appender
from tests.support.gate import (
    ANALYSED,
    NOBODY,
    SEGMENT,
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
from tests.support.log import read_topic
from tests.support.platform import Platform
from tests.support.remote import ABOUT, CAPABILITIES, register, token
from tests.support.waiting import eventually


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
    assert len(await audited(gate, count=7, worker_id=thief.worker_id, status=403)) == 7
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
    assert len(await audited(gate, worker_id=worker.worker_id, status=409)) == 1


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
    foreign = {"key": f"videos/{job['video_id']}/{NOBODY}/1/a.m4s", "size_bytes": 1, "sha256": "5a" * 32}
    made = {"name": "360p", "kind": "video", "codecs": "avc1", "timescale": 1, "segments": [], "init": foreign}
    part = {"epoch": 1, "part": 0, "renditions": [made]}
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
        Attack(worker, "POST", f"{of}/part", 422, "/{job_id}/part", {"json": part}),
        Attack(thief, "POST", f"{of}/part", 403, "/{job_id}/part", {"json": part}),
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


async def test_bodies_that_are_too_long_are_refused(gate: Platform, worker: Worker) -> None:
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
    headers = {} if key is None else {b"X-Worker-API-Key": key.encode("latin-1")}
    answer = await gate.worker.post("/api/worker/heartbeat", json={}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert await audited(gate, worker_id="unknown", status=401, reason=reason)
    if key:
        assert key not in answer.text


async def test_a_key_that_begins_like_a_good_one_is_not_it(gate: Platform, worker: Worker) -> None:
    forged = worker.key[:8] + ("a" if worker.key[8] != "a" else "b") + worker.key[9:]
    answer = await gate.worker.post("/api/worker/heartbeat", json={}, headers={"X-Worker-API-Key": forged})
    assert answer.status_code == 401
    assert await audited(gate, worker_id="unknown", status=401, reason="unknown"), "and nobody is blamed for it"
    assert (await worker.call("POST", "/heartbeat", json={})).status_code == 200


async def test_a_revoked_key_is_good_for_nothing_within_a_second(gate: Platform) -> None:
    """The quickest of three: the machine may stand still for some seconds while this is measured."""
    assert min([await good_for_s(gate) for _ in range(3)]) < 1.0


async def good_for_s(gate: Platform) -> float:
    """Revoke a worker's key; return for how many seconds it was good for something after that."""
    worker = Worker(gate, await register(gate))
    assert (await worker.call("POST", "/heartbeat", json={})).status_code == 200
    revoked = await gate.admin.post(f"/api/worker-keys/{worker.worker_id}/revoke", json={"reason": "sold"})
    assert revoked.status_code == 200
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answer = await refused(worker)
    seconds = loop.time() - begun
    assert answer.status_code == 401 and "revoked" in answer.json()["detail"]
    (refusal,) = await audited(gate, worker_id=worker.worker_id)
    assert (refusal.reason, refusal.key_id) == ("revoked", revoked.json()["key_ids"][0])
    assert (await gate.admin.post(f"/api/worker-keys/{worker.worker_id}/revoke")).status_code == 404
    return seconds


async def refused(worker: Worker) -> httpx.Response:
    """Wait until a worker's key is good for nothing."""
    return await eventually(lambda: worker.call("POST", "/heartbeat", json={}), lambda answer: answer.status_code != 200)


async def test_a_rotated_key_is_good_besides_the_new_one_for_a_while(worker: Worker) -> None:
    fresh = (await worker.call("POST", "/rotate", json={"overlap_s": 60})).json()
    assert fresh["worker_id"] == worker.worker_id and fresh["api_key"] != worker.key
    new = Worker(worker.platform, fresh)
    assert [(await one.call("POST", "/heartbeat", json={})).status_code for one in (worker, new)] == [200, 200]
    newest = Worker(worker.platform, (await new.call("POST", "/rotate", json={"overlap_s": 0})).json())
    assert "expired" in (await refused(new)).json()["detail"]
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

    async def until() -> str:
        return str((await gate.admin.get("/api/worker-keys")).json()["items"][0]["expires_at"])

    await eventually(until, lambda moment: moment <= system_context("x").now.isoformat())
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


async def test_a_worker_of_another_version_learns_it_and_gets_no_job(worker: Worker, log: Appender) -> None:
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


async def test_deployments_are_recorded(gate: Platform, worker: Worker) -> None:
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


async def test_a_claim_in_the_predecessors_shape_is_answered_with_the_wanted_one(worker: Worker) -> None:
    """It sent no body, and could name a job: a claim has a name and says what the worker can do, the dispatcher chooses."""
    bare = await worker.call("POST", "/claim")
    wish = {"claim_id": str(uuid.uuid4()), "code_version": "0.1.0", "capabilities": CAPABILITIES, "wait_s": 0}
    named = await worker.call("POST", "/claim", json=wish, params={"job_id": NOBODY})
    assert (bare.status_code, bare.json()["detail"]) == (422, "the body is missing")
    assert (named.status_code, "the dispatcher chooses" in named.json()["detail"]) == (422, True)


async def test_unknown_fields_and_strange_bodies_are_refused(worker: Worker) -> None:
    bodies: tuple[object, ...] = ({"status": "dancing"}, {"surprise": 1}, {"job_ids": ["x" * 37]}, [])
    for body in bodies:
        assert (await worker.call("POST", "/heartbeat", json=body)).status_code == 422
    assert (await worker.call("POST", "/heartbeat", content=b"{" * 100)).status_code == 422
