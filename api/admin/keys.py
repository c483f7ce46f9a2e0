"""Routes of the admin app: join tokens, keys, revocation."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from api.admin.models import Page
from api.admin.services import Given
from api.problems import documented
from api.services import Limit
from api.worker import models
from events.text import Prose
from producers.keys import Key
from projections.short_ids import fits, only

routes = APIRouter(prefix="/api/worker-keys", tags=["worker keys"])
KEYS_MAX = 10_000
"""Keys that are looked through for a part of an id, the last that were issued."""


class Reason(BaseModel):
    """Why; it is kept on the log."""

    reason: Prose = Field("", max_length=500, examples=["the machine was sold"])


@routes.post("/join-tokens", status_code=201, responses=documented(422))
async def make_join_token(given: Given, wanted: models.Invitation) -> models.JoinToken:
    """Make a token with which one worker may join; it is shown here, and never again."""
    key, text = await given.access.invite(pools=wanted.pools, kinds=wanted.kinds, life=timedelta(seconds=wanted.life_s))
    assert key.expires_at is not None
    return models.JoinToken(token=text, worker_id=key.worker_id, key_id=key.key_id, expires_at=key.expires_at)


@routes.get("")
async def list_keys(given: Given, limit: Limit = 100) -> Page[Key]:
    """List keys and join tokens, the last that was issued first, without anything secret."""
    return Page(items=list(await given.access.listing(limit)), next=None)


@routes.post("/{which}/revoke", responses=documented(404))
async def revoke(
    given: Given,
    which: Annotated[
        str, Path(pattern=r"^[0-9a-f-]{8,36}$", description="A worker's id, that of one of its keys, or a part of it.")
    ],
    reason: Reason | None = None,
) -> models.Revoked:
    """Revoke all keys of a worker, or one; within a second they are good for nothing."""
    keys = await given.access.listing(KEYS_MAX)
    matching = {id_ for key in keys for id_ in (key.worker_id, key.key_id) if id_ is not None and fits(which, id_)}
    found = await given.access.revoke(only(which, matching), reason.reason if reason else "")
    return models.Revoked(key_ids=[key.key_id for key in found])
