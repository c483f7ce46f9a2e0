"""Routes of second factors, passkeys and providers of logins."""

from datetime import timedelta
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Form, Path, Query, Request, Response
from starlette.responses import RedirectResponse

from api import cookies
from api.login.models import (
    Away,
    Button,
    Confirmed,
    Factors,
    LoggedOut,
    NewPasskey,
    PasskeyAdded,
    PasskeyLogin,
    PasskeyShown,
    Proof,
    RecoveryCodes,
    Removal,
    Secret,
)
from api.login.ways import Ways, browser_of
from api.problems import documented
from events.text import Line

routes = APIRouter(prefix="/api/auth", tags=["log in"])
PROVIDER = Path(pattern=r"^[a-z0-9-]{1,30}$", description="A provider's id.")
LOGOUT_TOKEN = Form(max_length=16_384, examples=["eyJhbGciOiJSUzI1NiJ9.…"])
ID_TOKEN = "kinolog_login_at_"
"""A cookie for each provider: the ID token, which names the login to the provider when it ends."""
ID_TOKEN_MAX, ID_TOKEN_LIFE = 3_500, timedelta(days=30)
"""Browsers drop cookies of more than 4 KiB."""
OPTIONS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": {"challenge": "wA3…", "rpId": "kino.example.org", "timeout": 60000}}}}
}
"""OpenAPI's example of the options of a passkey."""


async def ways(request: Request) -> Ways:
    """Return the app's ways to log in."""
    return cast(Ways, request.app.state.services.ways)


async def me(request: Request, given: Annotated[Ways, Depends(ways)]) -> tuple[str, str]:
    """Return id and name of the person whose session this is."""
    return await given.house.me(request)


Given = Annotated[Ways, Depends(ways)]
Me = Annotated[tuple[str, str], Depends(me)]
ProviderId = Annotated[str, PROVIDER]


# --- one's own factors ------------------------------------------------------------------------------------------------


@routes.get("/factors")
async def list_factors(given: Given, who: Me) -> Factors:
    """List the ways in which you prove who you are, besides the password."""
    user_id, _ = who
    return Factors(
        totp=await given.second.counts(user_id),
        recovery_codes_left=await given.second.codes_left(user_id),
        passkeys=[
            PasskeyShown(passkey_id=row.passkey_id, name=row.name, added_at=row.added_at, used_at=row.used_at)
            for row in await given.passkeys.listing(user_id)
        ],
    )


@routes.post("/totp", status_code=201, responses=documented(409, 422))
async def begin_totp(request: Request, given: Given, who: Me, confirmed: Confirmed) -> Secret:
    """Make a secret for an authenticator app. It counts once `verify` has got a code of it."""
    user_id, name = who
    await given.house.confirm(request, user_id, confirmed.password)
    return Secret.model_validate((await given.second.begin(user_id, name))._asdict())


@routes.post("/totp/verify", responses=documented(409, 422))
async def prove_totp(given: Given, who: Me, proof: Proof) -> RecoveryCodes:
    """Let the secret count, by a code of it; the answer has recovery codes. From now on a login needs a code."""
    return RecoveryCodes(recovery_codes=await given.second.prove(who[0], proof.code))


@routes.post("/totp/recovery-codes", responses=documented(404, 422))
async def renew_codes(request: Request, given: Given, who: Me, removal: Removal) -> RecoveryCodes:
    """Make new recovery codes; the old ones end."""
    await given.house.confirm(request, who[0], removal.password)
    return RecoveryCodes(recovery_codes=await given.second.renew_codes(who[0], removal.code))


@routes.post("/totp/remove", status_code=204, responses=documented(404, 422))
async def remove_totp(request: Request, given: Given, who: Me, removal: Removal) -> None:
    """Remove the authenticator app and the recovery codes; a password is enough from now on."""
    await given.house.confirm(request, who[0], removal.password)
    await given.second.remove(who[0], removal.code)


# --- passkeys ---------------------------------------------------------------------------------------------------------


@routes.post("/passkeys/registration", responses=documented(409, 422) | OPTIONS)
async def begin_passkey(request: Request, given: Given, who: Me, confirmed: Confirmed) -> dict[str, object]:
    """Return the options of `navigator.credentials.create`."""
    user_id, name = who
    await given.house.confirm(request, user_id, confirmed.password)
    return await given.passkeys.begin(user_id, name)


@routes.post("/passkeys", status_code=201, responses=documented(409, 422))
async def add_passkey(given: Given, who: Me, new: NewPasskey) -> PasskeyAdded:
    """Register a passkey; within five minutes after its options were made."""
    return PasskeyAdded(passkey_id=await given.passkeys.add(who[0], new.name, new.credential))


@routes.post("/passkeys/{passkey_id}/remove", status_code=204, responses=documented(404, 422))
async def remove_passkey(
    request: Request, given: Given, who: Me, passkey_id: Annotated[Line, Path(max_length=64)], confirmed: Confirmed
) -> None:
    """Remove one of your passkeys."""
    await given.house.confirm(request, who[0], confirmed.password)
    await given.passkeys.remove(who[0], passkey_id)


@routes.post("/passkeys/login/options", responses=OPTIONS)
async def begin_passkey_login(request: Request, response: Response, given: Given) -> dict[str, object]:
    """Return the options of `navigator.credentials.get`."""
    return await given.passkeys.begin_login(browser_of(request, response))


@routes.post("/passkeys/login", status_code=204, responses=documented(422))
async def login_by_passkey(request: Request, response: Response, given: Given, answer: PasskeyLogin) -> None:
    """Log in by a passkey; within five minutes after its options were made."""
    user_id = await given.passkeys.login(answer.credential, browser_of(request, response))
    await given.house.open_session(request, response, user_id, "passkey")


# --- providers --------------------------------------------------------------------------------------------------------


@routes.get("/openid")
async def list_providers(given: Given) -> list[Button]:
    """List the providers that people can log in with."""
    return [Button(id=id_, name=name, url=f"/api/auth/openid/{id_}") for id_, name in given.providers.listing()]


@routes.get("/openid/{provider}", status_code=303, response_class=RedirectResponse, responses=documented(404))
async def go_to_provider(
    request: Request,
    given: Given,
    provider: ProviderId,
    to: Annotated[Line, Query(max_length=1024, description="Path to come back to.")] = "/",
) -> Response:
    """Lead the browser to a provider."""
    answer = RedirectResponse("", 303)
    answer.headers["Location"] = await given.providers.start(provider, browser_of(request, answer), to)
    return answer


@routes.get("/openid/{provider}/callback", status_code=303, response_class=RedirectResponse, responses=documented(404))
async def come_back(
    request: Request,
    given: Given,
    provider: ProviderId,
    state: Annotated[Line, Query(max_length=128)] = "",
    code: Annotated[Line | None, Query(max_length=2048)] = None,
    error: Annotated[Line | None, Query(max_length=256)] = None,
    iss: Annotated[Line | None, Query(max_length=1024)] = None,
) -> Response:
    """Log in the person whom a provider sends back."""
    answer = RedirectResponse("", 303)
    browser = browser_of(request, answer)
    came = await given.providers.finish(provider, browser, state=state, code=code, error=error, issuer=iss)
    await given.house.open_session(request, answer, await given.account_of(came.person), f"openid:{provider}")
    if len(came.id_token) <= ID_TOKEN_MAX:
        cookies.give(request, answer, ID_TOKEN + provider, came.id_token, ID_TOKEN_LIFE)
    answer.headers["Location"] = came.to
    return answer


@routes.post("/openid/{provider}/backchannel-logout", responses=documented(404, 422))
async def log_out_for_provider(given: Given, provider: ProviderId, logout_token: Annotated[str, LOGOUT_TOKEN]) -> LoggedOut:
    """Log a person out everywhere, as their provider asks by a signed token."""
    issuer, subject = await given.providers.logged_out(provider, logout_token)
    if user_id := await given.links.linked(issuer, subject):
        await given.house.end_sessions(user_id)
    return LoggedOut()


@routes.get("/openid/{provider}/logout", responses=documented(404))
async def leave_provider(request: Request, response: Response, given: Given, provider: ProviderId) -> Away:
    """Say where the browser goes to log out of a provider, too."""
    id_token = cookies.secret_of(request, ID_TOKEN + provider)
    cookies.take(request, response, ID_TOKEN + provider)
    return Away(url=await given.providers.logout_url(provider, id_token))
