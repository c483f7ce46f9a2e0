"""Repeats an attempt that failed on another worker: the same work by the same code; no output is kept."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from events.kinds import KINDS, RerunResult, RerunSpec
from events.media import Failure, ObjectRef
from workers.attempts import failures
from workers.attempts.work import Done, ObjectStore, Progress, Runner, Update, Work, WorkFailed

log = structlog.get_logger(__name__)


async def run(runners: Mapping[str, Runner], spec: RerunSpec, work: Work) -> AsyncIterator[Update]:
    """Run the work of `spec.spec`; the result reports its outcome. A failure of that work is no failure of the rerun."""
    clock = asyncio.get_running_loop().time
    runner, began = runners[spec.spec.kind], clock()
    failure: Failure | None = None
    try:
        async with aclosing(runner(spec.spec, replace(work, store=Unkept(work.store)))) as updates:
            async for update in updates:
                if isinstance(update, Progress):
                    yield update
    except WorkFailed as error:
        failure = error.failure
    except Exception as error:
        failure = failures.of_error(KINDS[spec.spec.kind].stage, error)
        log.exception("rerun_failed", code=failure.code)
    yield Done(RerunResult(seconds=round(clock() - began, 3), failure=failure))


@dataclass(frozen=True)
class Unkept:
    """An object store that discards writes; a `workers.attempts.work.ObjectStore`."""

    store: ObjectStore

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef:
        """Return the reference that the stored file would have."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ObjectRef(key=key, size_bytes=path.stat().st_size, sha256=digest)

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Return the reference that the stored bytes would have."""
        return ObjectRef(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def get_bytes(self, key: str, max_bytes: int) -> bytes:
        """Read an object."""
        return await self.store.get_bytes(key, max_bytes)

    async def get_file(self, key: str, path: Path, etag: str | None = None) -> str:
        """Read an object into a file; return its SHA-256."""
        return await self.store.get_file(key, path, etag)
