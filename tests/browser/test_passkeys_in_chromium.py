"""Chromium judges our options, and its virtual authenticator's answers are accepted."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.support.engine import free_ports
from tests.support.house import SESSION, House, build, nobody
from tests.support.serving import served

KEY = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
POST = """async ([path, body]) => {
    const answer = await fetch("/api/auth" + path,
        {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    return {status: answer.status, body: answer.status === 204 ? null : await answer.json()};
}"""
CREATE = """async (options) => (await navigator.credentials.create(
    {publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options)})).toJSON()"""
GET = """async (options) => (await navigator.credentials.get(
    {publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options)})).toJSON()"""


@pytest.fixture
async def opened(browser: Browser) -> AsyncIterator[tuple[House, Page]]:
    """The app at its own address, and a page of it in a browser with a key."""
    (port,) = free_ports(1)
    home = f"http://localhost:{port}"
    house = build(home, nobody)
    async with served(house.app, config={"port": port}):
        context = await browser.new_context()
        page = await context.new_page()
        devtools = await context.new_cdp_session(page)
        await devtools.send("WebAuthn.enable")
        await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
        await page.goto(f"{home}/api/auth/openid")
        await context.add_cookies([{"name": SESSION, "value": "id-of-anna", "url": home}])
        yield house, page
        await context.close()


async def post(page: Page, path: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await page.evaluate(POST, [path, body])
    return answer


async def test_a_browser_registers_a_passkey_and_logs_in_with_it(opened: tuple[House, Page]) -> None:
    house, page = opened
    options = (await post(page, "/passkeys/registration", password="right"))["body"]
    added = await post(page, "/passkeys", name="Phone", credential=await page.evaluate(CREATE, options))
    assert added["status"] == 201, added
    await page.context.clear_cookies()
    for _ in range(2):
        options = (await post(page, "/passkeys/login/options"))["body"]
        answer = await page.evaluate(GET, options)
        assert (await post(page, "/passkeys/login", credential=answer))["status"] == 204
    assert house.people.opened == [("id-of-anna", "passkey")] * 2
    assert (await post(page, "/passkeys/login", credential=answer))["status"] == 401
    assert house.reasons == ["passkey_login_challenge"]


async def test_a_browser_registers_no_key_twice(opened: tuple[House, Page]) -> None:
    _, page = opened
    options = (await post(page, "/passkeys/registration", password="right"))["body"]
    await post(page, "/passkeys", name="Phone", credential=await page.evaluate(CREATE, options))
    options = (await post(page, "/passkeys/registration", password="right"))["body"]
    refused = await page.evaluate(f"(options) => ({CREATE})(options).catch(error => error.name)", options)
    assert refused == "InvalidStateError"
