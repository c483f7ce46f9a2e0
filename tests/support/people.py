"""People of an app in memory: their tables, and a household with quick passwords."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.login.household import Household, Terms, household
from events.clock import Context
from events.envelope import Envelope, Event
from producers.accounts import Account, Invitation, KeptSession, folded
from producers.passwords import Cost
from producers.providers import Provider
from projections.people.directory import Directory
from tests.support.factors import MemoryFactors

QUICK = Cost(passes=1, memory_kib=8, lanes=1)


@dataclass
class MemoryAccounts:
    """The tables of `infra.runtime.people.accounts.AccountTables`, in dictionaries."""

    accounts: dict[str, Account] = field(default_factory=dict)
    invitations: dict[bytes, tuple[Invitation, datetime]] = field(default_factory=dict)
    sessions: dict[bytes, KeptSession] = field(default_factory=dict)
    devices: dict[bytes, str] = field(default_factory=dict)
    kept: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    used: dict[str, datetime] = field(default_factory=dict)

    async def add_account(self, user_id: str, name: str, now: datetime) -> bool:
        if await self.account(name) or user_id in self.accounts:
            return False
        self.accounts[user_id] = Account(user_id, name, None)
        return True

    async def account(self, name: str) -> Account | None:
        return next((one for one in self.accounts.values() if folded(one.name) == folded(name)), None)

    async def account_of(self, user_id: str) -> Account | None:
        return self.accounts.get(user_id)

    async def names(self) -> dict[str, str]:
        return {user_id: one.name for user_id, one in self.accounts.items()}

    async def set_hash(self, user_id: str, hash_: str) -> None:
        self.accounts[user_id] = self.accounts[user_id]._replace(hash=hash_)
        self.invitations = {key: one for key, one in self.invitations.items() if one[0].user_id != user_id}

    async def forget(self, user_id: str) -> None:
        self.accounts.pop(user_id, None)
        self.sessions = {digest: one for digest, one in self.sessions.items() if one.user_id != user_id}

    async def keep_invitation(self, digest: bytes, made: Invitation, now: datetime, expires_at: datetime) -> None:
        if made.purpose == "setup":
            self.invitations = {key: one for key, one in self.invitations.items() if one[0].purpose != "setup"}
        self.invitations[digest] = made, expires_at

    async def invitation(self, digest: bytes, now: datetime) -> Invitation | None:
        found = self.invitations.get(digest)
        return found[0] if found and found[1] > now else None

    async def take_invitation(self, digest: bytes, now: datetime) -> bool:
        found = self.invitations.pop(digest, None)
        return found is not None and found[1] > now

    async def open_session(self, digest: bytes, session_id: str, user_id: str, now: datetime, expires_at: datetime) -> None:
        self.sessions[digest] = KeptSession(session_id, user_id, now, now)

    async def session(self, digest: bytes) -> KeptSession | None:
        return self.sessions.get(digest)

    async def use_session(self, session_id: str, now: datetime) -> None:
        self.sessions = {
            digest: one._replace(used_at=now) if one.session_id == session_id else one for digest, one in self.sessions.items()
        }

    async def uses_of_sessions(self, user_id: str) -> dict[str, datetime]:
        return {one.session_id: one.used_at for one in self.sessions.values() if one.user_id == user_id}

    async def end_session(self, session_id: str) -> None:
        self.sessions = {digest: one for digest, one in self.sessions.items() if one.session_id != session_id}

    async def know_device(self, digest: bytes, user_id: str, now: datetime, before: datetime) -> None:
        self.devices[digest] = user_id

    async def device(self, digest: bytes) -> str | None:
        return self.devices.get(digest)

    async def add_token(self, digest: bytes, token_id: str, prefix: str) -> None:
        self.kept[digest] = token_id, prefix

    async def token(self, digest: bytes) -> str | None:
        return self.kept[digest][0] if digest in self.kept else None

    async def use_token(self, token_id: str, now: datetime) -> None:
        self.used[token_id] = now

    async def remove_token(self, token_id: str) -> None:
        self.kept = {digest: one for digest, one in self.kept.items() if one[0] != token_id}

    async def uses_of_tokens(self) -> dict[str, tuple[str, datetime | None]]:
        return {token_id: (prefix, self.used.get(token_id)) for token_id, prefix in self.kept.values()}


async def nobody(method: str, url: str, headers: Mapping[str, str] | None = None, body: str | None = None) -> tuple[int, Any]:
    """Stand in for providers where there is none."""
    raise AssertionError("this test has no provider")


def home(
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]],
    context: Callable[[], Context],
    *,
    bootstrap: str = "",
    url: str = "http://test",
    providers: Sequence[Provider] = (),
    directory: Directory | None = None,
    accounts: MemoryAccounts | None = None,
) -> Household:
    """Return a household whose tables are in memory."""
    terms = Terms(url, bootstrap, providers, QUICK)
    return household(terms, directory or Directory(), accounts or MemoryAccounts(), MemoryFactors(), append, context, nobody)
