"""Routes of logins, links and sessions; routes of factors, passkeys and providers are in `api.login.routes`."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from api.cookies import secret_of
from api.identity import COOKIE, Denied, csrf_token
from api.limits import allowing
from api.login.models import Password
from api.login.people import NAME_MAX, People
from api.problems import documented
from events.people import Right, Role
from events.text import Line
from projections.people.rights import rights_of

routes = APIRouter(prefix="/api/auth", tags=["log in"])
Name = Annotated[Line, Field(min_length=1, max_length=NAME_MAX, examples=["anna"])]
SessionId = Annotated[Line, Path(max_length=64)]


class Login(BaseModel, extra="forbid"):
    """Name and password, with a code of the second factor where the account has one."""

    name: Name
    password: Password
    code: Annotated[Line, Field(max_length=64)] | None = None


class Acceptance(BaseModel, extra="forbid"):
    """The text of a link, and the account to be: its name (not for a new password) and its password."""

    token: Annotated[Line, Field(min_length=1, max_length=200)]
    name: Name | None = None
    password: Password


class NewPassword(BaseModel, extra="forbid"):
    """The present password and the next one."""

    password: Password
    new_password: Password


class Check(BaseModel):
    """Whether the caller is logged in, and as whom. `setup_required`: nobody administers this installation yet."""

    authenticated: bool = Field(examples=[True])
    auth_required: bool = True
    setup_required: bool
    user_id: str | None = None
    name: str | None = None
    role: Role | None = None
    rights: list[Right] = []


class LoggedIn(BaseModel):
    """Whether a session has begun; its cookie comes with this answer."""

    authenticated: bool = True
    message: str = Field("you are logged in", examples=["you are logged in"])


class CsrfToken(BaseModel):
    """A token for clients that send neither Origin nor Sec-Fetch-Site, to be sent as X-CSRF-Token."""

    csrf_token: str = Field(examples=["6f1c…"])
    required: bool


class SessionShown(BaseModel):
    """One of your logins. `this` is the one that asks."""

    session_id: str
    how: str = Field(examples=["password+code"])
    opened_at: datetime
    used_at: datetime | None
    expires_at: datetime
    this: bool


async def people(request: Request) -> People:
    """Return the people of this app."""
    found: People = request.app.state.services.people
    return found


Given = Annotated[People, Depends(people)]


@routes.post("/login", responses=documented(401, 422, 429))
@allowing(kind="login")
async def log_in(request: Request, response: Response, given: Given, login: Login) -> LoggedIn:
    """Log in by name and password, and a code where the account has a second factor."""
    await given.login(request, response, login.name, login.password, login.code)
    return LoggedIn()


@routes.post("/accept", responses=documented(401, 409, 422, 429))
@allowing(kind="login")
async def accept_link(request: Request, response: Response, given: Given, acceptance: Acceptance) -> LoggedIn:
    """Use a link: it makes an account, or gives an account a new password, once. Without a second factor you are logged in."""
    if await given.accept(request, response, acceptance.token, acceptance.name, acceptance.password):
        return LoggedIn()
    return LoggedIn(authenticated=False, message="the password is changed; log in with it and a code of your second factor")


@routes.get("/check")
async def check(request: Request, given: Given) -> Check:
    """Say whether you are logged in."""
    setup = not given.directory.administrators()
    try:
        identity = await given.identify(request)
    except Denied:
        return Check(authenticated=False, setup_required=setup)
    rights = sorted(identity.rights)
    if identity.session_id is None or identity.user_id is None:
        return Check(authenticated=True, setup_required=setup, user_id=identity.user_id, rights=rights)
    user_id, name = await given.me(request)
    role = given.directory.users[user_id].role
    return Check(authenticated=True, setup_required=setup, user_id=user_id, name=name, role=role, rights=sorted(rights_of(role)))


@routes.get("/csrf-token")
async def make_csrf_token(request: Request) -> CsrfToken:
    """Return the token that belongs to your session."""
    secret = secret_of(request, COOKIE) or ""
    return CsrfToken(csrf_token=csrf_token(secret), required=bool(secret))


@routes.post("/logout", status_code=204)
async def log_out(request: Request, response: Response, given: Given) -> None:
    """End your session."""
    await given.logout(request, response)


@routes.post("/password", status_code=204, responses=documented(422))
async def change_password(request: Request, response: Response, given: Given, wanted: NewPassword) -> None:
    """Change your password; your other sessions end."""
    await given.change_password(request, response, wanted.password, wanted.new_password)


@routes.get("/sessions")
async def list_sessions(request: Request, given: Given) -> list[SessionShown]:
    """List your logins, newest first."""
    identity = await given.identify(request)
    user_id, _ = await given.me(request)
    return [SessionShown.model_validate(one._asdict()) for one in await given.sessions(user_id, identity.session_id)]


@routes.post("/sessions/{session_id}/end", status_code=204, responses=documented(404))
async def end_session(request: Request, given: Given, session_id: SessionId) -> None:
    """End one of your logins; it is refused within two seconds in every app."""
    user_id, _ = await given.me(request)
    await given.end_session(user_id, session_id)
