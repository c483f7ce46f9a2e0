"""Logins at a provider on this machine, over HTTP: the honest way, and each way to cheat."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from api.login.providers import Arrival, Providers
from events.clock import Context
from events.errors import NotFound, Unproven
from infra.runtime.clock import new_id
from infra.runtime.people.asking import Asking
from producers.openid import Person, ProviderUnavailable
from producers.providers import Provider as Configured
from tests.support.engine import free_ports
from tests.support.factors import MemoryFactors
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Claims, Provider, new_key, running_provider

HOME = "http://localhost:9001/"
BROWSER = "the cookie of a browser"


@pytest.fixture
def provider() -> Iterator[Provider]:
    (port,) = free_ports(1)
    with running_provider(port) as running:
        yield running


class Client:
    """A browser that logs in through the provider, and the app's side of it. `later` advances the app's clock."""

    def __init__(self, provider: Provider, ask: Asking, **more: Any) -> None:
        self.later = timedelta()
        configured = {"id": "home", "name": "Home", "issuer": provider.issuer, "client_id": CLIENT_ID}
        roles = {"film": "operator", "guests": "viewer"}
        self.configured = Configured.model_validate(configured | {"client_secret": CLIENT_SECRET, "roles": roles} | more)
        self.other = self.configured.model_copy(update={"id": "work"})
        self.providers = Providers((self.configured, self.other), MemoryFactors(), self.context, ask, HOME)

    def context(self) -> Context:
        return Context(datetime.now(UTC) + self.later, new_id, "tests")

    async def at_the_provider(self, to: str = "/videos") -> dict[str, str]:
        """Go to the provider and log in; return the query with which the browser comes back."""
        url = await self.providers.start("home", BROWSER, to)
        async with httpx.AsyncClient() as http:
            answer = await http.get(url)
        assert answer.status_code == 302, answer.text
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}

    async def back(self, query: dict[str, str], *, provider: str = "home", browser: str = BROWSER) -> Arrival:
        """Come back with a query."""
        answer = {"code": query.get("code"), "error": query.get("error"), "issuer": query.get("iss")}
        return await self.providers.finish(provider, browser, state=query["state"], **answer)

    async def login(self, to: str = "/videos") -> Arrival:
        return await self.back(await self.at_the_provider(to))


@pytest.fixture
async def ask() -> AsyncIterator[Asking]:
    asking = Asking()
    yield asking
    await asking.close()


@pytest.fixture
def client(provider: Provider, ask: Asking) -> Client:
    return Client(provider, ask)


async def test_a_person_logs_in_and_has_the_role_of_their_group(client: Client, provider: Provider) -> None:
    person, to, _ = await client.login("/videos?page=2")
    assert person == Person(provider="home", issuer=provider.issuer, subject="person-1", name="anna", role="operator")
    assert to == "/videos?page=2"


async def test_the_role_follows_the_groups_at_every_login(client: Client, provider: Provider) -> None:
    for groups, role in ((["guests", "film"], "operator"), (["guests"], "viewer"), ("guests", "viewer")):
        provider.claims["groups"] = groups
        assert (await client.login())[0].role == role


@pytest.mark.parametrize("groups", [[], ["elsewhere"], None, 3, [["film"]]])
async def test_a_person_without_a_known_group_is_refused(client: Client, provider: Provider, groups: object) -> None:
    provider.claims["groups"] = groups
    with pytest.raises(Unproven, match="none of your groups at Home has a role here") as refused:
        await client.login()
    assert refused.value.reason == "openid_no_group"


async def test_groups_may_come_from_the_userinfo_endpoint(client: Client, provider: Provider) -> None:
    del provider.claims["groups"]
    provider.userinfo = {"sub": "person-1", "groups": ["guests"]}
    assert (await client.login())[0].role == "viewer"
    provider.userinfo = {"sub": "person-2", "groups": ["guests"]}
    with pytest.raises(Unproven, match="describes somebody else"):
        await client.login()


async def test_a_provider_with_an_issuer_in_its_answers_is_held_to_it(client: Client, provider: Provider) -> None:
    provider.announced["authorization_response_iss_parameter_supported"] = True
    query = await client.at_the_provider()
    assert query["iss"] == provider.issuer
    assert (await client.back(query))[0].subject == "person-1"
    for forged in ({"iss": "https://elsewhere"}, {"iss": ""}, {}):
        query = await client.at_the_provider()
        del query["iss"]
        with pytest.raises(Unproven) as refused:
            await client.back(query | forged)
        assert refused.value.reason == "openid_issuer"


async def test_an_unannounced_issuer_must_be_right_too(client: Client) -> None:
    with pytest.raises(Unproven) as refused:
        await client.back(await client.at_the_provider() | {"iss": "https://elsewhere"})
    assert refused.value.reason == "openid_issuer"


async def test_a_state_is_good_once_in_its_browser_for_its_provider_and_in_time(client: Client) -> None:
    query = await client.at_the_provider()
    refusals: list[str] = []

    async def tried(query: dict[str, str], **more: str) -> None:
        with pytest.raises(Unproven) as refused:
            await client.back(query, **more)
        refusals.append(refused.value.reason)

    await tried(query, browser="another browser")
    await tried(query | {"state": "forged"})
    await tried(query | {"state": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()})
    await tried(query | {"state": "ä"})
    await client.back(query)
    await tried(query)
    late = await client.at_the_provider()
    client.later = timedelta(minutes=6)
    await tried(late)
    client.later = timedelta()
    await tried(await client.at_the_provider(), provider="work")
    assert refusals == ["openid_challenge"] * 6 + ["openid_provider"]


async def test_a_code_is_good_once_and_only_with_its_verifier(client: Client, provider: Provider) -> None:
    stolen = await client.at_the_provider()
    mine = await client.at_the_provider()
    with pytest.raises(Unproven) as refused:
        await client.back(mine | {"code": stolen["code"]})
    assert refused.value.reason == "openid_code"
    assert "/token" in provider.asked


async def test_a_person_who_declines_is_not_logged_in(client: Client) -> None:
    query = await client.at_the_provider()
    with pytest.raises(Unproven) as refused:
        await client.back({"state": query["state"], "error": "access_denied"})
    assert refused.value.reason == "openid_declined"


FORGED: dict[str, Claims] = {
    "openid_nonce": {"nonce": "another"},
    "openid_iss": {"iss": "https://elsewhere"},
    "openid_aud": {"aud": ["another"]},
    "openid_azp": {"aud": [CLIENT_ID, "another"]},
    "openid_exp": {"exp": int(datetime.now(UTC).timestamp()) - 120},
    "openid_iat": {"iat": int(datetime.now(UTC).timestamp()) + 3600 * 24},
    "openid_nbf": {"nbf": int(datetime.now(UTC).timestamp()) + 3600 * 24},
    "openid_sub": {"sub": ""},
}


@pytest.mark.parametrize("reason", FORGED)
async def test_a_token_with_a_forged_claim_is_refused(client: Client, provider: Provider, reason: str) -> None:
    provider.forge = lambda claims: claims | FORGED[reason]
    with pytest.raises(Unproven) as refused:
        await client.login()
    assert refused.value.reason == reason


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "nonce"])
async def test_a_token_without_a_claim_is_refused(client: Client, provider: Provider, name: str) -> None:
    provider.forge = lambda claims: {key: value for key, value in claims.items() if key != name}
    with pytest.raises(Unproven) as refused:
        await client.login()
    assert refused.value.reason == f"openid_{name}"


async def test_clocks_may_differ_by_a_minute(client: Client, provider: Provider) -> None:
    now = int(datetime.now(UTC).timestamp())
    provider.forge = lambda claims: claims | {"iat": now + 30, "nbf": now + 30, "exp": now - 20}
    assert (await client.login())[0].subject == "person-1"


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(claims: Claims, key: RSAKey) -> str:
    return f"{_part({'alg': 'none', 'kid': key.kid})}.{_part(claims)}."


def public_key_as_secret(claims: Claims, key: RSAKey) -> str:
    signed = f"{_part({'alg': 'HS256', 'kid': key.kid})}.{_part(claims)}"
    mac = hmac.new(key.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def another_key(claims: Claims, key: RSAKey) -> str:
    return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, new_key())


def key_in_the_token(claims: Claims, key: RSAKey) -> str:
    own = new_key()
    return jwt.encode({"alg": "RS256", "jwk": own.as_dict(private=False)}, claims, own)


@pytest.mark.parametrize("encode", [unsigned, public_key_as_secret, another_key, key_in_the_token, lambda _claims, _key: "x.y"])
async def test_a_token_with_a_forged_signature_is_refused(client: Client, provider: Provider, encode: Any) -> None:
    provider.encode = encode
    with pytest.raises(Unproven) as refused:
        await client.login()
    assert refused.value.reason == "openid_signature"


async def test_rotated_keys_are_fetched_and_unknown_ones_do_not_flood_the_provider(client: Client, provider: Provider) -> None:
    await client.login()
    assert provider.asked.count("/jwks") == 1
    await client.login()
    assert provider.asked.count("/jwks") == 1
    provider.key = new_key()
    with pytest.raises(Unproven, match="key that it does not publish"):
        await client.login()  # so soon after they were fetched
    client.later = timedelta(seconds=11)
    assert (await client.login())[0].subject == "person-1"
    assert provider.asked.count("/jwks") == 2


async def test_a_provider_that_is_down_is_named_and_no_login(client: Client, provider: Provider) -> None:
    provider.dead = True
    with pytest.raises(ProviderUnavailable, match="log in with your password meanwhile"):
        await client.providers.start("home", BROWSER, "/")
    provider.dead = False
    query = await client.at_the_provider()
    provider.dead = True
    with pytest.raises(ProviderUnavailable, match="log in with your password meanwhile"):
        await client.back(query)


async def test_nobody_listens_there(provider: Provider, ask: Asking) -> None:
    (port,) = free_ports(1)
    client = Client(replace(provider, issuer=f"http://localhost:{port}"), ask)
    with pytest.raises(ProviderUnavailable):
        await client.providers.start("home", BROWSER, "/")


@pytest.mark.parametrize(
    "announced",
    [
        {"issuer": "https://elsewhere"},
        {"token_endpoint": "http://127.0.0.1:9001/api/videos"},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"userinfo_endpoint": "https://elsewhere/userinfo"},
        {"token_endpoint": None},
    ],
)
async def test_endpoints_are_the_issuers_own(client: Client, provider: Provider, announced: Claims) -> None:
    provider.announced = announced
    with pytest.raises(ProviderUnavailable):
        await client.providers.start("home", BROWSER, "/")
    assert provider.asked == ["/.well-known/openid-configuration"]


async def test_a_provider_that_nobody_configured_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.providers.start("elsewhere", BROWSER, "/")


@pytest.mark.parametrize("to", ["https://elsewhere/", "//elsewhere", "/\\elsewhere", "videos", "javascript:x", "/a\nb", ""])
async def test_a_login_leads_to_no_other_site(client: Client, to: str) -> None:
    assert (await client.login(to))[1] == "/"


async def test_a_provider_reports_a_logout(client: Client, provider: Provider) -> None:
    assert await client.providers.logged_out("home", provider.logout_token()) == (provider.issuer, "person-1")


@pytest.mark.parametrize(
    "forged",
    [{"nonce": "n"}, {"events": {}}, {"events": "x"}, {"aud": "another"}, {"iss": "https://elsewhere"}, {"sub": None}, {"exp": 1}],
    ids=str,
)
async def test_a_forged_logout_is_refused(client: Client, provider: Provider, forged: Claims) -> None:
    with pytest.raises(Unproven):
        await client.providers.logged_out("home", provider.logout_token(**forged))


async def test_a_person_is_led_to_the_providers_logout(client: Client, provider: Provider) -> None:
    url = await client.providers.logout_url("home", "a.b.c")
    plain = f"{provider.issuer}/logout?client_id=kinolog&post_logout_redirect_uri=http%3A%2F%2Flocalhost%3A9001%2F"
    assert url == f"{plain}&id_token_hint=a.b.c"
    assert await client.providers.logout_url("home", None) == plain
    provider.announced["end_session_endpoint"] = None
    client.later = timedelta(hours=2)
    assert await client.providers.logout_url("home", None) is None
