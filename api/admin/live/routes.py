"""For administrators: live status over Server-Sent Events.

A stream begins with `initial`, the present state; the id of each message is the position of the log after it. A client that
reconnects with `Last-Event-ID`, as browsers do, goes on there, without gap or repetition, and gets no `initial`.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from api.admin.live.hub import LISTENERS_MAX, Channel, Hub, Vector
from api.admin.services import Given, Services, reading
from api.problems import documented
from events.errors import InvalidRequest, Retryable
from events.text import Line
from events.topics import Partition
from projections import catalog, progress, workers
from projections.catalog import Video
from projections.folding.positions import Positions, snapshot

routes = APIRouter(tags=["live"])
VIDEOS_MAX = 100
"""Maximum number of videos that one stream may name, and whose state is in `initial`."""
WORKERS_MAX = 1000
HEADERS = {"X-Accel-Buffering": "no"}
"""Proxies must not hold messages back."""
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"example": "event: progress\ndata: {…}\nid: jobs:0=12,…\n\n"}}},
    **documented(422),
}
Last = Annotated[
    Line | None, Header(alias="Last-Event-ID", max_length=4096, description="The id of the last message: go on after it.")
]


@routes.get("/api/events/progress", response_class=StreamingResponse, responses=STREAM)
async def follow_progress(
    request: Request,
    given: Given,
    video_ids: Annotated[Line | None, Query(max_length=4000, description="Only these videos, comma separated.")] = None,
    last: Last = None,
) -> StreamingResponse:
    """Follow videos: `initial`, then `progress`, `job_completed`, `job_failed`, and a `heartbeat` in silence."""
    wanted = frozenset(filter(None, (part.strip() for part in video_ids.split(",")))) if video_ids is not None else None
    if wanted is not None and not 0 < len(wanted) <= VIDEOS_MAX:
        raise InvalidRequest(f"video_ids names 1 to {VIDEOS_MAX} videos")
    hub = _hub(given)
    stream = hub.listen(hub.progress, lambda: progress_state(given, wanted), last=_vector(hub.progress, last), wanted=wanted)
    return await _respond(request, given, stream)


@routes.get("/api/events/workers", response_class=StreamingResponse, responses=STREAM)
async def follow_workers(request: Request, given: Given, last: Last = None) -> StreamingResponse:
    """Follow workers: `initial`, then `worker_status`, and a `heartbeat` in silence."""
    hub = _hub(given)
    stream = hub.listen(hub.workers, lambda: workers_state(given), last=_vector(hub.workers, last))
    return await _respond(request, given, stream)


async def _respond(request: Request, given: Services, stream: AsyncIterator[bytes]) -> StreamingResponse:
    """Return the stream as a response, once its first piece is there: an error before that has a status of its own.

    Nothing is sent to a listener who may not read any more.
    """
    caller = await given.people.identify(request)
    first = await anext(stream)

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in stream:
            if not given.people.still_has(caller, "read"):
                return
            yield piece

    return EventSourceResponse(pieces(), headers=HEADERS)


def _hub(given: Services) -> Hub:
    """Return the hub. Raises InvalidRequest for a question about the past, Retryable when there are too many listeners."""
    if given.as_of is not None:
        raise InvalidRequest("a live stream is about now: leave as_of out")
    if given.live.listeners >= LISTENERS_MAX:
        raise Retryable("nobody else can listen now; try again")
    return given.live


def _vector(channel: Channel, last: str | None) -> Vector | None:
    """Return the position to go on from, None for the beginning. Raises InvalidRequest for anything but an id of this stream."""
    if not last:
        return None
    try:
        positions = Positions.parse(last).next
    except InvalidRequest:
        positions = {}
    if set(positions) != set(channel.partitions):
        raise InvalidRequest("Last-Event-ID wants the id of a message of this stream; leave it out to begin anew")
    return channel.vector_of(positions)


async def progress_state(given: Services, wanted: frozenset[str] | None) -> tuple[dict[Partition, int], dict[str, object]]:
    """Return the progress of the wanted videos, or of all that are being made, and the position of that state.

    Three projections are read, each at its own position; the stream goes on from the earliest.
    """
    async with reading(given, Response(), "catalog") as connection:
        if wanted is None:
            found = list(await catalog.listing(connection, limit=VIDEOS_MAX, status="processing"))
        else:
            found = [video for one in sorted(wanted) if (video := await catalog.by_id(connection, one)) is not None]
        shown = [await _video(connection, video) for video in found]
        positions: dict[Partition, int] = {}
        for name in ("catalog", "jobs", "progress"):
            for partition, position in (await snapshot(connection, name)).next.items():
                positions[partition] = min(position, positions.get(partition, position))
    return positions, {"videos": shown}


async def _video(connection: Any, video: Video) -> dict[str, object]:
    state = await progress.progress_now(connection, video)
    return {"video_id": video.video_id, **state.model_dump(mode="json")}


async def workers_state(given: Services) -> tuple[dict[Partition, int], dict[str, object]]:
    """Return the present state of the workers, and its position."""
    now = given.context().now
    async with reading(given, Response(), "workers") as connection:
        found = await workers.listing(connection, WORKERS_MAX)
        positions = await snapshot(connection, "workers")
    shown = [
        {
            "worker_id": worker.worker_id,
            "name": worker.name,
            "pool": worker.pool,
            "status": workers.presence(worker, now),
            "job_ids": list(worker.job_ids),
        }
        for worker in found
    ]
    return positions.next, {"workers": shown}
