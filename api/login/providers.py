"""Logins by OpenID Connect: to a provider and back, and the keys that its answers are signed with."""

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from joserfc.jwk import KeySet

from api.login.challenges import Challenges, Store
from events.clock import Context
from events.errors import NotFound, Unproven
from producers.openid import (
    Flow,
    Metadata,
    Person,
    ProviderUnavailable,
    UnknownKey,
    authorization_url,
    check_issuer,
    claims_of,
    discovered,
    discovery_url,
    keys_in,
    logged_out,
    logout_url,
    path_within,
    person_of,
    token_request,
)
from producers.providers import Provider

T = TypeVar("T")
KNOWN_FOR = timedelta(hours=1)
"""A discovery document and keys are fetched again after this time."""
ROTATED_EVERY = timedelta(seconds=10)
"""Unknown keys make the keys be fetched again at most this often."""


class Ask(Protocol):
    """Asks a provider; `infra.runtime.people.asking.Asking` implements it.

    Returns the status and the JSON value of the answer. Raises ProviderUnavailable without one.
    """

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, Any]: ...


class Arrival(NamedTuple):
    """A person who came back from a provider, the path to go to, and the token that names this login to the provider later."""

    person: Person
    to: str
    id_token: str


@dataclass
class _Known:
    """A provider's metadata and keys, and the time at which it gave them."""

    metadata: Metadata
    keys: KeySet = field(repr=False)
    at: datetime


class Providers:
    """The providers of an installation. `home` is the app's own URL, to which browsers come back."""

    def __init__(self, providers: Sequence[Provider], store: Store, context: Callable[[], Context], ask: Ask, home: str) -> None:
        self._providers = {provider.id: provider for provider in providers}
        self._flows = Challenges(store, context, "openid")
        self._context = context
        self._ask = ask
        self._home = home.rstrip("/")
        self._known: dict[str, _Known] = {}

    def listing(self) -> list[tuple[str, str]]:
        """Return the id and the name of each provider, for buttons."""
        return [(provider.id, provider.name) for provider in self._providers.values()]

    async def start(self, provider_id: str, browser: str, to: str) -> str:
        """Return where the browser goes to log in; it comes back to the path `to`. Raises NotFound, ProviderUnavailable."""
        provider = self._provider(provider_id)
        known = await self._knowledge(provider)
        flow = Flow(provider=provider.id, nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48), to=path_within(to))
        state = await self._flows.make(browser, flow.model_dump_json())
        return authorization_url(provider, known.metadata, flow, _text(state), self._callback(provider))

    async def finish(
        self, provider_id: str, browser: str, *, state: str, code: str | None, error: str | None, issuer: str | None
    ) -> Arrival:
        """Return the person who came back. Raises Unproven, ProviderUnavailable."""
        provider = self._provider(provider_id)
        flow = Flow.model_validate_json(await self._flows.take(_bytes(state), browser))
        if flow.provider != provider.id:
            raise Unproven("openid_provider", "this answer is another provider's; start the login again")
        known = await self._knowledge(provider)
        check_issuer(provider, known.metadata, issuer)
        if error or not code:
            raise Unproven("openid_declined", f"{provider.name} did not log you in; start again, or log in with your password")
        claims, id_token = await self._claims(provider, known, flow, code)
        return Arrival(person_of(provider, claims), flow.to, id_token)

    async def logged_out(self, provider_id: str, token: str) -> tuple[str, str]:
        """Return issuer and subject of the person whom a provider reports as logged out. Raises Unproven."""
        provider = self._provider(provider_id)
        now = self._context().now
        subject = await self._with_keys(provider, lambda keys: logged_out(provider, keys, token, now=now))
        return provider.issuer, subject

    async def logout_url(self, provider_id: str, id_token: str | None) -> str | None:
        """Return where the browser goes to log out of the provider, too; None when there is no such place."""
        provider = self._provider(provider_id)
        return logout_url(provider, (await self._knowledge(provider)).metadata, f"{self._home}/", id_token)

    def _provider(self, provider_id: str) -> Provider:
        if provider_id not in self._providers:
            raise NotFound("there is no such provider of logins")
        return self._providers[provider_id]

    def _callback(self, provider: Provider) -> str:
        return f"{self._home}/api/auth/openid/{provider.id}/callback"

    async def _claims(self, provider: Provider, known: _Known, flow: Flow, code: str) -> tuple[dict[str, Any], str]:
        """Exchange the code for an ID token; return it and its checked claims, with those of userinfo when it has no groups."""
        request = token_request(provider, known.metadata, flow, code, self._callback(provider))
        status, tokens = await self._ask("POST", *request)
        if status >= 500 or not isinstance(tokens, dict):
            raise ProviderUnavailable(f"{provider.name} does not answer as it should; log in with your password meanwhile")
        token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if status >= 400 or not isinstance(token, str):
            raise Unproven("openid_code", f"{provider.name} does not confirm this login; start it again")
        now = self._context().now
        claims = await self._with_keys(
            provider,
            lambda keys: claims_of(provider, keys, token, nonce=flow.nonce, access_token=access_token, now=now),
        )
        if provider.groups_claim not in claims and known.metadata.userinfo_endpoint and access_token:
            claims = await self._userinfo(provider, known.metadata.userinfo_endpoint, access_token, claims["sub"]) | claims
        return claims, token

    async def _userinfo(self, provider: Provider, url: str, access_token: str, subject: str) -> dict[str, Any]:
        status, claims = await self._ask("GET", url, {"Authorization": f"Bearer {access_token}"})
        if status >= 400 or not isinstance(claims, dict):
            raise ProviderUnavailable(f"{provider.name} does not describe you; log in with your password meanwhile")
        if claims.get("sub") != subject:
            raise Unproven("openid_userinfo", "the provider describes somebody else; start the login again")
        return claims

    async def _with_keys(self, provider: Provider, check: Callable[[KeySet], T]) -> T:
        """Check with the known keys; with fresh ones when the provider has changed them."""
        known = await self._knowledge(provider)
        try:
            return check(known.keys)
        except UnknownKey:
            if self._context().now - known.at < ROTATED_EVERY:
                raise
            del self._known[provider.id]
            return check((await self._knowledge(provider)).keys)

    async def _knowledge(self, provider: Provider) -> _Known:
        now = self._context().now
        known = self._known.get(provider.id)
        if known is None or now - known.at > KNOWN_FOR:
            metadata = discovered(provider, await self._document(provider, discovery_url(provider)))
            known = _Known(metadata, keys_in(provider, await self._document(provider, metadata.jwks_uri)), now)
            self._known[provider.id] = known
        return known

    async def _document(self, provider: Provider, url: str) -> object:
        status, document = await self._ask("GET", url)
        if status != 200:
            raise ProviderUnavailable(f"{provider.name} does not answer as it should; log in with your password meanwhile")
        return document


def _text(state: bytes) -> str:
    return base64.urlsafe_b64encode(state).decode().rstrip("=")


def _bytes(state: str) -> bytes:
    try:
        return base64.b64decode(state + "=" * (-len(state) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
