"""Previews of a video on other sites: Open Graph tags in its page's head, and oEmbed 1.0 (https://oembed.com)."""

import re
from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from api.examples import JOB_ID, VIDEO_ID
from api.problems import documented
from api.public.services import Given, Services
from api.public.videos import shown_video
from events.errors import NotFound
from events.text import Line
from projections.catalog import Video
from projections.playback.manifests import media_path
from projections.visibility import NOBODY

routes = APIRouter(tags=["watching"])
SITE = "Kinolog"
PICTURE_WIDTH_MAX = 640
"""Width of the thumbnails that workers make, unless the video is narrower."""
DESCRIPTION_MAX = 300
_ADDRESS = re.compile(r"/watch/([a-z0-9-]{1,100})/?")


class Preview(BaseModel):
    """A video in brief. Addresses are absolute, sizes in pixels; None for values not known yet."""

    title: str
    description: str
    address: str
    site: str
    picture: str | None = None
    picture_width: int | None = None
    picture_height: int | None = None
    duration_ms: int | None = None
    uploaded_at: datetime | None = None


class Embed(BaseModel):
    """An oEmbed answer of type `link`: our pages may not be framed. The thumbnail's three fields come together or not at all."""

    version: Literal["1.0"] = "1.0"
    type: Literal["link"] = "link"
    title: str = Field(examples=["Holiday"])
    provider_name: str = Field(examples=[SITE])
    provider_url: str = Field(examples=["https://kinolog.example"])
    thumbnail_url: str | None = Field(None, examples=[f"https://kinolog.example/media/{VIDEO_ID}/{JOB_ID}/1/thumbnail.jpg"])
    thumbnail_width: int | None = Field(None, examples=[640])
    thumbnail_height: int | None = Field(None, examples=[360])


def site_of(given: Services, request: Request) -> str:
    """Return our address without a slash at the end: as configured, else from the request."""
    return (given.options.public_url or str(request.base_url)).rstrip("/")


def preview_of(video: Video, site: str) -> Preview:
    """Return the preview of a video for other sites."""
    rungs = video.plan.video.rungs if video.plan and video.plan.video else ()
    largest = max(rungs, key=lambda rung: rung.width, default=None) if video.thumbnail else None
    width = min(PICTURE_WIDTH_MAX, largest.width) if largest else None
    return Preview(
        title=video.title or video.slug,
        description=" ".join(video.description.split())[:DESCRIPTION_MAX],
        address=f"{site}/watch/{video.slug}",
        site=site,
        picture=site + media_path(video.thumbnail.key) if video.thumbnail else None,
        picture_width=width,
        picture_height=round(largest.height * width / largest.width / 2) * 2 if largest and width else None,
        duration_ms=video.duration_ms,
        uploaded_at=video.uploaded_at,
    )


def head_of(preview: Preview) -> str:
    """Return the elements of a page's head that other sites read (https://ogp.me)."""
    embed = f"{preview.site}/oembed?format=json&url={quote(preview.address, safe='')}"
    lines = [
        f'<link rel="canonical" href="{escape(preview.address)}">',
        f'<link rel="alternate" type="application/json+oembed" href="{escape(embed)}" title="{escape(preview.title)}">',
        *(
            f'<meta {kind}="{name}" content="{escape(str(value))}">'
            for kind, name, value in _tags(preview)
            if value not in (None, "")
        ),
    ]
    return "\n  ".join(lines)


def _tags(preview: Preview) -> Iterator[tuple[str, str, object]]:
    yield "name", "description", preview.description
    yield "name", "twitter:card", "summary_large_image" if preview.picture else "summary"
    yield "property", "og:site_name", SITE
    yield "property", "og:type", "video.other"
    yield "property", "og:title", preview.title
    yield "property", "og:description", preview.description
    yield "property", "og:url", preview.address
    yield "property", "og:image", preview.picture or f"{preview.site}/assets/icon.png"
    yield "property", "og:image:width", preview.picture_width
    yield "property", "og:image:height", preview.picture_height
    yield "property", "video:duration", round(preview.duration_ms / 1000) if preview.duration_ms else None
    yield "property", "video:release_date", preview.uploaded_at.isoformat() if preview.uploaded_at else None


@routes.get("/oembed", response_model_exclude_none=True, responses=documented(404, 501))
async def oembed(
    given: Given,
    request: Request,
    url: Annotated[Line, Query(max_length=2000, description="Address of a video's page.")],
    format: Annotated[Line, Query(max_length=20, description="Only json.")] = "json",
    maxwidth: Annotated[int | None, Query(ge=1, description="Widest thumbnail in pixels.")] = None,
    maxheight: Annotated[int | None, Query(ge=1, description="Highest thumbnail in pixels.")] = None,
) -> Embed:
    """Describe a video to a site that links to it (oEmbed 1.0). Private videos have no preview."""
    if format != "json":
        raise HTTPException(501, "oEmbed is answered as JSON only: leave `format` out, or say json")
    site = site_of(given, request)
    try:
        wanted = urlsplit(url)
    except ValueError:
        raise NotFound("`url` is no address of a video's page") from None
    found = _ADDRESS.fullmatch(wanted.path)
    if not found or wanted.netloc.lower() not in {urlsplit(site).netloc.lower(), request.url.netloc.lower()}:
        raise NotFound("`url` is no address of a video's page here")
    preview = preview_of(await shown_video(given, found[1], NOBODY), site)
    width, height = preview.picture_width, preview.picture_height
    embed = Embed(title=preview.title, provider_name=SITE, provider_url=site)
    if not preview.picture or not width or not height or width > (maxwidth or width) or height > (maxheight or height):
        return embed
    return embed.model_copy(update={"thumbnail_url": preview.picture, "thumbnail_width": width, "thumbnail_height": height})
