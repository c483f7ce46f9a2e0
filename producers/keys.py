"""Keys of workers: their form, their hash, their events. No socket, no clock.

A key is 256 random bits as text. Its first eight characters serve to look it up; argon2id proves it. A join token is a key
for a single use: to fetch the key of the worker whose id it carries.
"""

import secrets
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid5

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from pydantic import BaseModel

from events.clock import Context
from events.envelope import Envelope, Event
from events.kinds import JobKind
from events.workers import WorkerKeyIssued, WorkerKeyRevoked

PREFIX_CHARS = 8
KEY_CHARS = 43
"""Length of 32 random bytes in base64."""
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
"""argon2id with 64 MiB."""


class Key(BaseModel, frozen=True):
    """A key without its secrets. No pools or kinds means all of them."""

    key_id: str
    worker_id: str
    purpose: Literal["work", "join"]
    prefix: str
    name: str = ""
    pools: tuple[str, ...] = ()
    kinds: tuple[JobKind, ...] = ()
    issued_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None

    def ended(self, now: datetime) -> Literal["revoked", "expired"] | None:
        """Return why the key is not valid at `now`; None when it is valid."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return None


def make(
    context: Context,
    purpose: Literal["work", "join"],
    *,
    worker_id: str | None = None,
    name: str = "",
    pools: tuple[str, ...] = (),
    kinds: tuple[JobKind, ...] = (),
    life: timedelta | None = None,
) -> tuple[Key, str]:
    """Return a new key and its text. The text is shown once and never stored."""
    text = secrets.token_urlsafe(32)
    key = Key(
        key_id=context.new_id(),
        worker_id=worker_id or context.new_id(),
        purpose=purpose,
        prefix=text[:PREFIX_CHARS],
        name=name,
        pools=pools,
        kinds=kinds,
        issued_at=context.now,
        expires_at=context.now + life if life is not None else None,
    )
    return key, text


def issued(key: Key) -> WorkerKeyIssued:
    """Return the fact that a key was issued."""
    return WorkerKeyIssued(
        worker_id=key.worker_id,
        key_id=key.key_id,
        prefix=key.prefix,
        purpose=key.purpose,
        name=key.name,
        pools=key.pools,
        kinds=key.kinds,
        expires_at=key.expires_at,
    )


def key_revoked(context: Context, key: Key, reason: str) -> Envelope[Event]:
    """Return the fact that a key was revoked: the same event, with the same time, at every repeat."""
    event = WorkerKeyRevoked(worker_id=key.worker_id, key_id=key.key_id, prefix=key.prefix, reason=reason)
    id_ = str(uuid5(UUID(key.key_id), "revoked"))
    return Envelope(id_, context.source, key.worker_id, key.revoked_at or context.now, event, id_)


def hashed(text: str) -> str:
    """Return the argon2id hash of a key. Takes about 0.1 s and 64 MiB."""
    return _HASHER.hash(text)


def proves(text: str, hash_: str) -> bool:
    """Return whether the text matches the hash; as slow as `hashed`."""
    try:
        return _HASHER.verify(hash_, text)
    except (VerifyMismatchError, InvalidHashError):
        return False
