"""Names, password hashes, sessions, invitations and tokens in PostgreSQL; of secrets only digests."""

from datetime import datetime
from pathlib import Path

from infra.runtime.postgres import Pool
from infra.runtime.tables import Queries
from producers.accounts import Account, Invitation, KeptSession, folded
from projections.folding.queries import load

_SQL = load(Path(__file__).with_suffix(".sql"))


class AccountTables:
    """Tables of the schema `people`. Every method raises Retryable when PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._queries = Queries(pool, _SQL)
        self.ensure = self._queries.ensure

    async def add_account(self, user_id: str, name: str, now: datetime) -> bool:
        """Keep a name; False when somebody has it, whatever its case."""
        return bool(await self._queries.ask("add_account", user_id=user_id, name=name, folded=folded(name), now=now))

    async def account(self, name: str) -> Account | None:
        """Return the account with this name."""
        found = await self._queries.ask("account", folded=folded(name))
        return Account(*found[0]) if found else None

    async def account_of(self, user_id: str) -> Account | None:
        """Return a person's account."""
        found = await self._queries.ask("account_of", user_id=user_id)
        return Account(*found[0]) if found else None

    async def names(self) -> dict[str, str]:
        """Return all names, by user_id."""
        return dict(await self._queries.ask("names"))

    async def set_hash(self, user_id: str, hash_: str) -> None:
        """Keep the hash of a person's password; links for another one end."""
        await self._queries.change("set_hash", user_id=user_id, hash=hash_)

    async def forget(self, user_id: str) -> None:
        """Delete a person's name, hash, sessions and devices."""
        await self._queries.change("forget", user_id=user_id)

    async def keep_invitation(self, digest: bytes, made: Invitation, now: datetime, expires_at: datetime) -> None:
        """Keep a link. A new set-up link replaces the old one."""
        await self._queries.change("keep_invitation", digest=digest, now=now, expires_at=expires_at, **made._asdict())

    async def invitation(self, digest: bytes, now: datetime) -> Invitation | None:
        """Return the use of a link that is still good."""
        found = await self._queries.ask("invitation", digest=digest, now=now)
        return Invitation(*found[0]) if found else None

    async def take_invitation(self, digest: bytes, now: datetime) -> bool:
        """Use a link up; False when another request was faster."""
        return bool(await self._queries.ask("take_invitation", digest=digest, now=now))

    async def open_session(self, digest: bytes, session_id: str, user_id: str, now: datetime, expires_at: datetime) -> None:
        """Keep a session."""
        values = {"session_id": session_id, "user_id": user_id, "now": now, "expires_at": expires_at}
        await self._queries.change("open_session", digest=digest, **values)

    async def session(self, digest: bytes) -> KeptSession | None:
        """Return the session of a cookie."""
        found = await self._queries.ask("session", digest=digest)
        return KeptSession(*found[0]) if found else None

    async def use_session(self, session_id: str, now: datetime) -> None:
        """Note when a session was used."""
        await self._queries.change("use_session", session_id=session_id, now=now)

    async def uses_of_sessions(self, user_id: str) -> dict[str, datetime]:
        """Return when a person's sessions were last used."""
        return dict(await self._queries.ask("uses_of_sessions", user_id=user_id))

    async def end_session(self, session_id: str) -> None:
        """Delete a session."""
        await self._queries.change("end_session", session_id=session_id)

    async def know_device(self, digest: bytes, user_id: str, now: datetime, before: datetime) -> None:
        """Remember a browser in which a person has logged in; forget those of earlier times."""
        await self._queries.change("know_device", digest=digest, user_id=user_id, now=now, before=before)

    async def device(self, digest: bytes) -> str | None:
        """Return who has logged in in a browser."""
        found = await self._queries.ask("device", digest=digest)
        return str(found[0][0]) if found else None

    async def add_token(self, digest: bytes, token_id: str, prefix: str) -> None:
        """Keep a token."""
        await self._queries.change("add_token", digest=digest, token_id=token_id, prefix=prefix)

    async def token(self, digest: bytes) -> str | None:
        """Return the id of a token."""
        found = await self._queries.ask("token", digest=digest)
        return str(found[0][0]) if found else None

    async def use_token(self, token_id: str, now: datetime) -> None:
        """Note when a token was used."""
        await self._queries.change("use_token", token_id=token_id, now=now)

    async def remove_token(self, token_id: str) -> None:
        """Delete a token."""
        await self._queries.change("remove_token", token_id=token_id)

    async def uses_of_tokens(self) -> dict[str, tuple[str, datetime | None]]:
        """Return the first characters of each token, and when it was last used."""
        return {row[0]: (row[1], row[2]) for row in await self._queries.ask("uses_of_tokens")}
