"""Rows of accounts, links and sessions, and the form in which names are compared. Pure."""

from datetime import datetime
from typing import NamedTuple
from unicodedata import category, normalize


class Account(NamedTuple):
    """A person's account; without a hash nobody can log in by a password."""

    user_id: str
    name: str
    hash: str | None


class Invitation(NamedTuple):
    """The use of a link."""

    invitation_id: str
    purpose: str
    role: str | None
    user_id: str
    maker: str
    """Actor of the administrator who made it; the link ends with their right to."""


class KeptSession(NamedTuple):
    """A session by its digest."""

    session_id: str
    user_id: str
    opened_at: datetime
    used_at: datetime


def folded(name: str) -> str:
    """Return the form of a name in which names are compared: without case, width and accents' encoding (NFKC), and without
    characters that nobody sees."""
    plain = normalize("NFKC", normalize("NFKC", name).casefold())
    return " ".join("".join(character for character in plain if category(character) != "Cf").split())
