"""OpenID Connect without a socket or a clock: providers, requests to them, and the check of their answers.

The code flow with PKCE (RFC 7636, S256). The account of a person is found by issuer and subject, never by an e-mail address,
which a provider may give to somebody else later.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from pydantic import BaseModel, ValidationError

from events.errors import KinologError, Unproven
from events.people import Role
from events.text import clean_line
from producers.providers import EVERYBODY, ROLES, Provider

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a private key. `none` is missing, and so is HS256, which would accept the public key as a secret."""
LEEWAY_S = 60
"""The clocks of two machines may differ by this."""
SUBJECT_MAX = 255
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class ProviderUnavailable(KinologError):
    """The provider of this login does not answer as it should; log in with your password meanwhile."""

    status = 503


class Metadata(BaseModel, frozen=True):
    """The fields of a provider's discovery document that are used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Flow(BaseModel, frozen=True):
    """A login in progress: secrets that only the browser's row in the database has, and where to go afterwards."""

    provider: str
    nonce: str
    verifier: str
    to: str


class Person(BaseModel, frozen=True):
    """A person as a provider describes them."""

    provider: str
    issuer: str
    subject: str
    name: str | None = None
    role: Role


def discovery_url(provider: Provider) -> str:
    """Return where the provider's discovery document is."""
    return provider.issuer.rstrip("/") + "/.well-known/openid-configuration"


def discovered(provider: Provider, document: object) -> Metadata:
    """Return the checked discovery document. Raises ProviderUnavailable when it is not this issuer's."""
    try:
        metadata = Metadata.model_validate(document)
    except ValidationError as error:
        raise ProviderUnavailable(f"the discovery document of {provider.name} is malformed") from error
    if metadata.issuer != provider.issuer:
        raise ProviderUnavailable(f"the discovery document of {provider.name} is another issuer's")
    for url in (
        metadata.authorization_endpoint,
        metadata.token_endpoint,
        metadata.jwks_uri,
        metadata.userinfo_endpoint,
        metadata.end_session_endpoint,
    ):
        if url is not None and not may_ask(provider, url):
            raise ProviderUnavailable(f"{provider.name} has endpoints on a host that the settings do not name")
    return metadata


def may_ask(provider: Provider, url: str) -> bool:
    """Return whether a URL is on the issuer's origin, or by TLS on a host that the settings name for it."""
    asked, issuer = urlsplit(url), urlsplit(provider.issuer)
    if (asked.scheme, asked.netloc) == (issuer.scheme, issuer.netloc):
        return True
    return asked.scheme == "https" and asked.hostname in provider.hosts and asked.port in (None, 443) and not asked.username


def authorization_url(provider: Provider, metadata: Metadata, flow: Flow, state: str, callback: str) -> str:
    """Return where the browser goes to log in."""
    client = OAuth2Client(None, provider.client_id, scope=list(provider.scopes), code_challenge_method="S256")
    url, _ = client.create_authorization_url(
        metadata.authorization_endpoint, state, flow.verifier, redirect_uri=callback, nonce=flow.nonce
    )
    return str(url)


def check_issuer(provider: Provider, metadata: Metadata, presented: str | None) -> None:
    """Raise Unproven when the answer names another issuer, or none although the provider announces it (RFC 9207)."""
    if presented is None and not metadata.authorization_response_iss_parameter_supported:
        return
    if presented != provider.issuer:
        raise Unproven("openid_issuer", "this answer is another provider's; start the login again")


def token_request(provider: Provider, metadata: Metadata, flow: Flow, code: str, callback: str) -> tuple[str, dict[str, str], str]:
    """Return URL, headers and form of the request that exchanges the code for tokens."""
    secret = provider.client_secret.get_secret_value()
    methods = metadata.token_endpoint_auth_methods_supported
    method = "none" if not secret else "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
    basic = method == "client_secret_basic"  # RFC 6749 2.3.1 wants both encoded
    id_, secret = ((quote(text, safe="") if basic else text) for text in (provider.client_id, secret))
    client = ClientAuth(id_, secret, method)
    body = prepare_token_request("authorization_code", code=code, redirect_uri=callback, code_verifier=flow.verifier)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    url, headers, body = client.prepare("POST", metadata.token_endpoint, headers, body)
    return url, headers, body


def keys_in(provider: Provider, document: object) -> KeySet:
    """Return the provider's public keys; of kinds that nobody here knows, none. Raises ProviderUnavailable."""
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ProviderUnavailable(f"the keys of {provider.name} are malformed")
    known = [key for key in keys if isinstance(key, dict) and key.get("kty") in ("RSA", "EC") and key.get("use", "sig") == "sig"]
    try:
        return KeySet.import_key_set({"keys": known})
    except (JoseError, ValueError) as error:
        raise ProviderUnavailable(f"the keys of {provider.name} are malformed") from error


class UnknownKey(Unproven):
    """A token is signed by a key that the provider did not have when it was asked last."""

    def __init__(self) -> None:
        super().__init__("openid_key", "the provider's answer is signed by a key that it does not publish")


def claims_of(
    provider: Provider, keys: KeySet, token: str, *, nonce: str, access_token: str | None, now: datetime
) -> dict[str, Any]:
    """Return the claims of an ID token, after every check of OpenID Connect Core 3.1.3.7. Raises Unproven or UnknownKey."""
    return dict(_checked(provider, _signed(keys, token), now, {"nonce": nonce, "access_token": access_token}))


def logged_out(provider: Provider, keys: KeySet, token: str, *, now: datetime) -> str:
    """Return the subject of a back-channel logout token. Raises Unproven or UnknownKey."""
    signed = _signed(keys, token)
    claims = _checked(provider, signed, now, {})
    if "nonce" in claims or not isinstance(events := claims.get("events"), dict) or LOGOUT_EVENT not in events:
        raise Unproven("openid_logout", "this is no logout token")
    return str(claims["sub"])


def person_of(provider: Provider, claims: Mapping[str, Any]) -> Person:
    """Return the person of checked claims, with the strongest role of their groups. Raises Unproven without one."""
    groups = claims.get(provider.groups_claim, ())
    names = (
        {groups}
        if isinstance(groups, str)
        else {each for each in groups if isinstance(each, str)}
        if isinstance(groups, list)
        else set()
    )
    roles = [role for group, role in provider.roles.items() if group == EVERYBODY or group in names]
    if not roles:
        raise Unproven("openid_no_group", f"none of your groups at {provider.name} has a role here; ask an administrator")
    name = claims.get("preferred_username") or claims.get("name")
    return Person(
        provider=provider.id,
        issuer=provider.issuer,
        subject=claims["sub"],
        name=clean_line(name, SUBJECT_MAX) if isinstance(name, str) else None,
        role=max(roles, key=ROLES.index),
    )


def logout_url(provider: Provider, metadata: Metadata, to: str, id_token: str | None) -> str | None:
    """Return where the browser goes to log out of the provider, too; None when the provider has no such place.

    Without the login's ID token, a provider asks the person whether to log them out (RP-Initiated Logout 1.0, section 2).
    """
    if metadata.end_session_endpoint is None:
        return None
    query = [("client_id", provider.client_id), ("post_logout_redirect_uri", to)]
    query += [("id_token_hint", id_token)] if id_token else []
    return str(add_params_to_uri(metadata.end_session_endpoint, query))


def path_within(to: str) -> str:
    """Return a path of this site; anything else, which would lead a browser away, becomes `/`."""
    url = urlsplit(to)
    inside = to.startswith("/") and not to.startswith(("//", "/\\")) and not url.scheme and not url.netloc
    return to if inside and to.isprintable() and "\\" not in to else "/"


def _signed(keys: KeySet, token: str) -> jwt.Token:
    try:
        return jwt.decode(token, keys, algorithms=ALGORITHMS)
    except InvalidKeyIdError as error:
        raise UnknownKey from error
    except (JoseError, ValueError) as error:
        raise Unproven("openid_signature", "the provider's answer is not signed as it should be; start the login again") from error


def _checked(provider: Provider, signed: jwt.Token, now: datetime, params: dict[str, Any]) -> CodeIDToken:
    claims = CodeIDToken(
        signed.claims,
        signed.header,
        options={
            "iss": {"essential": True, "value": provider.issuer},
            "aud": {"essential": True, "value": provider.client_id},
        },
        params={"client_id": provider.client_id, **params},
    )
    try:
        claims.validate(int(now.timestamp()), LEEWAY_S)
    except (JoseError, ValueError, TypeError) as error:
        which = getattr(error, "claim", None) or getattr(error, "error", type(error).__name__)
        raise Unproven(f"openid_{which}", "the provider's answer is not for this login; start it again") from error
    if not isinstance(subject := claims["sub"], str) or not 0 < len(subject) <= SUBJECT_MAX:
        raise Unproven("openid_sub", "the provider's answer names nobody")
    return claims
