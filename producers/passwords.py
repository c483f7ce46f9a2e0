"""Passwords: their hash, and which are too easy. No socket, no clock."""

import hmac
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from zxcvbn import zxcvbn

from events.errors import InvalidRequest

CHARS_MIN, CHARS_MAX = 12, 200
GUESSES_MIN = 10**8
"""A password that is guessed with fewer tries is among the common ones, or made of them."""
ESTIMATED_CHARS = 72
"""Longer ones take zxcvbn seconds."""


@dataclass(frozen=True)
class Cost:
    """Cost of one hash by argon2id; memory in KiB. The defaults are those of RFC 9106, second choice."""

    passes: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 4


class Passwords:
    """Hashes and checks passwords. Each method takes about 0.1 s and the memory of its cost: call it in a thread."""

    def __init__(self, cost: Cost) -> None:
        self._hasher = PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes)
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(32))

    def hashed(self, password: str) -> str:
        """Return the argon2id hash of a password."""
        return self._hasher.hash(password)

    def proves(self, password: str, hash_: str | None) -> bool:
        """Return whether this is the password; without a hash, as for a name that nobody has, it takes the same time."""
        try:
            return self._hasher.verify(hash_ or self._nobodys, password) and hash_ is not None
        except (VerifyMismatchError, InvalidHashError):
            return False

    def outdated(self, hash_: str) -> bool:
        """Return whether a hash has another cost than new ones."""
        return self._hasher.check_needs_rehash(hash_)


def check_strength(password: str, *about: str) -> None:
    """Raise InvalidRequest for a password that is short, common, or made of the words in `about`."""
    if not CHARS_MIN <= len(password) <= CHARS_MAX:
        raise InvalidRequest(f"a password has {CHARS_MIN} to {CHARS_MAX} characters; several words are easy to remember")
    if any(word and hmac.compare_digest(word.casefold().encode(), password.casefold().encode()) for word in about):
        raise InvalidRequest("the password must not be the name; several unrelated words are easy to remember")
    found = zxcvbn(password[:ESTIMATED_CHARS], user_inputs=[word for word in about if word])
    if found["guesses"] < GUESSES_MIN:
        raise InvalidRequest("this password is among the first that are tried; several unrelated words are harder to guess")
