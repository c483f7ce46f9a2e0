"""Uploads files to the object store through presigned addresses, and resumes broken uploads.

POST /api/uploads {filename, size_bytes, sha256}  -> {video_id, url | null, part_bytes | null}
GET  /api/uploads/{video_id}                      -> {parts: [{number, etag, size_bytes}]}
POST /api/uploads/{video_id}/parts {numbers}      -> {urls: {number: url}}
POST /api/uploads/{video_id}/complete {title, priority, visibility, parts} -> the video
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events.errors import Conflict, InvalidRequest, KinologError, NotFound
from infra.commands.support.admin_api import JOIN_S, AdminApi, resource
from infra.commands.support.exits import Away
from infra.commands.support.files import shown

if TYPE_CHECKING:
    import httpx

BLOCK_BYTES = 1 << 20
PARTS_AT_ONCE = 4
PARTS_SIGNED_AT_ONCE = 16
"""Addresses live 15 minutes: a line that takes 2.3 Mbit/s sends as many parts of 16 MiB in that time."""
ATTEMPTS_MAX = 5
STORE_TIMEOUT_S = 60.0

OnProgress = Callable[[int], None]
"""Called with the number of bytes just processed."""


class FileChanged(KinologError):
    """The file changed while it was read; try again when it is complete."""


@dataclass(frozen=True, slots=True)
class Part:
    """A range of the file; numbers count from 1, as in S3."""

    number: int
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A started upload: its address, and the size of its parts."""

    video_id: str
    url: str | None = None
    part_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """The words about a file that its uploader may choose: None for a title made of its name, and for the platform's visibility."""

    title: str | None = None
    priority: str = "normal"
    visibility: str | None = None


def digest(path: Path, on_progress: OnProgress) -> str:
    """Return the SHA-256 of a file, lower-case hex."""
    found = hashlib.sha256()
    for block in _blocks(path, 0, path.stat().st_size):
        found.update(block)
        on_progress(len(block))
    return found.hexdigest()


def parts_of(size_bytes: int, part_bytes: int) -> list[Part]:
    """Return the parts of a file of this size."""
    starts = range(0, size_bytes, part_bytes)
    return [Part(n, start, min(part_bytes, size_bytes - start)) for n, start in enumerate(starts, 1)]


class Uploads:
    """Uploads of one run. `memory` is a folder that remembers unfinished multipart uploads by content."""

    def __init__(self, api: AdminApi, store: "httpx.Client", memory: Path) -> None:
        self._api = api
        self._store = store
        self._memory = memory

    def send(self, path: Path, sha256: str, details: Details, on_progress: OnProgress) -> dict[str, Any]:
        """Upload the file and complete the upload; return the admin app's answer about the video.

        Raises Away when app or store do not answer, FileChanged when the file grew or shrank meanwhile.
        """
        size_bytes = path.stat().st_size
        upload = self._resumed(sha256) or self._begun(path, sha256, size_bytes)
        done: list[dict[str, Any]] = []
        if upload.part_bytes:
            done = self._send_parts(path, upload, size_bytes, on_progress)
        elif upload.url:
            self._put(upload.url, path, Part(1, 0, size_bytes), on_progress)
        if path.stat().st_size != size_bytes:
            raise FileChanged
        body = {
            "title": details.title or title_of(path),
            "priority": details.priority,
            "visibility": details.visibility,
            "sha256": sha256,
            "origin": "cli",
            "parts": done or None,
        }
        video: dict[str, Any] = self._api.post(resource("uploads", upload.video_id, "complete"), body, read_s=JOIN_S)
        self._note(sha256).unlink(missing_ok=True)
        return {"video_id": upload.video_id} | (video or {})

    def _begun(self, path: Path, sha256: str, size_bytes: int) -> Upload:
        body = {"filename": shown(Path(path.name))[-255:], "size_bytes": size_bytes, "sha256": sha256}
        answer = self._api.post("/api/uploads", body)
        upload = Upload(answer["video_id"], answer.get("url"), answer.get("part_bytes"))
        if upload.part_bytes:
            self._memory.mkdir(parents=True, exist_ok=True)
            self._note(sha256).write_text(json.dumps(asdict(upload)))
        return upload

    def _resumed(self, sha256: str) -> Upload | None:
        """Return the unfinished upload of the same content, if the store still has it."""
        note = self._note(sha256)
        try:
            upload = Upload(**json.loads(note.read_text()))
            self._api.get(resource("uploads", upload.video_id))
        except FileNotFoundError:
            return None
        except (NotFound, Conflict, InvalidRequest, ValueError, TypeError):
            note.unlink(missing_ok=True)
            return None
        return upload

    def _note(self, sha256: str) -> Path:
        return self._memory / f"{sha256}.json"

    def _send_parts(self, path: Path, upload: Upload, size_bytes: int, on_progress: OnProgress) -> list[dict[str, Any]]:
        """Send the missing parts, several at once; return number and ETag of every part."""
        there = {part["number"]: part for part in self._api.get(resource("uploads", upload.video_id))["parts"]}
        parts = parts_of(size_bytes, upload.part_bytes or size_bytes)
        etags: dict[int, str] = {}
        missing: list[Part] = []
        for part in parts:
            found = there.get(part.number)
            if found is not None and found["size_bytes"] == part.size_bytes:
                etags[part.number] = found["etag"]
                on_progress(part.size_bytes)
            else:
                missing.append(part)
        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            for start in range(0, len(missing), PARTS_SIGNED_AT_ONCE):
                group = missing[start : start + PARTS_SIGNED_AT_ONCE]
                numbers = {"numbers": [part.number for part in group]}
                urls = self._api.post(resource("uploads", upload.video_id, "parts"), numbers)["urls"]
                sent = pool.map(lambda part, urls=urls: self._put(urls[str(part.number)], path, part, on_progress), group)
                etags.update(zip((part.number for part in group), sent, strict=True))
        return [{"number": number, "etag": etags[number]} for number in sorted(etags)]

    def _put(self, url: str, path: Path, part: Part, on_progress: OnProgress) -> str:
        """Send one range of the file, with bounded retries; return its ETag."""
        import httpx
        import stamina

        for attempt in stamina.retry_context(on=(httpx.TransportError, _TryAgain), attempts=ATTEMPTS_MAX, timeout=None):
            with attempt:
                try:
                    response = self._store.put(
                        url,
                        content=_blocks(path, part.offset, part.size_bytes),
                        headers={"Content-Length": str(part.size_bytes)},
                        timeout=STORE_TIMEOUT_S,
                    )
                except httpx.TransportError as error:
                    if attempt.num == ATTEMPTS_MAX:
                        raise Away(f"the object store does not take the file ({type(error).__name__})") from error
                    raise
                if response.is_server_error and attempt.num < ATTEMPTS_MAX:
                    raise _TryAgain
                if not response.is_success:
                    raise Away(f"the object store refused the file with {response.status_code}; run the command again")
                on_progress(part.size_bytes)
                return str(response.headers.get("etag", "")).strip('"')
        raise AssertionError("the last attempt returns or raises")


class _TryAgain(Exception):
    """The object store reported a fault that may pass."""


def title_of(path: Path) -> str:
    """Return a title made of the file's name; never empty, at most 255 characters."""
    return shown(Path(path.stem)).replace("_", " ").strip()[:255] or "untitled"


def _blocks(path: Path, offset: int, size_bytes: int) -> Iterator[bytes]:
    """Yield a range of a file in small blocks. Raises FileChanged when the file is shorter."""
    with path.open("rb") as file:
        file.seek(offset)
        while size_bytes > 0:
            block = file.read(min(BLOCK_BYTES, size_bytes))
            if not block:
                raise FileChanged
            size_bytes -= len(block)
            yield block
