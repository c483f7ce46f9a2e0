"""Signs of life of players: a stream begins, goes on and ends, as the predecessor's players send them, and in more detail.

Bodies are JSON under any content type, so that `navigator.sendBeacon` can send them from any page. A stream's figures come from the
times at which its signs of life arrive (`projections.streams`): a client can claim less than it watched, and never more time than
passed.
"""

import secrets
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.cookies import give, secret_of
from api.examples import VIDEO_ID
from api.limits import allowing
from api.problems import documented
from api.public.services import Given, Services, Watching
from api.public.stream_tokens import LIFE_DAYS, Stream, issue, read, session_of
from api.public.videos import shown
from events.errors import InvalidRequest
from events.faults import sentence
from events.streams import (
    WEEK_MS,
    Count,
    Moment,
    PlayState,
    StreamEnded,
    StreamEvent,
    StreamFailed,
    StreamStarted,
    StreamTicked,
    Word,
)
from events.text import MachineLine
from producers.streams import about
from projections import catalog
from projections.visibility import Viewer

routes = APIRouter(prefix="/api/analytics", tags=["watching"])
COOKIE = "kinolog_viewer"
COOKIE_LIFE = timedelta(days=365)
HEARTBEAT_S = 30
Position = Annotated[float, Field(ge=0, le=WEEK_MS / 1000, description="Seconds into the video.")]
TOKEN = "cYl1Hk7pQ2mXv0ZtR9sWBA.AZ2Hk3cVcQKbq0mYtP8LdQ.tCEuUX2TY934PImRD"
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """A body; what it has beside the named fields is ignored, as players send more with time."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Beginning(Body):
    """A player begins to play a video."""

    video_id: Annotated[str, Field(max_length=100, description="A video's id.", examples=[VIDEO_ID])]
    position: Position = 0
    quality: Word | None = None
    client: Word | None = None


class SignOfLife(Body):
    """A player's position and state. Totals are those since the stream began."""

    session_token: Annotated[str, Field(max_length=64, examples=[TOKEN])]
    position: Position
    playing: bool = True
    state: PlayState | None = None
    rate: float = Field(1.0, gt=0, le=16)
    quality: Word | None = None
    start_up_ms: Moment | None = None
    stalled_ms: Moment = 0
    switches: Count = 0
    errors: Count = 0


class Ending(Body):
    """A player ends a stream; with a `fault`, because it cannot go on."""

    session_token: Annotated[str, Field(max_length=64, examples=[TOKEN])]
    position: Position | None = None
    fault: Annotated[MachineLine, Field(max_length=200)] | None = None


class Begun(BaseModel):
    """The token to send with each sign of life, at least every `heartbeat_s`, and as `sid` of CMCD with requests of media."""

    session_token: str = Field(examples=[TOKEN])
    heartbeat_s: int = HEARTBEAT_S


class Noted(BaseModel):
    """The sign of life was recorded."""

    status: str = Field("ok", examples=["ok"])


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    kinds = ("application/json", "text/plain")
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}}


@routes.post("/session", openapi_extra=_body(Beginning), responses=documented(404, 413, 422))
@allowing(kind="playback")
async def begin(given: Given, viewer: Watching, request: Request, response: Response) -> Begun:
    """Begin a stream. A browser without a login gets a cookie for a year, by which it is the same viewer next time."""
    body = await _read(request, Beginning)
    async with given.pool.connection() as connection:
        video = shown(await catalog.by_id(connection, body.video_id), body.video_id, viewer)
    context = given.context()
    stream = Stream(await _viewer_id(given, viewer, request, response), session_of(context.new_id()))
    event = StreamStarted(
        **stream._asdict(),
        video_id=video.video_id,
        position_ms=_ms(body.position),
        media_ms=video.duration_ms,
        quality=body.quality,
        client=body.client,
    )
    await given.append([about(context, event)])
    return Begun(session_token=await issue(given.stream_key, stream, context.now.date()))


@routes.post("/heartbeat", openapi_extra=_body(SignOfLife), responses=documented(413, 422))
@allowing(kind="playback")
async def heartbeat(given: Given, request: Request) -> Noted:
    """Record a sign of life."""
    body = await _read(request, SignOfLife)
    stream = await _stream(given, body.session_token)
    event = StreamTicked(
        **stream._asdict(),
        position_ms=_ms(body.position),
        state=body.state or ("playing" if body.playing else "paused"),
        **body.model_dump(include={"rate", "quality", "start_up_ms", "stalled_ms", "switches", "errors"}),
    )
    return await _noted(given, event)


@routes.post("/end", openapi_extra=_body(Ending), responses=documented(413, 422))
@allowing(kind="playback")
async def end(given: Given, request: Request) -> Noted:
    """Record the end of a stream."""
    body = await _read(request, Ending)
    stream = await _stream(given, body.session_token)
    position_ms = None if body.position is None else _ms(body.position)
    if body.fault is not None:
        return await _noted(given, StreamFailed(**stream._asdict(), position_ms=position_ms, fault=body.fault))
    return await _noted(given, StreamEnded(**stream._asdict(), position_ms=position_ms))


async def _noted(given: Services, event: StreamEvent) -> Noted:
    await given.append([about(given.context(), event)])
    return Noted()


async def _stream(given: Services, token: str) -> Stream:
    found = await read(given.stream_key, token, given.context().now.date())
    if found is None:
        raise InvalidRequest(f"session_token is not ours, or older than {LIFE_DAYS} days; begin another session")
    return found


async def _viewer_id(given: Services, viewer: Viewer, request: Request, response: Response) -> str:
    if viewer.user_id is not None:
        return await given.viewers.of_person(viewer.user_id)
    secret = secret_of(request, COOKIE)
    if secret is None or len(secret) > 100:
        secret = secrets.token_urlsafe(24)
        give(request, response, COOKIE, secret, COOKIE_LIFE)
    return await given.viewers.of_browser(secret)


async def _read(request: Request, model: type[B]) -> B:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise InvalidRequest("; ".join(sentence(dict(fault)) for fault in error.errors()[:3])) from error


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
