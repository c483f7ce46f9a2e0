"""A stand-in for the platform: the pages and the policy of the real app, canned JSON, real media made by ffmpeg."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.responses import FileResponse

from api import problems
from api.middleware import SecurityHeaders
from api.public import pages
from api.public.previews import Preview
from events.errors import NotFound
from tests.support.work import ffmpeg_path

DURATION_S = 6
SEGMENT_S = 2
TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".vtt": "text/vtt",
    ".jpg": "image/jpeg",
}
PICTURES = (
    "mandelbrot=s=640x360",
    "testsrc2=s=640x360",
    "gradients=s=640x360:seed=7",
    "smptehdbars=s=640x360",
    "cellauto=s=640x360",
    "testsrc2=s=360x640",
)
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-pix_fmt", "yuv420p")
SOUNDS = {"english": 440, "deutsch": 660}
RUNGS = {"360p": "640x360", "240p": "426x240"}
MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="english.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Deutsch",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,CHANNELS="2",URI="deutsch.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="text",NAME="English",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,URI="captions.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.42c01e,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=25.000,AUDIO="audio",SUBTITLES="text"
360p.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=450000,CODECS="avc1.42c015,mp4a.40.2",RESOLUTION=426x240,FRAME-RATE=25.000,AUDIO="audio",SUBTITLES="text"
240p.m3u8
"""
SOUND_ONLY = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-STREAM-INF:BANDWIDTH=100000,CODECS="mp4a.40.2"
english.m3u8
"""
CAPTIONS = "WEBVTT\n\n00:00.000 --> 00:06.000\nA test picture, and a steady tone.\n"
CAPTIONS_PLAYLIST = f"""#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:{DURATION_S}
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXTINF:{DURATION_S}.0,
captions.vtt
#EXT-X-ENDLIST
"""


def make_media(folder: Path) -> Path:
    """Write one HLS presentation of six seconds, and pictures. Returns the folder. Raises CalledProcessError."""
    pictures = [("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={DURATION_S}") for size in RUNGS.values()]
    sounds = [("-f", "lavfi", "-i", f"sine={hertz}:d={DURATION_S}") for hertz in SOUNDS.values()]
    command = [argument for one in (*pictures, *sounds) for argument in one]
    for index, name in enumerate(RUNGS):
        command += ["-map", f"{index}:v", *X264, "-g", str(25 * SEGMENT_S), *_hls(folder, name)]
    for index, name in enumerate(SOUNDS, len(RUNGS)):
        command += ["-map", f"{index}:a", "-c:a", "aac", "-b:a", "96k", "-ac", "2", *_hls(folder, name)]
    for index, source in enumerate(PICTURES):
        _ffmpeg("-f", "lavfi", "-i", source, "-ss", "1", "-frames:v", "1", str(folder / f"picture{index}.jpg"))
    _ffmpeg(*command)
    (folder / "master.m3u8").write_text(MASTER)
    (folder / "sound.m3u8").write_text(SOUND_ONLY)
    (folder / "captions.m3u8").write_text(CAPTIONS_PLAYLIST)
    (folder / "captions.vtt").write_text(CAPTIONS)
    return folder


def _hls(folder: Path, name: str) -> list[str]:
    return [
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_segment_type", "fmp4", "-hls_playlist_type", "event"),
        *("-hls_fmp4_init_filename", f"{name}-init.mp4", "-hls_segment_filename", str(folder / f"{name}-%d.m4s")),
        str(folder / f"{name}.m3u8"),
    ]


def _ffmpeg(*arguments: str) -> None:
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y", "-threads", "2", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)


def video(slug: str, title: str, **details: Any) -> dict[str, Any]:
    """Return a published video as the API answers it; `details` replace what it says."""
    return {
        "video_id": f"id-of-{slug}",
        "slug": slug,
        "status": "ready",
        "title": title,
        "description": "",
        "duration_ms": DURATION_S * 1000,
        "rungs": list(RUNGS),
        "thumbnail_url": None,
        "hls_url": f"/videos/{slug}/master.m3u8",
        "dash_url": None,
        "failure": None,
        "subtitles": [],
        "watch_url": f"/watch/{slug}",
        "uploaded_at": "2026-03-01T12:00:00Z",
        "published_at": "2026-03-01T12:00:00Z",
    } | details


def progress(percent: float, step: str = "encode", **details: Any) -> dict[str, Any]:
    """Return how far a video is as the API answers it: the first rung is ahead of the second."""
    done = [min(100.0, percent * 1.6), percent]
    qualities = [
        {"name": name, "status": "completed" if part == 100 else "in_progress" if part else "pending", "progress": part}
        for name, part in zip(RUNGS, done, strict=True)
    ]
    return {
        "status": "processing",
        "current_step": step,
        "progress_percent": percent,
        "qualities": qualities,
        "attempt": 1,
        "max_attempts": 3,
        "started_at": "2026-03-01T12:00:00Z",
        "last_error": None,
    } | details


@dataclass
class StandIn:
    """What the stand-in answers; tests change it while a page is open."""

    media: Path
    base_url: str = ""
    videos: dict[str, dict[str, Any]] = field(default_factory=dict)
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)
    segments: int | None = None
    """How many segments of each playlist are there yet; None for all, and the end."""
    broken: bool = False
    """Whether the JSON API answers 503."""
    searches: list[str] = field(default_factory=list)
    held: asyncio.Event | None = None
    """When set, lists wait for it."""

    async def _hear(self, sign: str) -> dict[str, str]:
        """Take a player's sign of life."""
        return {"session_token": "t"} if sign == "session" else {"status": "ok"}

    def add(self, *videos: dict[str, Any]) -> None:
        """Have videos, listed in this order and before those of earlier calls; one of the same slug is replaced."""
        added = {one["slug"]: one for one in videos}
        self.videos = added | {slug: one for slug, one in self.videos.items() if slug not in added}

    def app(self) -> SecurityHeaders:
        """Return the application: the real app's pages and policy over these answers."""
        app = FastAPI(openapi_url=None)
        app.include_router(pages.routes)
        app.add_api_route("/api/analytics/{sign}", self._hear, methods=["POST"])
        app.add_api_route("/api/videos", self._list)
        app.add_api_route("/api/videos/{slug}", self._show)
        app.add_api_route("/api/videos/{slug}/progress", self._progress)
        app.add_api_route("/videos/{slug}/{name}", self._media)
        app.dependency_overrides[pages.described] = self._described
        problems.install(app)
        return SecurityHeaders(pages.ProblemPages(app))

    async def _list(self, request: Request) -> Response:
        words = request.query_params.get("q", "").lower().split()
        self.searches.append(" ".join(words))
        if self.held:
            await self.held.wait()
        if self.broken:
            return problems.problem(503, "the database is away for a moment")
        listed = [one for one in self.videos.values() if one["status"] == "ready"]
        found = [one for one in listed if all(word in one["title"].lower() for word in words)]
        begin, limit = int(request.query_params.get("cursor", "0")), int(request.query_params["limit"])
        end = begin + limit
        return JSONResponse({"items": found[begin:end], "next": str(end) if end < len(found) else None})

    async def _show(self, slug: str) -> Response:
        if self.broken:
            return problems.problem(503, "the database is away for a moment")
        return JSONResponse(self.videos[slug]) if slug in self.videos else problems.problem(404, f"there is no video {slug}")

    async def _described(self, slug: str) -> pages.Described | None:
        if self.broken:
            return None
        if slug not in self.videos:
            raise NotFound(f"there is no video {slug}")
        title, address = self.videos[slug]["title"], f"{self.base_url}/watch/{slug}"
        return pages.Described("public", Preview(title=title, description="", address=address, site=self.base_url))

    async def _progress(self, slug: str) -> Response:
        return JSONResponse(self.progress[slug])

    async def _media(self, name: str) -> Response:
        path = self.media / Path(name).name
        if not path.is_file():
            return problems.problem(404, f"there is no {name}")
        if path.suffix == ".m3u8" and self.segments is not None:
            return PlainTextResponse(_begin(path.read_text(), self.segments), media_type=TYPES[".m3u8"])
        return FileResponse(path, media_type=TYPES[path.suffix])


def _begin(playlist: str, segments: int) -> str:
    """Return an event playlist up to so many segments, without its end; other playlists as they are."""
    if "PLAYLIST-TYPE:EVENT" not in playlist:
        return playlist
    head, *parts = playlist.replace("#EXT-X-ENDLIST\n", "").split("#EXTINF:")
    return "#EXTINF:".join([head, *parts[:segments]])


@asynccontextmanager
async def serving(media: Path) -> AsyncIterator[StandIn]:
    """Serve a stand-in on a free port of this machine."""
    running = StandIn(media)
    config = uvicorn.Config(running.app(), log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield running
        finally:
            server.should_exit = True
            await task
