"""Passkeys (WebAuthn): options for a browser, and the check of its answers. No socket, no clock.

A passkey proves possession and the person (`userVerification` is required), so it is a login of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    options_to_json_dict,
    parse_authentication_credential_json,
    parse_client_data_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from events.errors import Unproven

CEREMONY_MS = 5 * 60 * 1000
"""Time that a person has to touch a key."""
SITE_NAME = "Kinolog"
Credential = Mapping[str, Any]
"""A browser's `PublicKeyCredential.toJSON()`."""
MALFORMED = (WebAuthnException, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class Site:
    """The place that passkeys are bound to: the relying party's id, a host name, and the origins of its pages."""

    rp_id: str
    origins: tuple[str, ...]


@dataclass(frozen=True)
class Passkey:
    """A registered passkey. `sign_count` is 0 for ever with keys that do not count."""

    credential_id: bytes
    public_key: bytes
    sign_count: int


@dataclass(frozen=True)
class KeptPasskey:
    """A passkey with its owner and its id on the log."""

    user_id: str
    passkey_id: str
    passkey: Passkey


@dataclass(frozen=True)
class PasskeyRow:
    """A passkey as its owner sees it."""

    passkey_id: str
    name: str
    added_at: datetime
    used_at: datetime | None
    credential_id: bytes


def site_of(*urls: str) -> Site:
    """Return the site of the apps with these URLs: the first one's host, and the origins of those on the same host or below."""
    rp_id = urlsplit(urls[0]).hostname or ""
    hosts = {url: urlsplit(url).hostname or "" for url in urls}
    own = [url for url in urls if hosts[url] == rp_id or hosts[url].endswith(f".{rp_id}")]
    return Site(rp_id, tuple(dict.fromkeys(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in own)))


def registration_options(site: Site, user_id: str, name: str, challenge: bytes, known: Sequence[bytes]) -> dict[str, Any]:
    """Return the options of `navigator.credentials.create` for a person; `known` are the ids of their passkeys."""
    options = generate_registration_options(
        rp_id=site.rp_id,
        rp_name=SITE_NAME,
        user_name=name,
        user_id=user_id.encode(),
        challenge=challenge,
        timeout=CEREMONY_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=credential_id) for credential_id in known],
    )
    return options_to_json_dict(options)


def login_options(site: Site, challenge: bytes) -> dict[str, Any]:
    """Return the options of `navigator.credentials.get`; the browser offers the passkeys that it has for the site."""
    options = generate_authentication_options(
        rp_id=site.rp_id,
        challenge=challenge,
        timeout=CEREMONY_MS,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def challenge_in(credential: Credential) -> bytes:
    """Return the challenge that an answer claims to answer. Raises Unproven when the answer is malformed."""
    try:
        return parse_client_data_json(base64url_to_bytes(credential["response"]["clientDataJSON"])).challenge
    except MALFORMED as error:
        raise _malformed() from error


def credential_id_in(credential: Credential) -> bytes:
    """Return the id of the passkey that an answer names. Raises Unproven when the answer is malformed."""
    try:
        return base64url_to_bytes(credential["rawId"])
    except MALFORMED as error:
        raise _malformed() from error


def registered(site: Site, credential: Credential, challenge: bytes) -> Passkey:
    """Return the passkey that an answer registers. Raises Unproven."""
    try:
        verified = verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=list(site.origins),
            require_user_verification=True,
        )
    except MALFORMED as error:
        raise Unproven("passkey_refused", f"this passkey cannot be registered: {error}") from error
    return Passkey(verified.credential_id, verified.credential_public_key, verified.sign_count)


def authenticated(site: Site, credential: Credential, challenge: bytes, passkey: Passkey, user_id: str) -> int:
    """Return the new sign count of the passkey of a person that an answer proves. Raises Unproven."""
    try:
        handle = parse_authentication_credential_json(dict(credential)).response.user_handle
        verified = verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=list(site.origins),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except MALFORMED as error:
        raise Unproven("passkey_refused", "this passkey is not accepted; try again, or log in with your password") from error
    if handle is not None and handle != user_id.encode():
        raise Unproven("passkey_of_another", "this passkey belongs to another account")
    return verified.new_sign_count


def _malformed() -> Unproven:
    return Unproven("passkey_malformed", "send the browser's credential as it is: `credential.toJSON()`")
