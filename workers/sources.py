"""Sources on this worker's disk: fetched once, checked, shared by the jobs of a video, least recently used first out."""

import asyncio
from collections import OrderedDict
from pathlib import Path

from events.jobs import Source
from workers.failures import refused
from workers.work import ObjectStore, WorkFailed


class Sources:
    """A bounded cache in `directory`, which it owns: what lies there at the start is deleted."""

    def __init__(self, directory: Path, store: ObjectStore, *, bytes_max: int) -> None:
        self._directory = directory
        self._store = store
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, tuple[Path, str, int]] = OrderedDict()
        self._lock = asyncio.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.iterdir():
            leftover.unlink()

    async def fetch(self, source: Source) -> tuple[Path, str]:
        """Return the local path and SHA-256. Raises WorkFailed when it is too large or not what was declared."""
        async with self._lock:
            key = source.object_key
            if key in self._kept:
                self._kept.move_to_end(key)
            else:
                self._make_room(source.size_bytes)
                path = self._directory / f"{len(self._kept)}-{key.replace('/', '_')}"
                try:
                    digest = await self._store.get_file(key, path)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
                self._kept[key] = (path, digest, path.stat().st_size)
            path, digest, _size = self._kept[key]
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
        while self._kept and sum(size for _, _, size in self._kept.values()) + size_bytes > self._bytes_max:
            _, (path, _, _) = self._kept.popitem(last=False)
            path.unlink(missing_ok=True)
