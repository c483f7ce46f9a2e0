"""Each way to cheat on the real platform is refused; the audit names the reason, the client, and the caller where one is known."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from joserfc.jwk import RSAKey
from pyarrow import csv

from api.identity import COOKIE
from producers.providers import Provider as Configured
from tests.support.engine import free_ports
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Claims, Provider, running_provider
from tests.support.platform import Platform, beside
from tests.support.waiting import eventually

PASSWORD = "several words for the test"
FORMULA = '=HYPERLINK("http://evil.example","click")'


@dataclass
class Place:
    """An admin app of its own behind TLS, with a provider of logins."""

    admin: httpx.AsyncClient
    provider: Provider
    expiring: str = ""
    _numbers: Any = field(default_factory=count)

    @asynccontextmanager
    async def browser(self, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """Yield a browser, or a script, at an address of its own."""
        address = f"198.51.100.{next(self._numbers)}"
        given = {"X-Forwarded-For": address, "Sec-Fetch-Site": "same-origin"} | headers
        async with httpx.AsyncClient(base_url=self.admin.base_url, headers=given, timeout=60) as http:
            yield http

    async def member(self, http: httpx.AsyncClient, role: str = "operator") -> tuple[str, str]:
        """Make a person by an invitation, who is logged in; return their name and id."""
        name = f"person {next(self._numbers)}"
        accepted = await accept(http, await self.link(role), name)
        assert accepted.status_code == 200, accepted.text
        return name, (await http.get("/api/auth/check")).json()["user_id"]

    async def link(self, role: str = "viewer") -> str:
        made = await self.admin.post("/api/users/invitations", json={"role": role})
        return str(made.raise_for_status().json()["token"])

    async def by_provider(self, http: httpx.AsyncClient, **answer: str) -> httpx.Response:
        """Log in at the provider; come back with a changed answer."""
        start = await http.get("/api/auth/openid/home")
        async with httpx.AsyncClient() as elsewhere:
            back = (await elsewhere.get(start.headers["Location"])).headers["Location"]
        query = dict(httpx.QueryParams(urlsplit(back).query)) | answer
        return await http.get(urlsplit(back).path, params=query)


@pytest.fixture(scope="module")
async def place(platform: Platform) -> AsyncIterator[Place]:
    (port,) = free_ports(1)
    with running_provider(port) as provider:
        configured: dict[str, Any] = {"id": "home", "name": "Home", "issuer": provider.issuer, "client_id": CLIENT_ID}
        configured |= {"client_secret": CLIENT_SECRET, "roles": {"film": "operator"}}
        providers = (Configured.model_validate(configured),)
        async with beside(platform, "admin", openid_providers=providers, trusted_proxies=("127.0.0.0/8",)) as admin:
            made = await admin.post("/api/tokens", json={"name": "short", "rights": ["read"], "life_s": 60})
            yield Place(admin, provider, made.raise_for_status().json()["token"])


async def accept(http: httpx.AsyncClient, token: str, name: str) -> httpx.Response:
    return await http.post("/api/auth/accept", json={"token": token, "name": name, "password": PASSWORD})


async def login(http: httpx.AsyncClient, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    return await http.post("/api/auth/login", json={"name": name, "password": password, **more})


async def factor(http: httpx.AsyncClient) -> tuple[str, list[str]]:
    """Add an authenticator app; return the code that was its proof, and recovery codes."""
    begun = (await http.post("/api/auth/totp", json={"password": PASSWORD})).raise_for_status().json()
    code = pyotp.TOTP(begun["secret"]).now()
    proven = await http.post("/api/auth/totp/verify", json={"code": code})
    return code, proven.raise_for_status().json()["recovery_codes"]


# --- the ways to cheat ------------------------------------------------------------------------------------------------

Cheat = Callable[[Place], Awaitable[httpx.Response]]
CHEATS: dict[str, tuple[int, Cheat]] = {}
"""By the reason in the audit: the status, and what is tried."""


def refused_as(reason: str, status: int = 401) -> Callable[[Cheat], Cheat]:
    """Enter a way to cheat into the table."""

    def enter(cheat: Cheat) -> Cheat:
        CHEATS[reason] = status, cheat
        return cheat

    return enter


@refused_as("password_wrong")
async def wrong_password(place: Place) -> httpx.Response:
    async with place.browser() as http:
        name, _ = await place.member(http)
        return await login(http, name, "not the right words")


@refused_as("totp_replayed")
async def a_code_again(place: Place) -> httpx.Response:
    async with place.browser() as http:
        name, _ = await place.member(http)
        code, _ = await factor(http)
        return await login(http, name, code=code)


@refused_as("recovery_code_wrong")
async def a_recovery_code_again(place: Place) -> httpx.Response:
    async with place.browser() as http:
        name, _ = await place.member(http)
        _, (first, *_) = await factor(http)
        assert (await login(http, name, code=first)).status_code == 200
        return await login(http, name, code=first)


@refused_as("too_many_attempts", 429)
async def guessing(place: Place) -> httpx.Response:
    async with place.browser() as http:
        answers = await asyncio.gather(*(login(http, "nobody at all", "a guess of some words") for _ in range(20)))
        return max(answers, key=lambda answer: answer.status_code)


@refused_as("link_spent")
async def a_link_again(place: Place) -> httpx.Response:
    link = await place.link()
    async with place.browser() as http:
        assert (await accept(http, link, "first of two")).status_code == 200
        return await accept(http, link, "second of two")


@refused_as("token_in_address")
async def a_token_in_the_address(place: Place) -> httpx.Response:
    async with place.browser() as http:
        return await http.get("/api/jobs", params={"token": place.expiring})


@refused_as("no_token")
async def a_secure_cookie_over_plain_http(place: Place) -> httpx.Response:
    async with place.browser(**{"X-Forwarded-Proto": "https"}) as secure:
        await place.member(secure)
        cookie = next(text for text in secure.cookies if text == f"__Host-{COOKIE}")
        shown = f"{cookie}={secure.cookies[cookie]}"
        assert (await secure.get("/api/jobs", headers={"Cookie": shown})).status_code == 200
    async with place.browser(Cookie=shown) as plain:
        return await plain.get("/api/jobs")


@refused_as("other_origin", 403)
async def a_change_from_another_site(place: Place) -> httpx.Response:
    async with place.browser() as http:
        await place.member(http)
        return await http.post("/api/tokens", json={"name": "x", "rights": ["read"]}, headers={"Sec-Fetch-Site": "cross-site"})


@refused_as("session_unknown")
async def a_session_of_the_attackers_choice(place: Place) -> httpx.Response:
    chosen, link = f"{COOKIE}=chosen-by-the-attacker", await place.link()
    async with place.browser(Cookie=chosen) as victim:
        answer = await accept(victim, link, "a victim")
        assert answer.cookies[COOKIE] != "chosen-by-the-attacker"
    async with place.browser(Cookie=chosen) as thief:
        return await thief.get("/api/jobs")


@refused_as("session_ended")
async def a_lower_role_in_mid_session(place: Place) -> httpx.Response:
    async with place.browser() as http:
        _, user_id = await place.member(http)
        assert (await http.get("/api/jobs")).status_code == 200
        (await place.admin.patch(f"/api/users/{user_id}", json={"role": "viewer"})).raise_for_status()
        return await http.get("/api/jobs")


@refused_as("lacks_upload", 403)
async def a_token_of_a_lowered_person(place: Place) -> httpx.Response:
    async with place.browser() as http:
        _, user_id = await place.member(http)
        made = (await http.post("/api/tokens", json={"name": "script", "rights": ["upload"]})).json()
    async with place.browser(Authorization=f"Bearer {made['token']}") as script:
        wanted = {"filename": "a.mp4", "size_bytes": 10}
        (await script.post("/api/uploads", json=wanted)).raise_for_status()
        (await place.admin.patch(f"/api/users/{user_id}", json={"role": "viewer"})).raise_for_status()
        return await script.post("/api/uploads", json=wanted)


@refused_as("token_ended")
async def a_revoked_token(place: Place) -> httpx.Response:
    made = (await place.admin.post("/api/tokens", json={"name": "script", "rights": ["read"]})).json()
    async with place.browser(Authorization=f"Bearer {made['token']}") as script:
        assert (await script.get("/api/jobs")).status_code == 200
        (await place.admin.post(f"/api/tokens/{made['token_id']}/revoke")).raise_for_status()
        return await script.get("/api/jobs")


@refused_as("wrong_token")
async def a_guessed_token(place: Place) -> httpx.Response:
    async with place.browser(Authorization="Bearer kt_guessed") as script:
        return await script.get("/api/jobs")


@refused_as("openid_challenge")
async def a_forged_state(place: Place) -> httpx.Response:
    async with place.browser() as http:
        return await place.by_provider(http, state="forged")


@refused_as("openid_issuer")
async def an_answer_of_another_issuer(place: Place) -> httpx.Response:
    async with place.browser() as http:
        return await place.by_provider(http, iss="https://elsewhere.example")


def unsigned(claims: Claims, key: RSAKey) -> str:
    parts = ({"alg": "none", "kid": key.kid}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@refused_as("openid_signature")
async def an_unsigned_token(place: Place) -> httpx.Response:
    place.provider.encode = unsigned
    try:
        async with place.browser() as http:
            return await place.by_provider(http)
    finally:
        place.provider.encode = None


def forged(**claims: Any) -> Cheat:
    """Return a login with an ID token of other claims."""

    async def cheat(place: Place) -> httpx.Response:
        place.provider.forge = lambda honest: honest | claims
        try:
            async with place.browser() as http:
                return await place.by_provider(http)
        finally:
            place.provider.forge = dict

    return cheat


refused_as("openid_nonce")(forged(nonce="another"))
refused_as("openid_iss")(forged(iss="https://elsewhere.example"))
refused_as("openid_aud")(forged(aud=["another"]))
refused_as("openid_exp")(forged(exp=1))


@refused_as("token_expired")
async def an_expired_token(place: Place) -> httpx.Response:
    async with place.browser(Authorization=f"Bearer {place.expiring}") as script:
        return await eventually(lambda: script.get("/api/jobs"), lambda answer: answer.status_code != 200, timeout_s=120)


@pytest.mark.parametrize("reason", CHEATS)
async def test_a_cheat_is_refused_and_in_the_audit(place: Place, reason: str) -> None:
    status, cheat = CHEATS[reason]
    answer = await cheat(place)
    assert answer.status_code == status, answer.text

    async def audited() -> list[Any]:
        found = await place.admin.get("/api/audit", params={"action": "access.refused", "limit": 1000})
        items = found.raise_for_status().json()["items"]
        return [item for item in items if item["reason"].startswith(f"{status} {reason}, ")]

    (*_, entry) = await eventually(audited)
    assert entry["refused"] and (entry["object_kind"], entry["object_id"]) == ("app", "admin")
    assert entry["client"] and "198.51.100." not in json.dumps(entry)
    assert entry["actor"].startswith("token:") if reason == "lacks_upload" else entry["actor"] == "system:admin"


async def test_the_honest_way_works(place: Place) -> None:
    async with place.browser() as http:
        answer = await place.by_provider(http)
        assert answer.status_code == 303, answer.text
        assert (await http.get("/api/auth/check")).json()["role"] == "operator"


# --- the audit as CSV -------------------------------------------------------------------------------------------------


async def test_another_parser_reads_every_entry_of_the_csv_and_no_formula(place: Place) -> None:
    async with place.browser() as http:
        _, user_id = await place.member(http)
    reason = f'{FORMULA}, "quoted", ünïcode'
    (await place.admin.patch(f"/api/users/{user_id}", json={"disabled": True, "reason": reason})).raise_for_status()
    query: dict[str, Any] = {"object": user_id, "limit": 1000}

    async def shown() -> list[Any]:
        return list((await place.admin.get("/api/audit", params=query)).raise_for_status().json()["items"])

    items = await eventually(shown, lambda found: any(item["action"] == "person.disabled" for item in found))
    answer = await place.admin.get("/api/audit", params=query | {"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    options = csv.ParseOptions(newlines_in_values=True)
    texts = csv.ConvertOptions(column_types=dict.fromkeys(answer.text.split("\r\n")[0].split(","), "string"))
    rows = csv.read_csv(io.BytesIO(answer.content), parse_options=options, convert_options=texts).to_pylist()
    assert {*rows[0]} == {*items[0]} - {"shown"}
    for row, item in zip(rows, items, strict=True):
        assert (row["id"], row["action"], row["object_id"]) == (item["id"], item["action"], item["object_id"])
        assert (int(row["offset"]), row["actor"]) == (item["offset"], item["actor"])
        assert json.loads(row["values"]) == item["values"] and json.loads(row["before"]) == item["before"]
        assert row["refused"] == str(item["refused"]).lower()
    (disabled,) = [row for row in rows if row["action"] == "person.disabled"]
    assert disabled["reason"] == f"'{reason}"
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
