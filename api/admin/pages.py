"""The page of a link: it makes an account, or gives it a new password. All other pages are those of the public app."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter, Response

routes = APIRouter(include_in_schema=False)
WEB = Path(__file__).resolve().parent.parent / "web"
NEVER_KEPT = {"Cache-Control": "no-store"}


@cache
def _text(name: str) -> bytes:
    return (WEB / name).read_bytes()


def _asset(name: str, media_type: str) -> Response:
    return Response(_text(name), media_type=media_type, headers=NEVER_KEPT)


@routes.get("/join")
async def join() -> Response:
    """Return the page."""
    return _asset("join.html", "text/html; charset=utf-8")


@routes.get("/join.js")
async def script() -> Response:
    """Return its script."""
    return _asset("join.js", "text/javascript; charset=utf-8")


@routes.get("/join.css")
async def style() -> Response:
    """Return its style."""
    return _asset("join.css", "text/css; charset=utf-8")
