"""Parts that the routes of the public app receive."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, cast

from fastapi import Depends, Request

from api import services as common
from api.public.renderings import Renderings


@dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Settings of the public app. Times in seconds.

    `media_origin` is the store's origin for browsers when `media_delivery` is `redirect`, empty otherwise. `public_url` is
    the app's address for people; empty: taken from each request.
    """

    media_delivery: str
    presign_ttl_s: int
    media_origin: str = ""
    public_url: str = ""


@dataclass(frozen=True, kw_only=True)
class Services(common.Services):
    """Parts of the public app. `playable` remembers when a result (video, job, epoch) was found to be playable."""

    options: Options
    renderings: Renderings = field(default_factory=Renderings)
    playable: dict[tuple[str, str, int], datetime] = field(default_factory=dict)


async def services(request: Request) -> Services:
    """Return the app's services."""
    return cast(Services, request.app.state.services)


Given = Annotated[Services, Depends(services)]
