"""Bodies that are files: streamed to the disk, counted, hashed and checked before the store gets a byte of them.

Objects under a job's prefix are never replaced: a repetition of the same bytes is recognised, other bytes are refused.
"""

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.worker import guards
from events.errors import Conflict, InvalidRequest, ObjectMissing
from events.media import ObjectRef

FILE_BYTES_MAX = 500 * 2**20
ARCHIVE_BYTES_MAX = 4 * 2**30
"""Of a compressed archive. Media do not shrink, so that unpacked it may be about as long."""
UNPACKED_BYTES_MAX = 5 * 2**30
MEMBERS_MAX = 100_000
PIECE_BYTES = 1 << 20


class Store(Protocol):
    """The part of the object store that this module uses; `infra.runtime.objects.ObjectStore` implements it."""

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef: ...
    def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was received completely."""

    path: Path
    size_bytes: int
    sha256: str
    head: bytes


@contextmanager
def temporary_file(directory: Path) -> Iterator[Path]:
    """Yield a path for one file, which is deleted afterwards."""
    handle, name = tempfile.mkstemp(dir=directory)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


async def receive(request: Request, path: Path, bytes_max: int) -> Received:
    """Write the body to `path`. Raises 413 when it is longer than `bytes_max`."""
    digest, size, head = hashlib.sha256(), 0, b""
    with path.open("wb", buffering=PIECE_BYTES) as file:
        async for piece in request.stream():
            size += len(piece)
            if size > bytes_max:
                raise HTTPException(413, f"the body is longer than {bytes_max} bytes", headers={"Connection": "close"})
            if len(head) < guards.HEAD_BYTES:
                head = (head + piece)[: guards.HEAD_BYTES]
            digest.update(piece)
            file.write(piece)
    return Received(path, size, digest.hexdigest(), head)


class Shelf:
    """Puts files into the store, each once. One at a time for each key: a repetition must find the first one's object."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy: dict[str, asyncio.Event] = {}

    async def put(self, key: str, received: Received, content_type: str) -> bool:
        """Store a file; return False when the same bytes are there already. Raises Conflict when others are."""
        while (busy := self._busy.get(key)) is not None:
            await busy.wait()
        self._busy[key] = done = asyncio.Event()
        try:
            there = await self._digest(key)
            if there is None:
                await self._store.put_file(key, received.path, content_type)
                return True
            if there != received.sha256:
                raise Conflict("there is another file of this name in this claim already; nothing is replaced")
            return False
        finally:
            del self._busy[key]
            done.set()

    async def _digest(self, key: str) -> str | None:
        """Return the SHA-256 of the stored object. It is read for that: no digest is common to all stores."""
        digest = hashlib.sha256()
        try:
            async for piece in self._store.stream(key):
                digest.update(piece)
        except ObjectMissing:
            return None
        return digest.hexdigest()


def unpack(archive: Path, directory: Path, bytes_max: int = UNPACKED_BYTES_MAX) -> Generator[tuple[str, Received], None, None]:
    """Yield the files of a tar.gz, one at a time: each is deleted when the next one is requested.

    Raises InvalidRequest for a broken archive, for links, devices and forbidden names, and as soon as more than `bytes_max`
    come out of it.
    """
    left = bytes_max
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=_Sips(unzipped), mode="r:") as opened:
            for count, member in enumerate(opened, 1):
                if count > MEMBERS_MAX:
                    raise InvalidRequest(f"an archive may have {MEMBERS_MAX} files")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise InvalidRequest("an archive may have regular files only: no links, no devices")
                name = guards.checked_path(member.name.removeprefix("./"))
                if member.size > left:
                    raise HTTPException(413, f"unpacked, an archive may have {bytes_max} bytes")
                left -= member.size
                content = opened.extractfile(member)
                assert content is not None, "a regular file has content"
                with temporary_file(directory) as path:
                    received = _copy(content, path)
                    guards.check_magic(name, received.head)
                    yield name, received
            if len(unzipped.read(PIECE_BYTES)) == PIECE_BYTES:  # to the end, where gzip has its checksum
                raise InvalidRequest("something follows the archive")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InvalidRequest(f"this is no whole tar.gz: {type(error).__name__}") from error


class _Sips(io.RawIOBase):
    """Reads at most a piece at once: tarfile would read a header that claims gigabytes into memory as a whole."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        if not 0 <= size <= PIECE_BYTES:
            raise InvalidRequest("an archive may have short headers only")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move forward."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._file.tell()


def _copy(content: IO[bytes], path: Path) -> Received:
    digest, size, head = hashlib.sha256(), 0, b""
    with path.open("wb") as file:
        for piece in iter(_reader(content), b""):
            head = head or piece[: guards.HEAD_BYTES]
            size += len(piece)
            digest.update(piece)
            file.write(piece)
    return Received(path, size, digest.hexdigest(), head)


def _reader(content: IO[bytes]) -> Callable[[], bytes]:
    return lambda: content.read(PIECE_BYTES)
