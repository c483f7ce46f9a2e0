"""The viewers' pages: plain files in api/web with a few words filled in, and the player from its npm package."""

import hashlib
import json
import re
from functools import cache, lru_cache
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.limits import allowing
from api.public.media import Known
from api.public.previews import Preview, head_of, preview_of, site_of
from api.public.services import Given, Watching
from api.public.videos import shown_video
from api.ranges import is_known
from events.errors import NotFound
from events.videos import Visibility

WEB = Path(__file__).resolve().parent.parent / "web"
VENDOR = {"hls.js": WEB / "node_modules" / "hls.js" / "dist" / "hls.min.js"}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".mjs": "text/javascript"}
TITLES = {
    404: "There is nothing at this address",
    429: "You asked too often",
    500: "Something went wrong",
    503: "Kinolog cannot answer at the moment",
}
ROBOTS = "User-agent: *\nDisallow: /metrics\n"
READ = ["GET", "HEAD"]
_SLUG = re.compile(r"[a-z0-9-]{1,100}")

routes = APIRouter(include_in_schema=False)


class Described(NamedTuple):
    """A video as its page needs it."""

    visibility: Visibility
    preview: Preview


@routes.api_route("/", methods=READ)
async def library(known: Known = None) -> Response:
    """The library."""
    return _whole(WEB / "index.html", "no-cache", known, "text/html")


async def described(given: Given, viewer: Watching, request: Request, slug: str) -> Described | None:
    """Return a video and its preview, None while the database is away. Raises NotFound."""
    if not _SLUG.fullmatch(slug):
        raise NotFound("there is no such video: its address is not complete")
    try:
        video = await shown_video(given, slug, viewer)
        return Described(video.visibility, preview_of(video, site_of(given, request)))
    except problems.AWAY:
        return None


@routes.api_route("/watch/{slug}", methods=READ)
async def watch(found: Annotated[Described | None, Depends(described)]) -> HTMLResponse:
    """The page of one video. Its script loads the content, and keeps trying while the database is away."""
    if found is None:
        retry = {"Cache-Control": "no-store", "Retry-After": str(problems.RETRY_AFTER_S)}
        return HTMLResponse(_filled("watch.html", name="Kinolog"), 503, retry)
    visibility, preview = found
    private = visibility == "private"
    page = _filled("watch.html", "" if private else head_of(preview), name=f"{preview.title} · Kinolog", title=preview.title)
    headers = {"Cache-Control": "private, no-store" if private else "no-cache"}
    return HTMLResponse(page, headers=headers if visibility == "public" else headers | {"X-Robots-Tag": "noindex"})


@routes.api_route("/robots.txt", methods=READ)
async def robots() -> Response:
    """Crawlers may read everything that people may."""
    return Response(ROBOTS, media_type="text/plain", headers={"Cache-Control": "public, max-age=3600"})


@routes.api_route("/favicon.ico", methods=READ)
async def favicon(known: Known = None) -> Response:
    """The icon, at the address that browsers try when no page names one."""
    return _whole(WEB / "favicon.ico", "public, max-age=3600", known, "image/x-icon")


@routes.api_route("/assets/vendor/{name}", methods=READ)
@allowing(rate="faults")
async def vendor(name: str, known: Known = None) -> Response:
    """The player."""
    if name not in VENDOR or not VENDOR[name].is_file():
        raise NotFound(f"there is no {name}; was `make setup` run?")
    return _whole(VENDOR[name], "public, max-age=3600", known)


@routes.api_route("/assets/{name}", methods=READ)
@allowing(rate="faults")
async def asset(name: str, known: Known = None) -> Response:
    """A script, style or picture of the pages."""
    path = WEB / name
    if path.suffix not in TYPES or path.parent != WEB or not path.is_file():
        raise NotFound(f"there is no {name}")
    return _whole(path, "no-cache", known)


def _whole(path: Path, caching: str, known: str | None, media_type: str | None = None) -> Response:
    """Return a file with its entity tag, or 304. Range is ignored: it is for media, and the answer is the whole file."""
    body, etag = _read(path, path.stat().st_mtime_ns)
    headers = {"Cache-Control": caching, "ETag": etag}
    if is_known(etag, known):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type or TYPES[path.suffix], headers=headers)


@lru_cache(maxsize=50)
def _read(path: Path, modified_ns: int) -> tuple[bytes, str]:
    """Return a file's bytes and their weak tag, which all encodings of the file share."""
    body = path.read_bytes()
    return body, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'


class ProblemPages:
    """Shows people a page where programs get a problem document, with the same status and words."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = prefers_page(Headers(scope=scope).get("accept", ""))
        start: Message | None = None
        body = bytearray()

        async def exchanged(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=[*message["headers"]])
                if headers.get("content-type") == problems.TYPE:
                    headers.add_vary_header("Accept")
                    message = {**message, "headers": headers.raw}
                    if wanted:
                        start = message
                        return
            elif start is not None:
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                page = problem_page(start["status"], json.loads(body), scope["path"]).encode()
                headers = MutableHeaders(raw=[*start["headers"]])
                headers["content-type"], headers["content-length"] = "text/html; charset=utf-8", str(len(page))
                await send({**start, "headers": headers.raw})
                message = {"type": "http.response.body", "body": page}
            await send(message)

        await self._app(scope, receive, exchanged)


def problem_page(status: int, document: Any, path: str) -> str:
    """Return the page of a problem document; it offers another try when the problem may pass by itself."""
    passing = status in (408, 429) or status >= 500
    title = TITLES.get(status, HTTPStatus(status).phrase)
    return _filled(
        "problem.html",
        name=f"{title} · Kinolog",
        title=title,
        words=sentence(str(document.get("detail", ""))),
        href=path if passing and path.startswith("/") and not path.startswith("//") else "/",
        label="Try again" if passing else "Back to the library",
    )


def sentence(words: str) -> str:
    """Return the words with a capital letter and a full stop."""
    words = words.strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?", "…")) or not words else ".")


def prefers_page(accept: str) -> bool:
    """Return whether an Accept header (RFC 9110, 12.5.1) prefers HTML to JSON; a browser's does when it opens a page."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        given = [value.removeprefix("q=") for value in parameters if value.startswith("q=")]
        weights[kind] = float(given[0]) if given and re.fullmatch(r"[01](\.[0-9]{0,3})?", given[0]) else 1.0
    page = weights.get("text/html", 0.0)
    programs = max(weights.get(kind, 0.0) for kind in ("application/json", problems.TYPE, "application/*", "*/*"))
    return page > programs


@cache
def _template(name: str) -> Template:
    return Template((WEB / name).read_text())


def _filled(file: str, head: str = "", **words: str) -> str:
    """Return a page of api/web with words filled in. The words may be anything: they are escaped. `head` is HTML.

    Every page has the same beginning of its head, and the same top.
    """
    plain = {"title": "", "name": "", "words": ""} | {part: escape(text) for part, text in words.items()}
    shared, top = (_template(part).substitute(plain).rstrip() for part in ("head.html", "top.html"))
    return _template(file).substitute(plain, head=head, shared=shared, top=top)
