"""A worker as its own program would speak, and what came of it on the log."""

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import Mapping
from typing import Any

import httpx

from events.clock import Context
from events.envelope import Envelope, Event
from events.jobs import JobSubmitted
from events.kinds import EncodeSpec, JobKind, JobSpec, Requirements
from infra.runtime.clock import system_context
from producers.appender import Appender
from tests.support.log import read_topic
from tests.support.platform import ROOT, Platform
from tests.support.remote import CAPABILITIES
from tests.support.waiting import eventually

SEGMENT = b"\x00\x00\x00\x18styp" + bytes(range(200))
SHA256 = hashlib.sha256(SEGMENT).hexdigest()
NOBODY = "01926f9c-0000-7000-8000-000000000000"
ANALYSED = {"container": "mp4", "duration_ms": 1000, "size_bytes": 9, "sha256": "5a" * 32}


def encode_spec() -> EncodeSpec:
    """Return a chunk to encode, from the vocabulary's example."""
    (path, *_) = sorted((ROOT / "events/examples/kinolog.job.submitted.v1").glob("*chunk*"))
    return EncodeSpec.model_validate(json.loads(path.read_text())["data"]["spec"])


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

    async def claim(self, kind: JobKind, wait_s: float = 30.0, **more: Any) -> dict[str, Any]:
        wish = {"claim_id": str(uuid.uuid4()), "code_version": "0.1.0", "wait_s": wait_s}
        wish |= {"capabilities": CAPABILITIES | {"kinds": [kind]}} | more
        answer = await self.call("POST", "/claim", json=wish)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def upload(
        self, job: dict[str, Any], name: str, data: bytes, *, epoch: int | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        kind = "segment" if "/" in name else "file"
        path = f"/upload/{job['job_id']}/{kind}/{name}"
        return await self.call("POST", path, params={"epoch": epoch or job["epoch"]}, content=data, headers=headers or {})


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


async def audited(platform: Platform, *, count: int = 1, **wanted: object) -> list[Any]:
    """Wait until the audit has so many refusals with these fields: each is recorded after its answer."""
    return await eventually(lambda: refusals(platform, **wanted), lambda found: len(found) >= count)


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return a tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
            opened.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def bomb() -> bytes:
    """Return an archive that claims a file of 64 GB, and one header that is said to have gigabytes."""
    header = tarfile.TarInfo("360p/00000.m4s")
    header.size = 64 * 2**30
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))


async def announced(worker: Worker, path: str, length: int) -> int:
    """Announce a body of a length and send none of it; return the status."""
    url = worker.platform.worker.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Worker-API-Key: {worker.key}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status
