"""The viewers' pages: plain files in api/web, the player from its npm package."""

import hashlib
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from api.public.browsing import Known
from api.ranges import is_known
from events.errors import NotFound

WEB = Path(__file__).resolve().parent.parent / "web"
VENDOR = {"hls.js": WEB / "node_modules" / "hls.js" / "dist" / "hls.min.js"}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".mjs": "text/javascript"}

routes = APIRouter(include_in_schema=False)


@routes.get("/")
async def library() -> FileResponse:
    """The library."""
    return FileResponse(WEB / "index.html", media_type="text/html", headers={"Cache-Control": "no-cache"})


@routes.get("/watch/{slug}")
async def watch(slug: str) -> FileResponse:
    """The page of one video; its script asks for what it shows."""
    return FileResponse(WEB / "watch.html", media_type="text/html", headers={"Cache-Control": "no-cache"})


@routes.get("/assets/vendor/{name}")
async def vendor(name: str, known: Known = None) -> Response:
    """The player."""
    if name not in VENDOR or not VENDOR[name].is_file():
        raise NotFound(f"there is no {name}; was `make setup` run?")
    return _whole(VENDOR[name], "public, max-age=3600", known)


@routes.get("/assets/{name}")
async def asset(name: str, known: Known = None) -> Response:
    """A script, style or picture of the pages."""
    path = WEB / name
    if path.suffix not in TYPES or path.parent != WEB or not path.is_file():
        raise NotFound(f"there is no {name}")
    return _whole(path, "no-cache", known)


def _whole(path: Path, caching: str, known: str | None) -> Response:
    """Return a file with its entity tag, or that it is known."""
    body, etag = _read(path, path.stat().st_mtime_ns)
    headers = {"Cache-Control": caching, "ETag": etag}
    if is_known(etag, known):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=TYPES[path.suffix], headers=headers)


@lru_cache(maxsize=50)
def _read(path: Path, modified_ns: int) -> tuple[bytes, str]:
    """Return a file's bytes and their tag, a weak one: it is that of every encoding of them."""
    body = path.read_bytes()
    return body, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
