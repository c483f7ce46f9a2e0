"""Sources on this worker's disk: fetched once, checked, shared by the jobs of a video; the least recently used goes first.

A source in use by a job stays until the job's directory is gone.
"""

import asyncio
from collections import OrderedDict, defaultdict
from pathlib import Path

from events.errors import ObjectChanged
from events.kinds import Source
from workers.attempts.failures import refused
from workers.attempts.work import ObjectStore, SourceCache, WorkFailed


class Sources:
    """A bounded cache in `directory`, which it owns: files there at the start are deleted."""

    def __init__(self, directory: Path, store: ObjectStore, *, bytes_max: int) -> None:
        self._directory = directory
        self._store = store
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, tuple[Path, str, int]] = OrderedDict()
        self._users: defaultdict[str, set[Path]] = defaultdict(set)
        self._fetched = 0
        self._lock = asyncio.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.iterdir():
            leftover.unlink()

    def used_in(self, directory: Path) -> SourceCache:
        """Return the cache for the job that works in `directory`."""
        return _Used(self, directory)

    async def fetch(self, source: Source, user: Path) -> tuple[Path, str]:
        """Return the local path and SHA-256. Raises WorkFailed when the source is too large or differs from its declaration."""
        async with self._lock:
            key = source.object_key
            if key in self._kept:
                self._kept.move_to_end(key)
            else:
                self._make_room(source.size_bytes)
                path = self._directory / f"{self._fetched}-{key.replace('/', '_')}"
                self._fetched += 1
                try:
                    digest = await self._store.get_file(key, path, source.etag)
                    if (size_bytes := path.stat().st_size) != source.size_bytes:
                        raise ObjectChanged(f"{key} has {size_bytes} bytes, not {source.size_bytes}")
                except ObjectChanged as changed:
                    path.unlink(missing_ok=True)
                    message = "The stored file was replaced after its upload was completed. Upload it again."
                    raise WorkFailed(
                        refused("analysis", "FILE_CHANGED", message, str(changed), category="file_access", retryable=False)
                    ) from changed
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
                self._kept[key] = (path, digest, path.stat().st_size)
            path, digest, _size = self._kept[key]
            self._users[key].add(user)
        if source.sha256 is not None and source.sha256 != digest:
            async with self._lock:
                self._kept.pop(key, None)
                path.unlink(missing_ok=True)
            message = "The stored file is not the one that was announced: its SHA-256 differs. Upload it again."
            detail = f"announced {source.sha256}, stored {digest}"
            raise WorkFailed(refused("analysis", "FILE_DIGEST", message, detail, retryable=False))
        return path, digest

    def _make_room(self, size_bytes: int) -> None:
        if size_bytes > self._bytes_max:
            message = f"The source has {size_bytes} bytes; this worker keeps at most {self._bytes_max} (work_dir_max_bytes)."
            raise WorkFailed(refused("analysis", "RESOURCE_DISK", message, category="resource_exhaustion"))
        room = self._bytes_max - size_bytes
        for key in [key for key in self._kept if not self._in_use(key)]:
            if self._total() <= room:
                return
            path, _, _ = self._kept.pop(key)
            del self._users[key]
            path.unlink(missing_ok=True)
        if self._total() > room:
            message = f"There is no room for a source of {size_bytes} bytes beside those of the jobs that run here."
            raise WorkFailed(refused("analysis", "RESOURCE_DISK", message, category="resource_exhaustion"))

    def _total(self) -> int:
        return sum(size for _, _, size in self._kept.values())

    def _in_use(self, key: str) -> bool:
        self._users[key] = {directory for directory in self._users[key] if directory.exists()}
        return bool(self._users[key])


class _Used:
    """The cache for one job; a `workers.attempts.work.SourceCache`."""

    def __init__(self, sources: Sources, directory: Path) -> None:
        self._sources = sources
        self._directory = directory

    async def fetch(self, source: Source) -> tuple[Path, str]:
        """Return the local path and SHA-256. Raises WorkFailed when the source is too large or differs from its declaration."""
        return await self._sources.fetch(source, self._directory)
