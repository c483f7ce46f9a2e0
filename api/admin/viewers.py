"""Routes of the admin app: viewers who are to be forgotten."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from api.admin.services import Given, reading, write
from api.problems import documented
from events.errors import NotFound
from events.text import Line, Prose
from producers import viewers
from projections.streams import figures

routes = APIRouter(prefix="/api/viewers", tags=["viewers"])


class Forgotten(BaseModel):
    """A viewer whose key is gone. `had_key` is false when it was gone before."""

    viewer_id: str = Field(examples=["cYl1Hk7pQ2mXv0ZtR9sWBA"])
    had_key: bool


@routes.delete("/{which}", responses=documented(404))
async def forget_viewer(
    given: Given,
    response: Response,
    which: Annotated[Line, Path(max_length=100, description="A viewer's id, or that of a person.")],
    reason: Annotated[Prose, Query(max_length=500, description="Why; the log keeps it.")] = "",
) -> Forgotten:
    """Delete the key behind a viewer's id for good: their events stay and count, and nobody can say whose they are.

    The key is deleted first, so that no event ever says of a key that it is gone while it is not; a repetition appends the event
    that a crash in between left out.
    """
    viewer_id = await given.viewers.viewer_of(which) or which
    had_key = await given.viewers.forget(viewer_id)
    if not had_key:
        async with reading(given, response, "streams") as connection:
            if not await figures.has_watched(connection, viewer_id):
                raise NotFound(f"there is no viewer {which}")
    await write(given, response, [viewers.forgotten(given.context(), viewer_id, reason)])
    return Forgotten(viewer_id=viewer_id, had_key=had_key)
