"""For players: manifests, and the files that they name.

A private video's files are read under signed paths only (`api.public.signatures`), to which its manifests redirect their viewers.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import RedirectResponse

from api import ranges
from api.limits import allowing
from api.problems import documented
from api.public.services import Given, Services, Watching, signed_part
from api.public.signatures import check
from api.public.videos import Slug, shown
from events.errors import Concealed, NotFound
from events.text import Line
from events.videos import Visibility
from projections import catalog
from projections.catalog import Edition, Media, Video
from projections.playback import manifests
from projections.visibility import Viewer

routes = APIRouter(tags=["watching"])
Known = Annotated[str | None, Header(alias="If-None-Match")]
Rendition = Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
Name = Annotated[str, Path(max_length=500, pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$")]
MASTER, DASH_MANIFEST = "master.m3u8", "manifest.mpd"
IMMUTABLE = "public, max-age={}, immutable"
YEAR_S = 31_536_000
MANIFEST_S = 60
RESULTS_MAX = 10_000
"""Maximum number of results remembered."""
REMEMBERED = timedelta(seconds=2)
"""A player asks for a segment every few seconds; an archived video ends this much later for those who watch it."""

SIGNED: dict[int | str, dict[str, Any]] = {
    302: {"description": "The video is private: `Location` lets this player read it for a while."}
}
SAME: dict[int | str, dict[str, Any]] = {304: {"description": "It is what you have."}, **documented(404)}
HLS: dict[int | str, dict[str, Any]] = {200: {"content": {manifests.HLS_TYPE: {"example": "#EXTM3U\n…"}}}, **SIGNED, **SAME}
DASH: dict[int | str, dict[str, Any]] = {200: {"content": {manifests.DASH_TYPE: {"example": "<MPD …/>"}}}, **SIGNED, **SAME}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "All of it."},
    206: {"content": {"application/octet-stream": {}}, "description": "The range that was asked for."},
    302: {"description": "It is in the store, for a while under the address in `Location`."},
    304: {"description": "It is what you have."},
    **documented(404, 416),
}


@routes.head("/videos/{slug}/master.m3u8", include_in_schema=False)
@routes.get("/videos/{slug}/master.m3u8", response_class=Response, responses=HLS)
@allowing(rate="faults", kind="media")
async def hls_master(given: Given, viewer: Watching, slug: Slug, known: Known = None) -> Response:
    """HLS master playlist, available as soon as the first chunk is."""
    return await _manifest_for(given, viewer, slug, MASTER, known)


@routes.head("/videos/{slug}/manifest.mpd", include_in_schema=False)
@routes.get("/videos/{slug}/manifest.mpd", response_class=Response, responses=DASH)
@allowing(rate="faults", kind="media")
async def dash(given: Given, viewer: Watching, slug: Slug, known: Known = None) -> Response:
    """DASH manifest, available once the video is published."""
    return await _manifest_for(given, viewer, slug, DASH_MANIFEST, known)


@routes.head("/videos/{slug}/{rendition}.m3u8", include_in_schema=False)
@routes.get("/videos/{slug}/{rendition}.m3u8", response_class=Response, responses=HLS)
@allowing(rate="faults", kind="media")
async def hls_media(given: Given, viewer: Watching, slug: Slug, rendition: Rendition, known: Known = None) -> Response:
    """HLS playlist of one rendition or subtitle track; grows until the video is published."""
    return await _manifest_for(given, viewer, slug, f"{rendition}.m3u8", known)


@routes.head("/media/~{proof}/{path:path}", include_in_schema=False)
@routes.get("/media/~{proof}/{path:path}", response_class=Response, responses=FILE | documented(403))
@allowing(rate="faults", kind="media")
async def signed_media(
    given: Given,
    request: Request,
    proof: Annotated[Line, Path(max_length=100, description="The part `SIGNATURE.EXPIRY` of a path that a manifest redirects to.")],
    path: Name,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    known: Known = None,
    same: Annotated[str | None, Header(alias="If-Range")] = None,
) -> Response:
    """A manifest, segment, picture or subtitle file of a private video, for everybody who has this path, until it expires."""
    video_id, _, name = path.partition("/")
    left_s = await check(given.media_key, proof, video_id, given.context().now)
    if "/" not in name:
        async with given.pool.connection() as connection:
            edition = await catalog.edition_of(connection, video_id=video_id)
        edition = shown(edition, video_id, Viewer(everything=True))
        return await _manifest(given, edition, name, known, manifests.from_store, left_s, "store")
    if await _visibility(given, path) is None:
        raise NotFound(f"there is nothing at /media/~{proof}/{path}")
    return await _file(given, request, path, left_s, wanted=wanted, known=known, same=same)


@routes.head("/media/{path:path}", include_in_schema=False)
@routes.get("/media/{path:path}", response_class=Response, responses=FILE)
@allowing(rate="faults", kind="media")
async def media_object(
    given: Given,
    request: Request,
    path: Name,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    known: Known = None,
    same: Annotated[str | None, Header(alias="If-Range")] = None,
) -> Response:
    """A segment, picture or subtitle file. It never changes under its address. Ranges are answered.

    Only files of accepted results are served: others may still be written, or refused. Those of an archived or private video
    are not, two seconds later at the latest.
    """
    visibility = await _visibility(given, path)
    if visibility is None:
        raise NotFound(f"there is nothing at /media/{path}")
    if visibility == "private":
        raise Concealed("media_unsigned", f"there is nothing at /media/{path}")
    return await _file(given, request, path, YEAR_S, wanted=wanted, known=known, same=same)


async def _file(given: Services, request: Request, path: str, left_s: int, **headers: str | None) -> Response:
    """Answer with a file, or with its presigned address; no copy of either lives longer than `left_s`."""
    key = manifests.object_key(path)
    if given.options.media_delivery == "redirect":
        life_s = min(given.options.presign_ttl_s, left_s)
        caching = {"Cache-Control": f"private, max-age={life_s // 2}"}
        return RedirectResponse(await given.store.presign_get(key, life_s), 302, headers=caching)
    caching = {"Cache-Control": IMMUTABLE.format(left_s)}
    return await ranges.answer(given.store, key, request.method, headers=caching, **headers)


async def _visibility(given: Services, path: str) -> Visibility | None:
    """Return who may watch a path VIDEO/JOB/EPOCH/… of an accepted result; None for nobody."""
    video_id, job_id, epoch, *names = [*path.split("/"), "", ""]
    if not names[:-2] or not (epoch.isdecimal() and len(epoch) <= 9):
        return None
    attempt = video_id, job_id, int(epoch)
    now = given.context().now
    found_at, visibility = given.results.get(attempt, (datetime.min.replace(tzinfo=now.tzinfo), None))
    if timedelta(0) <= now - found_at < REMEMBERED:
        return visibility
    async with given.pool.connection() as connection:
        visibility = await catalog.visibility_of(connection, *attempt)
    if visibility is None:
        given.results.pop(attempt, None)
        return None
    if len(given.results) >= RESULTS_MAX:
        given.results.clear()
    given.results[attempt] = now, visibility
    return visibility


async def _manifest_for(given: Services, viewer: Viewer, slug: str, name: str, known: str | None) -> Response:
    """Answer a viewer with a manifest; that of a private video has signed paths. Raises NotFound.

    HLS is redirected to one. DASH is not, because ffmpeg resolves its addresses against the path before the redirect.
    """
    async with given.pool.connection() as connection:
        edition = shown(await catalog.edition_of(connection, slug=slug), slug, viewer)
    signed = await signed_part(given, edition)
    if signed and name != DASH_MANIFEST:
        address = f"../../media/{signed}{edition.video_id}/{name}"
        return RedirectResponse(address, 302, headers={"Cache-Control": "private, no-store"})
    return await _manifest(given, edition, name, known, partial(manifests.from_app, signed=signed), YEAR_S, signed)


async def _manifest(
    given: Services, edition: Edition, name: str, known: str | None, address: manifests.Address, left_s: int, place: str
) -> Response:
    """Answer with a manifest, from memory or newly rendered; no copy of it lives longer than `left_s`. Raises NotFound.

    `place` names the addresses: manifests with others are kept apart. A signed one is its viewer's own.
    """
    render, media_type, rendition = _kind(name, address)

    async def rendered() -> str | None:
        async with given.pool.connection() as connection:
            video = await catalog.by_id(connection, edition.video_id)  # a later edition's key is another one
            return render(video, await catalog.media_of(connection, video.video_id, rendition)) if video else None

    found = await given.renderings.get((edition, name, place), rendered)
    if found is None:
        raise NotFound(f"the video cannot be played this way: its status is {edition.status}")
    caching = f"public, max-age={min(MANIFEST_S, left_s)}" if edition.status == "ready" else "no-cache"
    headers = {"Cache-Control": "private, no-store" if place.startswith("~") else caching, "ETag": found.etag}
    if ranges.is_known(found.etag, known):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=media_type, headers=headers)


def _kind(name: str, address: manifests.Address) -> tuple[Callable[[Video, Sequence[Media]], str | None], str, str | None]:
    """Return how a manifest is rendered, its media type, and the only rendition that it needs."""
    if name == MASTER:
        return manifests.hls_master, manifests.HLS_TYPE, None
    if name == DASH_MANIFEST:
        return partial(manifests.dash, address=address), manifests.DASH_TYPE, None
    rendition = name.removesuffix(".m3u8")
    return partial(manifests.hls_media, name=rendition, address=address), manifests.HLS_TYPE, rendition
