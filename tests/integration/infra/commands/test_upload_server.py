"""Contract of what the command line uploads to: the admin app with its object store, and their stand-in in memory."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from events.errors import NotFound
from infra.commands.support.admin_api import AdminApi
from infra.commands.support.uploads import Details, Uploads, digest
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from tests.support.platform import Platform
from tests.support.uploading import MemoryPlatform
from tests.support.waiting import eventually

PRIORITY = "low"


@dataclass
class Server:
    """Both halves, the bytes of a file that goes there in one piece, and of one that goes there in two parts."""

    api: AdminApi
    store: httpx.Client
    small: bytes
    large: bytes

    def uploads(self, memory: Path) -> Uploads:
        return Uploads(self.api, self.store, memory)


@pytest.fixture(params=["memory", "real"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def memory() -> Server:
    """The stand-in."""
    admin = MemoryPlatform(part_bytes=None)
    return Server(admin.api, admin.store, os.urandom(10), b"")


@pytest.fixture
def real(platform: Platform) -> Iterator[Server]:
    """The real ones."""
    headers = {"Authorization": f"Bearer {platform.token}"}
    with httpx.Client(base_url=str(platform.admin.base_url), headers=headers, timeout=60) as http, httpx.Client() as store:
        yield Server(AdminApi(http), store, os.urandom(1000), os.urandom(Settings().upload_part_bytes + 1))


@pytest.fixture
def in_parts(server: Server) -> Server:
    """The one that takes parts: of four bytes in memory."""
    if server.large:
        return server
    platform = MemoryPlatform(part_bytes=4)
    return Server(platform.api, platform.store, b"", os.urandom(5))


def film(folder: Path, data: bytes) -> tuple[Path, str]:
    """Return a file and its digest."""
    path = folder / "film.mp4"
    path.write_bytes(data)
    return path, digest(path, lambda count: None)


async def test_a_small_file_goes_there_in_one_piece_and_is_known_by_its_content(server: Server, tmp_path: Path) -> None:
    path, sha256 = film(tmp_path, server.small)
    assert server.api.get("/api/videos", sha256=sha256)["items"] == []
    begun = server.api.post("/api/uploads", {"filename": path.name, "size_bytes": len(server.small), "sha256": sha256})
    assert begun["url"] and not begun["part_bytes"]
    sent: list[int] = []
    video = server.uploads(tmp_path / "memory").send(path, sha256, Details("A film", PRIORITY), sent.append)
    assert video["video_id"] and video["slug"]
    assert sum(sent) == len(server.small)
    (known,) = await eventually(lambda: server.api.get("/api/videos", sha256=sha256)["items"])
    assert (known["video_id"], known["title"]) == (video["video_id"], "A film")
    assert server.api.get(f"/api/videos/{video['video_id']}")["status"] != "uploading"


async def test_a_large_file_goes_there_in_parts_that_are_listed_with_their_etags(in_parts: Server, tmp_path: Path) -> None:
    path, sha256 = film(tmp_path, in_parts.large)
    begun = in_parts.api.post("/api/uploads", {"filename": path.name, "size_bytes": len(in_parts.large), "sha256": sha256})
    size = begun["part_bytes"]
    assert begun["url"] is None and len(in_parts.large) == size + 1
    where = f"/api/uploads/{begun['video_id']}"
    assert in_parts.api.get(where)["parts"] == []
    urls = in_parts.api.post(f"{where}/parts", {"numbers": [1, 2]})["urls"]
    parts = [in_parts.large[:size], in_parts.large[size:]]
    for number, data in enumerate(parts, 1):
        answer = in_parts.store.put(urls[str(number)], content=data)
        assert answer.headers["etag"].strip('"') == hashlib.md5(data).hexdigest()
    listed = in_parts.api.get(where)["parts"]
    assert [(part["number"], part["size_bytes"]) for part in listed] == [(1, size), (2, 1)]
    assert [part["etag"].strip('"') for part in listed] == [hashlib.md5(data).hexdigest() for data in parts]
    done: dict[str, object] = {"title": "A film", "priority": PRIORITY, "sha256": sha256, "origin": "cli"}
    done["parts"] = [{"number": part["number"], "etag": part["etag"]} for part in listed]
    assert in_parts.api.post(f"{where}/complete", done)["slug"]


async def test_what_is_not_there_is_not_found(server: Server) -> None:
    nobody = new_id()
    for path in (f"/api/uploads/{nobody}", f"/api/videos/{nobody}"):
        with pytest.raises(NotFound):
            server.api.get(path)
