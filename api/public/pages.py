"""The viewers' pages: plain files in api/web, the player from its npm package."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

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
async def vendor(name: str) -> FileResponse:
    """The player."""
    if name not in VENDOR or not VENDOR[name].is_file():
        raise NotFound(f"there is no {name}; was `make setup` run?")
    return FileResponse(VENDOR[name], media_type="text/javascript", headers={"Cache-Control": "public, max-age=3600"})


@routes.get("/assets/{name}")
async def asset(name: str) -> FileResponse:
    """A script, style or picture of the pages."""
    path = WEB / name
    if path.suffix not in TYPES or path.parent != WEB or not path.is_file():
        raise NotFound(f"there is no {name}")
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
