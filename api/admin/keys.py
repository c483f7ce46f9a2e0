"""Routes of the admin app: join tokens, keys, revocation."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from api.admin.models import Page, Reason
from api.admin.services import Given
from api.examples import JOB_ID, JOIN_TOKEN, WORKER_ID
from api.problems import documented
from api.services import Limit
from events.kinds import JobKind
from events.text import Line
from producers.keys import Key
from projections.short_ids import fits, only

routes = APIRouter(prefix="/api/worker-keys", tags=["worker keys"])
KEYS_MAX = 10_000
"""Number of most recently issued keys that are searched for a part of an id."""


class Invitation(BaseModel, extra="forbid", frozen=True):
    """The workers that a join token admits, and its life."""

    pools: tuple[Annotated[Line, Field(min_length=1, max_length=100)], ...] = Field((), max_length=100)
    kinds: tuple[JobKind, ...] = Field((), max_length=10, examples=[["encode", "audio"]])
    life_s: int = Field(3600, ge=1, le=30 * 24 * 3600, examples=[3600])


class JoinToken(BaseModel):
    """A token that admits one worker; shown here, and never again."""

    token: str = Field(examples=[JOIN_TOKEN])
    worker_id: str = Field(examples=[WORKER_ID])
    key_id: str
    expires_at: datetime


class Revoked(BaseModel):
    """Keys that stop working now."""

    key_ids: list[str] = Field(examples=[[JOB_ID]])


@routes.post("/join-tokens", status_code=201, responses=documented(422))
async def make_join_token(given: Given, wanted: Invitation) -> JoinToken:
    """Make a token with which one worker may join; it is shown here, and never again."""
    key, text = await given.access.invite(pools=wanted.pools, kinds=wanted.kinds, life=timedelta(seconds=wanted.life_s))
    assert key.expires_at is not None
    return JoinToken(token=text, worker_id=key.worker_id, key_id=key.key_id, expires_at=key.expires_at)


@routes.get("")
async def list_keys(given: Given, limit: Limit = 100) -> Page[Key]:
    """List keys and join tokens, the most recently issued first, without anything secret."""
    return Page(items=list(await given.access.listing(limit)), next=None)


@routes.post("/{which}/revoke", responses=documented(404))
async def revoke(
    given: Given,
    which: Annotated[
        str, Path(pattern=r"^[0-9a-f-]{8,36}$", description="A worker's id, that of one of its keys, or a part of it.")
    ],
    reason: Reason | None = None,
) -> Revoked:
    """Revoke all keys of a worker, or one; they stop working within a second."""
    keys = await given.access.listing(KEYS_MAX)
    matching = {id_ for key in keys for id_ in (key.worker_id, key.key_id) if id_ is not None and fits(which, id_)}
    found = await given.access.revoke(only(which, matching), reason.reason if reason else "")
    return Revoked(key_ids=[key.key_id for key in found])
