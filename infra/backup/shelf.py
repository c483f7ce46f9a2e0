"""The storage of a backup: a directory, or a prefix in a bucket."""

import hashlib
import shutil
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from events.errors import InvalidRequest, ObjectMissing
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings

BINARY = "application/octet-stream"


class Shelf(Protocol):
    """Files by name. `put` writes a whole file or nothing."""

    async def put(self, name: str, path: Path) -> None:
        """Keep a file; `path` may be gone afterwards."""

    async def get(self, name: str, path: Path) -> str:
        """Copy a file to `path`; return its SHA-256. Raises ObjectMissing."""


class Directory:
    """Files under a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, path: Path) -> None:
        """Move the file in."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.part")
        shutil.move(path, unfinished)
        unfinished.chmod(0o600)  # the manifest has the hashes of workers' keys
        unfinished.replace(target)

    async def get(self, name: str, path: Path) -> str:
        """Copy the file out."""
        source = self._root / name
        if not source.is_file():
            raise ObjectMissing(f"{name} is missing")
        shutil.copyfile(source, path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class Bucket:
    """Objects under a prefix."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def put(self, name: str, path: Path) -> None:
        """Store the file."""
        await self._store.put_file(self._prefix + name, path, BINARY)

    async def get(self, name: str, path: Path) -> str:
        """Fetch the object."""
        try:
            return await self._store.get_file(self._prefix + name, path)
        except ObjectMissing as error:
            raise ObjectMissing(f"{name} is missing") from error


async def open_shelf(settings: Settings, where: str) -> Shelf:
    """Return a directory; for `s3://bucket/prefix` a bucket of the installation's store, for `https://host/bucket/prefix`
    one of another store that takes the same keys. Raises InvalidRequest."""
    if not where:
        raise InvalidRequest(
            "the location of a backup is empty; name a directory, s3://bucket/prefix or https://host/bucket/prefix"
        )
    if "://" not in where:
        return Directory(Path(where).resolve())
    url = urlsplit(where)
    endpoint, bucket, prefix = settings.s3_endpoint, url.netloc, url.path.strip("/")
    if url.scheme in ("http", "https"):
        endpoint = f"{url.scheme}://{url.netloc}"
        bucket, _, prefix = prefix.partition("/")
    elif url.scheme != "s3":
        raise InvalidRequest(f"{where}: wants a directory, s3://bucket/prefix or https://host/bucket/prefix")
    if not bucket or (endpoint, bucket) == (settings.s3_endpoint, settings.s3_bucket):
        raise InvalidRequest(f"{where}: wants a bucket that is not the installation's own")
    store = ObjectStore(settings.model_copy(update={"s3_endpoint": endpoint, "s3_bucket": bucket}))
    await store.ensure_bucket()
    return Bucket(store, f"{prefix}/" if prefix else "")
