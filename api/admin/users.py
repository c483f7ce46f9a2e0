"""Routes of the admin app: people, links, and tokens of scripts."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from api.admin.models import Page
from api.login.accounts import Given
from api.login.people import Link
from api.login.routes import ways
from api.login.ways import Ways
from api.problems import documented
from events.people import Right, Role
from events.text import Line

routes = APIRouter(prefix="/api", tags=["people"])
UserId = Annotated[Line, Path(max_length=64)]
TokenId = Annotated[Line, Path(max_length=64)]
DAY_S = 24 * 3600


class UserShown(BaseModel):
    """A person. The name of a deleted one is gone."""

    user_id: str
    name: str | None = Field(examples=["anna"])
    role: Role
    disabled: bool
    deleted: bool
    sessions: int


class InvitationWanted(BaseModel, extra="forbid"):
    """Use of the link: for an administrator of a new installation, or for somebody with a role."""

    purpose: Literal["setup", "invitation"] = "invitation"
    role: Role = Field("viewer", examples=["operator"])


class LinkShown(BaseModel):
    """The text of a link, good once; shown here, and never again. It is for `POST /api/auth/accept`."""

    token: str = Field(examples=["pGm…"])
    purpose: str
    expires_at: datetime


class UserChange(BaseModel, extra="forbid"):
    """Another role, or whether a person may come in."""

    role: Role | None = Field(None, examples=["operator"])
    disabled: bool | None = None
    reason: Annotated[Line, Field(max_length=500)] = ""


class TokenWanted(BaseModel, extra="forbid"):
    """A token for a script, with some of your own rights."""

    name: Annotated[Line, Field(min_length=1, max_length=100, examples=["nightly import"])]
    rights: list[Right] = Field(min_length=1, max_length=20, examples=[["read", "upload"]])
    life_s: int | None = Field(None, ge=60, le=3650 * DAY_S, description="Life in seconds; empty: until it is revoked.")


class TokenMadeShown(BaseModel):
    """A new token; its text is shown here, and never again."""

    token_id: str
    token: str = Field(examples=["kt_Zk3xQ9aB…"])


class TokenShown(BaseModel):
    """A token without its text; `prefix` is how it begins."""

    token_id: str
    name: str = Field(examples=["nightly import"])
    prefix: str
    rights: list[Right]
    user_id: str
    made_at: datetime
    used_at: datetime | None
    expires_at: datetime | None


@routes.get("/users")
async def list_users(given: Given) -> Page[UserShown]:
    """List all people, also disabled and deleted ones."""
    names, now = await given.accounts.names(), given.context().now
    items = [
        UserShown(
            user_id=user_id,
            name=names.get(user_id),
            role=user.role,
            disabled=user.disabled,
            deleted=user.deleted,
            sessions=sum(1 for _ in given.directory.sessions_of(user_id, now)),
        )
        for user_id, user in sorted(given.directory.users.items())
    ]
    return Page(items=items, next=None)


@routes.post("/users/invitations", status_code=201, responses=documented(409, 422))
async def invite(request: Request, given: Given, wanted: InvitationWanted) -> LinkShown:
    """Make a link with which one person makes their account. It ends when you may not administer any more."""
    return _shown(await given.invite(await given.identify(request), wanted.purpose, wanted.role))


@routes.patch("/users/{user_id}", status_code=204, responses=documented(404, 409, 422))
async def change_user(given: Given, user_id: UserId, change: UserChange) -> None:
    """Change a person's role, disable or enable them. Their sessions end within two seconds in every app."""
    if change.role is not None:
        await given.change_role(user_id, change.role)
    if change.disabled is True:
        await given.disable(user_id, change.reason)
    elif change.disabled is False:
        await given.enable(user_id)


@routes.delete("/users/{user_id}", status_code=204, responses=documented(404, 409))
async def delete_user(given: Given, user_id: UserId) -> None:
    """Delete a person's name, password and factors for good. Their id stays in what they did, as a pseudonym."""
    await given.delete(user_id)


@routes.post("/users/{user_id}/reset", status_code=201, responses=documented(404))
async def reset_password(request: Request, given: Given, user_id: UserId) -> LinkShown:
    """Make a link with which a person chooses a new password."""
    return _shown(await given.invite(await given.identify(request), "reset", user_id=user_id))


@routes.post("/users/{user_id}/reset-factors", status_code=204, responses=documented(404))
async def reset_factors(given: Given, known: Annotated[Ways, Depends(ways)], user_id: UserId) -> None:
    """Remove the authenticator app and the passkeys of a person who has lost them, and log the person out everywhere."""
    given.rights(user_id)
    await known.reset(user_id)


@routes.get("/tokens")
async def list_tokens(request: Request, given: Given) -> Page[TokenShown]:
    """List your tokens, newest first; an administrator sees all."""
    items = [
        TokenShown(
            token_id=shown.token_id,
            name=shown.token.name,
            prefix=shown.prefix,
            rights=sorted(shown.token.rights),
            user_id=shown.token.user_id,
            made_at=shown.token.made_at,
            used_at=shown.used_at,
            expires_at=shown.token.expires_at,
        )
        for shown in await given.tokens(await given.identify(request))
    ]
    return Page(items=items, next=None)


@routes.post("/tokens", status_code=201, responses=documented(403, 409, 422))
async def make_token(request: Request, given: Given, wanted: TokenWanted) -> TokenMadeShown:
    """Make a token for a script, with some of your own rights; its text is shown here, and never again."""
    life = None if wanted.life_s is None else timedelta(seconds=wanted.life_s)
    token_id, text = await given.make_token(await given.identify(request), wanted.name, wanted.rights, life)
    return TokenMadeShown(token_id=token_id, token=text)


@routes.post("/tokens/{token_id}/revoke", status_code=204, responses=documented(404))
async def revoke_token(request: Request, given: Given, token_id: TokenId) -> None:
    """Revoke a token; it is refused within two seconds in every app."""
    await given.revoke_token(await given.identify(request), token_id)


def _shown(link: Link) -> LinkShown:
    return LinkShown(token=link.text, purpose=link.purpose, expires_at=link.expires_at)
