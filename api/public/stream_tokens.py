"""Tokens of streams: `VIEWER.SESSION.DAY+SIGNATURE`, at most 64 characters, as long as CMCD lets a session's id be.

A player shows it with each sign of life, and as `sid` with each request of media; nothing is looked up.
"""

import hmac
from base64 import urlsafe_b64encode
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

from api.public.signatures import KeyOf

SIGNATURE_CHARS = 16
DAYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LIFE_DAYS = 7
"""Days after which a token is no longer good, and its key is forgotten."""


class Stream(NamedTuple):
    """A stream by the ids that its events have."""

    viewer_id: str
    session_id: str


def session_of(id_: str) -> str:
    """Return a new session's id: a UUID in 22 characters."""
    return urlsafe_b64encode(UUID(id_).bytes).decode().rstrip("=")


async def issue(key_of: KeyOf, stream: Stream, today: date) -> str:
    """Return a stream's token."""
    return f"{stream.viewer_id}.{stream.session_id}.{DAYS[today.toordinal() % 64]}{_signature(await key_of(today), stream)}"


async def read(key_of: KeyOf, token: str, today: date) -> Stream | None:
    """Return the stream of a token; None when it is not ours, or too old."""
    viewer_id, _, rest = token.partition(".")
    session_id, _, proof = rest.partition(".")
    age = (today.toordinal() - DAYS.find(proof[:1] or "?")) % 64
    if len(token) > 64 or proof[:1] not in DAYS or age > LIFE_DAYS or len(proof) != 1 + SIGNATURE_CHARS:
        return None
    stream = Stream(viewer_id, session_id)
    wanted = _signature(await key_of(today - timedelta(days=age)), stream)
    return stream if hmac.compare_digest(proof[1:].encode(), wanted.encode()) else None


def _signature(key: bytes, stream: Stream) -> str:
    digest = hmac.digest(key, f"{stream.viewer_id}.{stream.session_id}".encode(), "sha256")
    return urlsafe_b64encode(digest).decode()[:SIGNATURE_CHARS]
