"""Signed paths of private media: `/media/~SIGNATURE.EXPIRY/VIDEO/…` lets its holder read one video until a moment.

Addresses inside manifests are relative, so a player that was redirected to a signed manifest passes the signature on by itself, and
each answer may be cached under its path. A segment costs one HMAC, and no question about the viewer.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime

from api.identity import Denied

SIGNATURE_BYTES = 16
TTL_MAX_S = 7 * 24 * 3600
ROUNDING = 4
"""Moments of expiry are whole quarters of the life, so that viewers who come within one share addresses, and caches."""
WRONG = "this address is not ours; open the video again"
KeyOf = Callable[[date], Awaitable[bytes]]
"""Returns the key of the day on which a path expires (UTC)."""


def expiry_of(now: datetime, ttl_s: int) -> int:
    """Return the moment until which a path is good: at least the life, at most a quarter of it more. Seconds since 1970."""
    step_s = ttl_s // ROUNDING
    return -(-(int(now.timestamp()) + ttl_s) // step_s) * step_s


async def signed(key_of: KeyOf, video_id: str, expiry: int) -> str:
    """Return the part of a path that lets its holder read a video."""
    return f"~{_signature(await key_of(_day(expiry)), video_id, str(expiry))}.{expiry}"


async def check(key_of: KeyOf, proof: str, video_id: str, now: datetime) -> int:
    """Return the number of seconds for which a path is good. `proof` is its signed part without `~`. Raises Denied with 403."""
    signature, _, expiry = proof.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 10):
        raise Denied("media_signature_wrong", WRONG, 403)
    left_s = int(expiry) - int(now.timestamp())
    if left_s <= 0:
        raise Denied("media_signature_expired", "this address was good for a while only; open the video again", 403)
    if left_s > TTL_MAX_S * (1 + 1 / ROUNDING):  # there is no key of that day, and none is made
        raise Denied("media_signature_wrong", WRONG, 403)
    wanted = _signature(await key_of(_day(int(expiry))), video_id, expiry)
    if not hmac.compare_digest(signature.encode(), wanted.encode()):
        raise Denied("media_signature_wrong", WRONG, 403)
    return left_s


def _signature(key: bytes, video_id: str, expiry: str) -> str:
    digest = hmac.digest(key, f"{expiry}/{video_id}".encode(), "sha256")
    return urlsafe_b64encode(digest[:SIGNATURE_BYTES]).decode().rstrip("=")


def _day(expiry: int) -> date:
    return datetime.fromtimestamp(expiry, UTC).date()
