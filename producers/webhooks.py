"""Webhooks as administrators define them: address, headers and secrets, which stay off the log, and the events about them."""

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field

from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import InvalidRequest
from events.text import Line
from events.webhooks import Format

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""Limits of Standard Webhooks."""
OLD_SECRETS_MAX = 4
HEADERS_MAX = 20
HEADER_MAX = 1000
FORBIDDEN_HEADERS = frozenset(
    (
        *("connection", "content-encoding", "content-length", "content-type", "cookie", "date", "expect", "forwarded", "host"),
        *("keep-alive", "origin", "proxy-authorization", "proxy-connection", "referer", "te", "trailer", "transfer-encoding"),
        *("upgrade", "user-agent", "via", "x-real-ip", "accept-encoding"),
    )
)
FORBIDDEN_PREFIXES = ("webhook-", "x-vlog-", "x-forwarded-", "proxy-", "sec-")
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class Secret(BaseModel, frozen=True):
    """A secret; an old one signs as well, beside the new one, `until` a time."""

    text: str
    until: AwareDatetime | None = None


class Kept(BaseModel, frozen=True):
    """The part of an endpoint that is not on the log. The first secret is the present one."""

    url: str
    headers: Mapping[str, Annotated[Line, Field(max_length=HEADER_MAX)]] = {}
    secrets: tuple[Secret, ...] = Field(min_length=1)

    def fingerprint(self) -> str:
        """Return the name of this version: a digest that includes a random secret, so that nobody can guess from it."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:32]

    def valid(self, now: datetime) -> list[str]:
        """Return the secrets that sign now."""
        return [secret.text for secret in self.secrets if secret.until is None or now < secret.until]


def new_secret(format_: Format) -> str:
    """Return a random secret of 32 bytes."""
    if format_ == "vlog":
        return secrets.token_urlsafe(SECRET_BYTES)
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def checked_secret(text: str, format_: Format) -> str:
    """Return a secret that a person gives. Raises InvalidRequest for a short one, and one of another form."""
    if format_ == "vlog":
        if not 32 <= len(text) <= 64:
            raise InvalidRequest("the secret must have 32 to 64 characters")
        return text
    try:
        size = len(base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)) if text.startswith(SECRET_PREFIX) else 0
    except binascii.Error:
        size = 0
    if not SECRET_BYTES_MIN <= size <= SECRET_BYTES_MAX:
        raise InvalidRequest("the secret must be whsec_ and 24 to 64 bytes in base64")
    return text


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers in lower case. Raises InvalidRequest for one that the message itself has, or that would change its way."""
    found = {}
    for name, value in headers.items():
        plain = name.casefold()
        if not plain or len(plain) > 100 or not set(plain) <= _TOKEN:
            raise InvalidRequest(f"{name[:100]!r} is not the name of a header")
        if plain in FORBIDDEN_HEADERS or plain.startswith(FORBIDDEN_PREFIXES):
            raise InvalidRequest(f"the header {plain} is not yours to set")
        if not value.isprintable() or not value.isascii() or len(value) > HEADER_MAX:
            raise InvalidRequest(f"the header {plain} must be one line of at most {HEADER_MAX} ASCII characters")
        found[plain] = value
    if len(found) > HEADERS_MAX:
        raise InvalidRequest(f"an endpoint has at most {HEADERS_MAX} headers")
    return found


def rotated(kept: Kept, text: str, now: datetime, overlap: timedelta) -> Kept:
    """Return the endpoint with a new secret; the one before signs as well for the time `overlap`."""
    old = [secret for secret in kept.secrets[1:] if secret.until is not None and now < secret.until]
    before = Secret(text=kept.secrets[0].text, until=now + overlap)
    return kept.model_copy(update={"secrets": (Secret(text=text), before, *old)[: 1 + OLD_SECRETS_MAX]})


def about_endpoint(context: Context, endpoint_id: str, events: Sequence[Event]) -> list[Envelope[Event]]:
    """Return events about an endpoint as envelopes."""
    made: list[Envelope[Event]] = []
    for event in events:
        id_ = context.new_id()
        made.append(Envelope(id_, context.source, endpoint_id, context.now, event, context.correlation_id or id_))
    return made
