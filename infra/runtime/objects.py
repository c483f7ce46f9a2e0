"""The object store: any S3 endpoint, through the `minio` client, without one vendor's extensions.

The client is synchronous; its calls run in a bounded number of threads. Transient faults are retried, then
StoreUnavailable; a missing key is ObjectMissing. Presigned addresses are signed for the public endpoint.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import stamina
import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from events.errors import Conflict, ObjectChanged, ObjectMissing, StoreUnavailable
from events.media import ObjectRef
from infra.runtime.metrics import STORE_FAILURES, STORE_SECONDS
from infra.runtime.settings import Settings

T = TypeVar("T")
READ_BYTES = 1 << 20
THREADS = 16
READ_S = 60.0
JOIN_S = 600.0
"""A store takes about a second per GB to join parts, and is silent meanwhile."""
ATTEMPTS = 4
RETRIED_S = 15.0


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """An object's metadata in the store."""

    key: str
    size_bytes: int
    etag: str
    content_type: str | None
    modified_at: datetime | None


class ObjectStore:
    """One bucket. Opens no connection before its first call. Raises NoInstallation for a local store that was never started."""

    def __init__(self, settings: Settings) -> None:
        if not settings.s3_secret_key.get_secret_value():
            raise settings.never_started()
        self._bucket = settings.s3_bucket
        self._client = _client(settings, settings.s3_endpoint)
        self._joining = _client(settings, settings.s3_endpoint, read_s=JOIN_S)
        self._public = _client(settings, settings.s3_public_endpoint or settings.s3_endpoint)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="objects")

    async def ensure_bucket(self) -> None:
        """Make the bucket if it is missing."""

        def make() -> None:
            try:
                if not self._client.bucket_exists(self._bucket):
                    self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code != "BucketAlreadyOwnedByYou":  # another process of this start made it first
                    raise

        await self._call("ensure_bucket", make)

    async def ready(self) -> bool:
        """Return whether the store answers for the bucket."""
        return await self._call("ready", lambda: self._client.bucket_exists(self._bucket))

    # --- whole objects ----------------------------------------------------------------------------------------------

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef:
        """Store a file; return its size and SHA-256."""

        def put() -> ObjectRef:
            digest = _sha256(path)
            self._client.fput_object(self._bucket, key, str(path), content_type=content_type)
            return ObjectRef(key=key, size_bytes=path.stat().st_size, sha256=digest)

        return await self._call("put", put)

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Store bytes; return their size and SHA-256."""

        def put() -> ObjectRef:
            self._client.put_object(self._bucket, key, io.BytesIO(data), len(data), content_type=content_type)
            return ObjectRef(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

        return await self._call("put", put)

    async def get_bytes(self, key: str, max_bytes: int) -> bytes:
        """Return an object, at most its first `max_bytes`: n + 1 bytes show that it is larger than n."""

        def get() -> bytes:
            answer = self._client.get_object(self._bucket, key)
            try:
                return bytes(answer.read(max_bytes))
            finally:
                answer.close()
                answer.release_conn()

        return await self._call("get", get)

    async def get_file(self, key: str, path: Path, etag: str | None = None) -> str:
        """Download to `path` with flat memory; return the SHA-256. Raises ObjectChanged for another ETag."""

        def get() -> str:
            answer = self._client.get_object(self._bucket, key)
            digest = hashlib.sha256()
            try:
                if etag is not None and (found := answer.headers.get("etag", "").strip('"')) != etag:
                    raise ObjectChanged(f"{key} has the ETag {found}, not {etag}")
                with path.open("wb") as file:
                    for piece in answer.stream(READ_BYTES):
                        digest.update(piece)
                        file.write(piece)
            finally:
                answer.close()
                answer.release_conn()
            return digest.hexdigest()

        return await self._call("get", get)

    async def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield an object's bytes, or `length` of them from `start`. Raises StoreUnavailable when the stream breaks off."""
        answer = await self._call("get", partial(self._client.get_object, self._bucket, key, start, length or 0))
        try:
            while piece := await self._in_thread(lambda: answer.read(READ_BYTES)):
                yield piece
        except urllib3.exceptions.HTTPError as error:  # no retry: yielded bytes cannot be taken back
            STORE_FAILURES.labels("get").inc()
            raise StoreUnavailable(f"the object store broke off in the middle of {key}: {type(error).__name__}") from error
        finally:
            answer.close()
            answer.release_conn()

    async def stat(self, key: str) -> ObjectStat:
        """Return size and ETag."""
        return _stat(await self._call("stat", lambda: self._client.stat_object(self._bucket, key)))

    async def under(self, prefix: str) -> list[ObjectStat]:
        """Return every object under a prefix, in order of keys."""
        found = await self._call("list", lambda: list(self._client.list_objects(self._bucket, prefix, recursive=True)))
        return sorted((_stat(item) for item in found), key=lambda stat: stat.key)

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are no fault."""

        wanted = [DeleteObject(key) for key in keys]

        def delete() -> None:
            for error in self._client.remove_objects(self._bucket, wanted):
                raise StoreUnavailable(f"{error.name} was not deleted: {error.code}")

        await self._call("delete", delete)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete everything under a prefix; return how many objects that were."""
        found = await self.under(prefix)
        for at in range(0, len(found), 500):
            await self.delete([stat.key for stat in found[at : at + 500]])
        return len(found)

    # --- presigned addresses and multipart uploads ------------------------------------------------------------------

    async def presign_get(self, key: str, expires_s: int) -> str:
        """Return an address that anyone may GET until it expires."""
        life = timedelta(seconds=expires_s)
        return await self._call("presign", lambda: self._public.presigned_get_object(self._bucket, key, life))

    async def presign_part(self, key: str, multipart_id: str, number: int, expires_s: int) -> str:
        """Return an address that anyone may PUT one part to until it expires or the upload ends; numbers count from 1."""
        query: dict[str, Any] = {"partNumber": str(number), "uploadId": multipart_id}
        life = timedelta(seconds=expires_s)
        return await self._call(
            "presign",
            lambda: self._public.get_presigned_url("PUT", self._bucket, key, expires=life, extra_query_params=query),
        )

    async def create_multipart(self, key: str, content_type: str) -> str:
        """Begin a multipart upload; return its id."""
        headers: dict[str, Any] = {"Content-Type": content_type}
        return await self._call("multipart", lambda: self._client._create_multipart_upload(self._bucket, key, headers))

    async def upload_part(self, key: str, multipart_id: str, number: int, data: bytes) -> str:
        """Store one part; return its ETag."""
        return await self._call("part", lambda: self._client._upload_part(self._bucket, key, data, None, multipart_id, number))

    async def list_parts(self, key: str, multipart_id: str) -> list[tuple[int, str, int]]:
        """Return (number, ETag, size) of the parts that are there.

        For an upload that was completed or given up some stores have no parts, others raise ObjectMissing.
        """

        def parts() -> list[tuple[int, str, int]]:
            found, marker = [], None
            while True:
                page = self._client._list_parts(self._bucket, key, multipart_id, part_number_marker=marker)
                found += [(part.part_number, part.etag, part.size or 0) for part in page.parts]
                if not page.is_truncated:
                    return found
                marker = str(page.next_part_number_marker)

        return await self._call("multipart", parts)

    async def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Join the parts, (number, ETag) in any order. Raises Conflict when one is missing or another than named."""
        ordered = [Part(number, etag.strip('"')) for number, etag in sorted(parts)]
        await self._call("multipart", lambda: self._joining._complete_multipart_upload(self._bucket, key, multipart_id, ordered))

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Give a multipart upload up and delete its parts; an unknown one is no fault."""
        try:
            await self._call("multipart", lambda: self._client._abort_multipart_upload(self._bucket, key, multipart_id))
        except ObjectMissing:
            return

    async def open_multiparts(self, prefix: str) -> list[tuple[str, str]]:
        """Return (key, id) of the multipart uploads under a prefix that were neither completed nor given up."""

        def uploads() -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            key = id_ = None
            while True:
                page = self._client._list_multipart_uploads(self._bucket, prefix=prefix, key_marker=key, upload_id_marker=id_)
                found += [(upload.object_name, str(upload.upload_id)) for upload in page.uploads]
                if not page.is_truncated or (page.next_key_marker, page.next_upload_id_marker) == (key, id_):
                    return found
                key, id_ = page.next_key_marker, page.next_upload_id_marker

        return await self._call("multipart", uploads)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _call(self, operation: str, work: Callable[[], T]) -> T:
        """Run in a thread, and retry transient faults."""
        try:
            with STORE_SECONDS.labels(operation).time():
                async for attempt in stamina.retry_context(
                    on=_transient, attempts=ATTEMPTS, timeout=RETRIED_S, wait_initial=0.1, wait_max=3.0
                ):
                    with attempt:
                        return await self._in_thread(work)
        except S3Error as error:
            STORE_FAILURES.labels(operation).inc()
            if error.code in ("NoSuchKey", "NoSuchUpload", "NoSuchObject"):
                raise ObjectMissing(f"{error.code}: {error.object_name or error.resource}") from error
            if error.code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
                raise Conflict(f"{error.code}: a part is missing, too small, or not the one whose ETag was given") from error
            raise StoreUnavailable(f"the object store refused: {error.code}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            STORE_FAILURES.labels(operation).inc()
            raise StoreUnavailable(f"the object store does not answer: {type(error).__name__}") from error
        raise AssertionError("the retries either return or raise")


def _transient(error: Exception) -> bool:
    if isinstance(error, S3Error):
        return error.code in ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "OperationAborted")
    return isinstance(error, MinioException | urllib3.exceptions.HTTPError)


def _client(settings: Settings, endpoint: str, read_s: float = READ_S) -> Minio:
    url = urlsplit(endpoint)
    pool = urllib3.PoolManager(
        maxsize=THREADS, timeout=urllib3.Timeout(connect=3, read=read_s), retries=False, cert_reqs="CERT_REQUIRED"
    )
    return Minio(
        url.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=url.scheme == "https",
        region=settings.s3_region,
        http_client=pool,
    )


def _stat(item: Any) -> ObjectStat:
    return ObjectStat(item.object_name, item.size or 0, (item.etag or "").strip('"'), item.content_type, item.last_modified)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
