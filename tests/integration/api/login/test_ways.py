"""The routes of factors, passkeys and providers over HTTP: what a page would do, and what is refused."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest

from events.errors import NotFound
from events.people import FactorAdded, ProviderLinked
from infra.runtime.people.asking import Asking
from producers.providers import Provider as Configured
from tests.support.authenticator import Authenticator
from tests.support.engine import free_ports
from tests.support.house import SESSION, House, build
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider

HOME = "http://localhost:9001"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    (port,) = free_ports(1)
    with running_provider(port) as running:
        yield running


@pytest.fixture
async def house(provider: Provider) -> AsyncIterator[House]:
    asking = Asking()
    configured: dict[str, Any] = {"id": "home", "name": "Home", "issuer": provider.issuer, "client_id": CLIENT_ID}
    configured |= {"client_secret": CLIENT_SECRET, "roles": {"film": "operator"}}
    yield build(HOME, asking, [Configured.model_validate(configured)])
    await asking.close()


@pytest.fixture
async def page(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which nobody is logged in."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url=HOME) as client:
        yield client


def as_anna(page: httpx.AsyncClient) -> None:
    page.cookies.set(SESSION, "id-of-anna", domain="localhost.local")


async def done(page: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = await page.post(f"/api/auth{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def test_a_person_adds_an_authenticator_app_and_removes_it(page: httpx.AsyncClient, house: House) -> None:
    as_anna(page)
    await done(page, "/totp", 401, password="wrong")
    secret = await done(page, "/totp", 201, password="right")
    code = pyotp.TOTP(secret["secret"]).now()
    codes = (await done(page, "/totp/verify", code=code))["recovery_codes"]
    assert (await page.get("/api/auth/factors")).json() == {"totp": True, "recovery_codes_left": 10, "passkeys": []}
    await done(page, "/totp/remove", 401, password="wrong", code=codes[0])
    await done(page, "/totp/remove", 401, password="right", code=code)
    renewed = (await done(page, "/totp/recovery-codes", password="right", code=codes[0]))["recovery_codes"]
    await done(page, "/totp/remove", 204, password="right", code=renewed[0])
    assert (await page.get("/api/auth/factors")).json() == {"totp": False, "recovery_codes_left": 0, "passkeys": []}
    assert house.reasons == ["password_wrong", "password_wrong", "totp_replayed"]


@pytest.mark.parametrize(
    "path", ["/totp", "/totp/verify", "/totp/recovery-codes", "/totp/remove", "/passkeys/registration", "/passkeys"]
)
async def test_nobody_without_a_session_changes_factors(page: httpx.AsyncClient, house: House, path: str) -> None:
    body = {"password": "right", "code": "123456", "name": "phone", "credential": {}}
    assert (await page.post(f"/api/auth{path}", json=body)).status_code == 401
    assert (await page.get("/api/auth/factors")).status_code == 401
    assert house.reasons == ["no_session"] * 2


async def test_a_person_logs_in_by_a_passkey(page: httpx.AsyncClient, house: House) -> None:
    phone = Authenticator(HOME, "localhost")
    as_anna(page)
    options = await done(page, "/passkeys/registration", password="right")
    added = await done(page, "/passkeys", 201, name="Phone", credential=phone.create(options))
    page.cookies.clear()
    options = await done(page, "/passkeys/login/options")
    answer = phone.get(options)
    await done(page, "/passkeys/login", 204, credential=answer)
    assert house.people.opened == [("id-of-anna", "passkey")]
    await done(page, "/passkeys/login", 401, credential=answer)
    assert house.reasons == ["passkey_login_challenge"]
    ((shown),) = (await page.get("/api/auth/factors")).json()["passkeys"]
    assert (shown["passkey_id"], shown["name"]) == (added["passkey_id"], "Phone")
    await done(page, f"/passkeys/{added['passkey_id']}/remove", 401, password="wrong")
    await done(page, f"/passkeys/{added['passkey_id']}/remove", 204, password="right")
    await done(page, f"/passkeys/{added['passkey_id']}/remove", 404, password="right")


async def test_an_answer_from_another_browser_is_refused(page: httpx.AsyncClient, house: House) -> None:
    phone = Authenticator(HOME, "localhost")
    as_anna(page)
    await done(
        page, "/passkeys", 201, name="Phone", credential=phone.create(await done(page, "/passkeys/registration", password="right"))
    )
    options = await done(page, "/passkeys/login/options")
    page.cookies.clear()
    await done(page, "/passkeys/login", 401, credential=phone.get(options))
    assert (house.people.opened, house.reasons) == ([], ["passkey_login_challenge"])


async def at_the_provider(page: httpx.AsyncClient, to: str = "/videos") -> str:
    """Go to the provider and log in; return where it sends the browser."""
    sent = await page.get("/api/auth/openid/home", params={"to": to})
    assert sent.status_code == 303, sent.text
    async with httpx.AsyncClient() as outside:
        back = await outside.get(sent.headers["Location"])
    url = urlsplit(back.headers["Location"])
    assert f"{url.scheme}://{url.netloc}" == HOME
    return f"{url.path}?{url.query}"


async def test_a_person_of_a_provider_gets_an_account_and_keeps_it(
    page: httpx.AsyncClient, house: House, provider: Provider
) -> None:
    assert (await page.get("/api/auth/openid")).json() == [{"id": "home", "name": "Home", "url": "/api/auth/openid/home"}]
    for _ in range(2):
        back = await page.get(await at_the_provider(page))
        assert (back.status_code, back.headers["Location"]) == (303, "/videos"), back.text
    (first, how), second = house.people.opened
    assert (how, second) == ("openid:home", (first, how))
    assert (house.people.names[first], house.people.roles[first]) == ("anna", "operator")
    assert house.log == [ProviderLinked(user_id=first, provider="home")]
    provider.claims |= {"sub": "person-2", "email": "anna@home"}
    await page.get(await at_the_provider(page))
    assert house.people.opened[-1][0] != first


async def test_the_cookie_of_an_attempt_is_for_this_site_and_no_script(page: httpx.AsyncClient) -> None:
    cookie = (await page.get("/api/auth/openid/home")).headers["Set-Cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=600"} <= set(cookie.split("; "))
    secure = (await page.get("https://localhost:9001/api/auth/openid/home")).headers["Set-Cookie"]
    assert secure.startswith("__Host-")
    assert "Secure" in secure.split("; ")


async def test_an_answer_to_another_browsers_login_is_refused(page: httpx.AsyncClient, house: House) -> None:
    """Otherwise somebody could log a victim in as themselves, and read along."""
    back = await at_the_provider(page)
    page.cookies.clear()
    answer = await page.get(back)
    assert (answer.status_code, answer.json()["detail"]) == (401, "this attempt is over, or began in another browser; start again")
    assert (house.people.opened, house.reasons) == ([], ["openid_challenge"])


async def test_two_tabs_log_in_side_by_side(page: httpx.AsyncClient, house: House) -> None:
    first, second = await at_the_provider(page, "/one"), await at_the_provider(page, "/two")
    assert [(await page.get(back)).headers["Location"] for back in (first, second)] == ["/one", "/two"]


async def test_a_provider_that_is_down_is_said_in_a_sentence(page: httpx.AsyncClient, provider: Provider) -> None:
    provider.dead = True
    answer = await page.get("/api/auth/openid/home")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "log in with your password meanwhile" in answer.json()["detail"]


async def test_a_provider_logs_a_person_out(page: httpx.AsyncClient, house: House, provider: Provider) -> None:
    await page.get(await at_the_provider(page))
    ((user_id, _),) = house.people.opened
    path = "/api/auth/openid/home/backchannel-logout"
    assert (await page.post(path, data={"logout_token": provider.logout_token(nonce="n")})).status_code == 401
    assert house.people.ended == []
    assert (await page.post(path, data={"logout_token": provider.logout_token()})).status_code == 200
    assert house.people.ended == [user_id]
    away = httpx.URL((await page.get("/api/auth/openid/home/logout")).json()["url"])
    assert str(away).startswith(f"{provider.issuer}/logout?")
    assert away.params["id_token_hint"].count(".") == 2, "the provider need not ask the person"
    again = httpx.URL((await page.get("/api/auth/openid/home/logout")).json()["url"])
    assert "id_token_hint" not in again.params, "the browser has forgotten it"


async def test_added_factors_are_on_the_log(page: httpx.AsyncClient, house: House) -> None:
    as_anna(page)
    secret = await done(page, "/totp", 201, password="right")
    await done(page, "/totp/verify", code=pyotp.TOTP(secret["secret"]).now())
    assert house.log == [
        FactorAdded(user_id="id-of-anna", factor="totp"),
        FactorAdded(user_id="id-of-anna", factor="recovery_codes"),
    ]


async def test_a_reset_ends_every_factor_and_session(page: httpx.AsyncClient, house: House) -> None:
    """Passkeys alone are reset as well: they would let in a thief of the phone."""
    as_anna(page)
    ways = house.app.state.services.ways
    with pytest.raises(NotFound):
        await ways.reset("id-of-anna")
    options = await done(page, "/passkeys/registration", password="right")
    await done(page, "/passkeys", 201, name="Phone", credential=Authenticator(HOME, "localhost").create(options))
    await ways.reset("id-of-anna")
    secret = await done(page, "/totp", 201, password="right")
    await done(page, "/totp/verify", code=pyotp.TOTP(secret["secret"]).now())
    await ways.reset("id-of-anna")
    assert (await page.get("/api/auth/factors")).json() == {"totp": False, "recovery_codes_left": 0, "passkeys": []}
    assert house.people.ended == ["id-of-anna"] * 2
