"""Parts that the routes of the public app receive."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request, Response

from api import services as common
from api.callers import Append, called_by
from api.identity import Denied, Doors, has_secret
from api.public.renderings import Renderings
from api.public.signatures import KeyOf, expiry_of, signed
from api.public.tally import Tally
from events.videos import Visibility
from projections.catalog import Edition, Video, VideoSummary
from projections.visibility import NOBODY, Viewer


@dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Settings of the public app. Times in seconds.

    `media_origin` is the store's origin for browsers when `media_delivery` is `redirect`, empty otherwise. `public_url` is
    the app's address for people; empty: taken from each request.
    """

    media_delivery: str
    presign_ttl_s: int
    private_media_ttl_s: int
    media_origin: str = ""
    public_url: str = ""


class Viewers(Protocol):
    """The ids of viewers; `infra.runtime.viewers.Viewers` implements it."""

    async def of_browser(self, secret: str) -> str: ...
    async def of_person(self, user_id: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Services(common.Services):
    """Parts of the public app. `results` remembers when a result (video, job, epoch) was looked up, and who may watch it."""

    options: Options
    doors: Doors
    media_key: KeyOf
    append: Append
    viewers: Viewers
    stream_key: KeyOf
    tally: Tally
    renderings: Renderings = field(default_factory=Renderings)
    results: dict[tuple[str, str, int], tuple[datetime, Visibility]] = field(default_factory=dict)


async def services(request: Request) -> Services:
    """Return the app's services."""
    return cast(Services, request.app.state.services)


Given = Annotated[Services, Depends(services)]


async def viewer(given: Given, request: Request, response: Response) -> Viewer:
    """Return the caller as a viewer. A caller without a secret, or whose login is over, is nobody.

    Raises Denied for a wrong token; TooManyAttempts after many of them.
    """
    if not has_secret(request):
        return NOBODY
    response.headers["Cache-Control"] = "private, no-store"
    try:
        found = await given.doors.caller(request)
    except Denied as denied:
        if "authorization" in request.headers:
            raise
        request.state.refusal = denied.reason
        return NOBODY
    request.state.who = found.actor
    called_by(found.actor)
    everything = "read" in found.rights
    return Viewer(found.user_id, found.role, everything) if found.role else Viewer(everything=everything)


async def signed_part(given: Services, video: Video | VideoSummary | Edition) -> str:
    """Return the part of media paths that lets a viewer read a private video, with its slash; empty for other videos."""
    if video.visibility != "private":
        return ""
    expiry = expiry_of(given.context().now, given.options.private_media_ttl_s)
    return await signed(given.media_key, video.video_id, expiry) + "/"


Watching = Annotated[Viewer, Depends(viewer)]
