"""Admin app and object store for uploads, in memory.

`tests/integration/infra/commands/test_upload_server.py` holds them to the real ones.
"""

import hashlib
import json
from typing import Any

import httpx

from infra.commands.support.admin_api import AdminApi


class MemoryPlatform:
    """Admin app and object store: uploads in parts, videos by content. `faults` are answered first."""

    def __init__(self, *, part_bytes: int | None = None) -> None:
        self.part_bytes = part_bytes
        self.faults: list[int] = []
        self.admin_faults: list[int] = []
        self.life: list[dict[str, Any]] = [{"status": "ready", "slug": "a-slug", "hls_url": "/hls"}]
        self.objects: dict[str, bytes] = {}
        self.videos: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.patience_s: dict[str, float] = {}

    @property
    def api(self) -> AdminApi:
        return AdminApi(httpx.Client(transport=httpx.MockTransport(self.admin), base_url="http://admin"))

    @property
    def store(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self.put))

    def admin(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        self.patience_s[request.url.path.rpartition("/")[2]] = request.extensions["timeout"]["read"]
        body = json.loads(request.content) if request.content else {}
        if self.admin_faults and request.method == "GET":
            return httpx.Response(self.admin_faults.pop(0))
        match (request.method, request.url.path.strip("/").split("/")[1:]):
            case ("POST", ["uploads"]):
                video_id = f"v{len(self.videos) + 1}"
                self.videos[video_id] = {"video_id": video_id, "status": "uploading", "slug": video_id} | body
                url = None if self.part_bytes else f"http://store/{video_id}"
                return httpx.Response(201, json={"video_id": video_id, "url": url, "part_bytes": self.part_bytes})
            case ("GET", ["uploads", video_id]) if video_id in self.videos:
                return httpx.Response(200, json={"parts": self.parts(video_id)})
            case ("POST", ["uploads", video_id, "parts"]):
                return httpx.Response(200, json={"urls": {n: f"http://store/{video_id}/{n}" for n in body["numbers"]}})
            case ("POST", ["uploads", video_id, "complete"]):
                self.videos[video_id] |= body | {"status": "processing", "slug": "a-slug"}
                return httpx.Response(200, json={"slug": "a-slug"})
            case ("GET", ["videos", _, "progress"]):
                return httpx.Response(200, json={"qualities": [{"name": "720p", "progress": 40.0}]})
            case ("GET", ["videos", video_id]) if video_id in self.videos:
                self.videos[video_id] |= self.life[0] if len(self.life) == 1 else self.life.pop(0)
                return httpx.Response(200, json=self.videos[video_id])
            case ("GET", ["videos"]):
                sha256 = request.url.params["sha256"]
                found = [v for v in self.videos.values() if v["sha256"] == sha256 and v["status"] != "uploading"]
                return httpx.Response(200, json={"items": found, "next": None})
            case _:
                return httpx.Response(404, json={"title": "not found", "detail": "there is no such video"})

    def parts(self, video_id: str) -> list[dict[str, Any]]:
        found = [(int(key.split("/")[1]), data) for key, data in self.objects.items() if key.startswith(f"{video_id}/")]
        return [{"number": n, "etag": hashlib.md5(data).hexdigest(), "size_bytes": len(data)} for n, data in sorted(found)]

    def put(self, request: httpx.Request) -> httpx.Response:
        if self.faults:
            return httpx.Response(self.faults.pop(0))
        assert int(request.headers["content-length"]) == len(request.content)
        self.objects[request.url.path.strip("/")] = request.content
        return httpx.Response(200, headers={"etag": f'"{hashlib.md5(request.content).hexdigest()}"'})

    def content(self, video_id: str) -> bytes:
        return self.objects.get(video_id) or b"".join(self.objects[f"{video_id}/{p['number']}"] for p in self.parts(video_id))
