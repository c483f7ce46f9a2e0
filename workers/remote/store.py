"""The object store for workers outside the cluster: every transfer goes through the worker app, under a claim.

An interrupted download resumes where it stopped. An upload is repeated; the worker app recognises bytes that it has.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import stamina

from events.errors import ObjectChanged, ObjectMissing, StoreUnavailable
from events.media import ObjectRef
from workers.remote.gateway import PASSING, WAIT_INITIAL_S, WAIT_MAX_S, Gateway, Later, Lost, Rejected
from workers.remote.transport import HttpTransport

TRIED_S = 120.0
"""Maximum time over which a transfer is retried without a byte of progress."""
SILENCE_S = 30.0
PIECE_BYTES = 1 << 20
T = TypeVar("T")


class GatewayStore:
    """A `workers.attempts.work.ObjectStore`."""

    def __init__(self, gateway: Gateway, transport: HttpTransport) -> None:
        self._gateway = gateway
        self._transport = transport

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef:
        """Send a file; return its size and SHA-256."""
        size, digest = await asyncio.to_thread(_measure, path)

        async def send() -> None:
            await self._send(key, _pieces(path), size, digest, content_type)

        await self._put(key, send)
        return ObjectRef(key=key, size_bytes=size, sha256=digest)

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Send bytes; return their size and SHA-256."""
        digest = hashlib.sha256(data).hexdigest()

        async def send() -> None:
            await self._send(key, data, len(data), digest, content_type)

        await self._put(key, send)
        return ObjectRef(key=key, size_bytes=len(data), sha256=digest)

    async def _send(self, key: str, content: bytes | AsyncIterator[bytes], size: int, digest: str, content_type: str) -> None:
        _, _, job_id, epoch, name = key.split("/", 4)
        kind = "segment" if "/" in name else "file"
        headers = {"Content-Type": content_type, "Content-Length": str(size), "X-Content-SHA256": digest}
        where = f"/api/worker/upload/{job_id}/{kind}/{name}"
        limits = httpx.Timeout(SILENCE_S, read=SILENCE_S * 2)
        async with self._gateway.answer(
            "POST", where, params={"epoch": epoch}, content=content, headers=headers, timeout=limits
        ) as answer:
            await answer.aread()

    async def get_bytes(self, key: str, max_bytes: int) -> bytes:
        """Return an object, at most its first `max_bytes`."""
        headers = {"Range": f"bytes=0-{max_bytes - 1}"}

        async def get(where: str, query: dict[str, Any]) -> bytes:
            async with self._gateway.answer("GET", where, params=query, headers=headers, timeout=SILENCE_S) as answer:
                return await answer.aread()

        try:
            return await self._get(key, get)
        except Rejected as rejected:
            if rejected.status == 416:
                return b""  # the object is empty
            raise

    async def get_file(self, key: str, path: Path, etag: str | None = None) -> str:
        """Download to `path`; return the SHA-256 of the received bytes. Raises ObjectChanged for another ETag than `etag`."""
        with path.open("wb") as file:
            download = _Download(file, etag)
            await self._get(key, partial(download.go_on, self._gateway), moved=lambda: download.size_bytes)
        return download.digest.hexdigest()

    async def _get(
        self, key: str, transfer: Callable[[str, dict[str, Any]], Awaitable[T]], moved: Callable[[], int] = lambda: 0
    ) -> T:
        """Get a source or a job's output under any claim for the same video; if that claim ends meanwhile, under another one."""
        folder, video_id, rest = key.split("/", 2)
        while (held := self._transport.held_for(video_id)) is not None:
            claim = held.claim
            where = f"source/{claim.job_id}" if folder == "sources" else f"object/{claim.job_id}/{rest}"
            try:
                return await self._tried(key, partial(transfer, f"/api/worker/{where}", {"epoch": claim.epoch}), moved)
            except Lost as lost:
                if lost.state == "unknown":
                    raise ObjectMissing(f"{key}: {lost}") from lost
                self._transport.lost(claim.job_id, lost)
        raise StoreUnavailable(f"{key}: there is no claim for its video any more")

    async def _put(self, key: str, transfer: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._tried(key, transfer)
        except Lost as lost:
            self._transport.lost(key.split("/")[2], lost)
            raise StoreUnavailable(str(lost)) from lost

    async def _tried(self, key: str, transfer: Callable[[], Awaitable[T]], moved: Callable[[], int] = lambda: 0) -> T:
        """Transfer, with retries while they help. Raises StoreUnavailable, Lost, Rejected."""
        while True:
            before = moved()
            try:
                async for attempt in stamina.retry_context(
                    on=PASSING,
                    attempts=None,
                    timeout=TRIED_S,
                    wait_initial=WAIT_INITIAL_S,
                    wait_max=WAIT_MAX_S,
                ):
                    with attempt:
                        return await transfer()
            except PASSING as error:
                if moved() == before:
                    raise StoreUnavailable(f"{key}: the worker app does not answer: {type(error).__name__}") from error


class _Download:
    """A download in progress, in as many pieces as the connection requires."""

    def __init__(self, file: IO[bytes], wanted: str | None) -> None:
        self._file = file
        self._wanted = wanted
        self._etag: str | None = None
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    async def go_on(self, gateway: Gateway, where: str, query: dict[str, Any]) -> None:
        """Fetch the missing bytes; start again when the file has changed meanwhile."""
        headers = {}
        if self.size_bytes and self._etag:
            headers = {"Range": f"bytes={self.size_bytes}-", "If-Range": self._etag}
        try:
            async with gateway.answer("GET", where, params=query, headers=headers, timeout=SILENCE_S) as answer:
                if self._wanted is not None and (found := answer.headers.get("etag", "").strip('"')) != self._wanted:
                    raise ObjectChanged(f"the object has the ETag {found}, not {self._wanted}")
                if answer.status_code != 206:
                    self._begin()
                elif not answer.headers.get("content-range", "").startswith(f"bytes {self.size_bytes}-"):
                    raise Later("another part was answered than the one that is missing")
                self._etag = answer.headers.get("etag")
                async for piece in answer.aiter_bytes():  # unbuffered: buffered bytes would be lost when the connection breaks
                    self._file.write(piece)
                    self.digest.update(piece)
                    self.size_bytes += len(piece)
        except Rejected as rejected:
            if rejected.status != 416 or not self.size_bytes:
                raise
            # the connection broke after the last byte: the file is complete

    def _begin(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size_bytes = 0
        self.digest = hashlib.sha256()


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
