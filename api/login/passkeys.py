"""Passkeys: register, log in, list, remove."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from api.login.challenges import Challenges
from api.login.challenges import Store as ChallengeStore
from api.login.second import Record
from events.clock import Context
from events.errors import Conflict, NotFound, Unproven
from events.people import FactorAdded, FactorRemoved
from producers.passkeys import (
    Credential,
    KeptPasskey,
    Passkey,
    PasskeyRow,
    Site,
    authenticated,
    challenge_in,
    credential_id_in,
    login_options,
    registered,
    registration_options,
)

PASSKEYS_MAX = 20
"""Passkeys of one person."""


class Store(ChallengeStore, Protocol):
    """The tables of passkeys and challenges; `infra.runtime.people.factors.FactorTables` implements it."""

    async def add_passkey(self, user_id: str, passkey_id: str, name: str, passkey: Passkey, now: datetime) -> bool: ...
    async def passkeys(self, user_id: str) -> list[PasskeyRow]: ...
    async def passkey(self, credential_id: bytes) -> KeptPasskey | None: ...
    async def use_passkey(self, credential_id: bytes, sign_count: int, now: datetime) -> bool: ...
    async def remove_passkey(self, user_id: str, passkey_id: str) -> bool: ...
    async def remove_passkeys(self, user_id: str) -> list[str]: ...


class Passkeys:
    """The passkeys of every person."""

    def __init__(self, store: Store, context: Callable[[], Context], record: Record, site: Site) -> None:
        self._store = store
        self._context = context
        self._record = record
        self._site = site
        self._registrations = Challenges(store, context, "passkey_registration")
        self._logins = Challenges(store, context, "passkey_login")

    async def begin(self, user_id: str, name: str) -> dict[str, Any]:
        """Return the browser's options to register a passkey. Raises Conflict when a person has many."""
        known = await self._store.passkeys(user_id)
        if len(known) >= PASSKEYS_MAX:
            raise Conflict(f"an account has at most {PASSKEYS_MAX} passkeys; remove one first")
        challenge = await self._registrations.make(user_id)
        return registration_options(self._site, user_id, name, challenge, [row.credential_id for row in known])

    async def add(self, user_id: str, name: str, credential: Credential) -> str:
        """Register a passkey; return its id. Raises Unproven, Conflict when somebody has it."""
        challenge = challenge_in(credential)
        await self._registrations.take(challenge, user_id)
        passkey = registered(self._site, credential, challenge)
        context = self._context()
        passkey_id = context.new_id()
        if not await self._store.add_passkey(user_id, passkey_id, name, passkey, context.now):
            raise Conflict("this passkey is registered already")
        await self._record(FactorAdded(user_id=user_id, factor="passkey", factor_id=passkey_id))
        return passkey_id

    async def begin_login(self, browser: str) -> dict[str, Any]:
        """Return the browser's options to log in."""
        return login_options(self._site, await self._logins.make(browser))

    async def login(self, credential: Credential, browser: str) -> str:
        """Return the id of the person who answers. Raises Unproven."""
        challenge = challenge_in(credential)
        await self._logins.take(challenge, browser)
        kept = await self._store.passkey(credential_id_in(credential))
        if kept is None:
            raise Unproven("passkey_unknown", "nobody has registered this passkey here")
        count = authenticated(self._site, credential, challenge, kept.passkey, kept.user_id)
        if not await self._store.use_passkey(kept.passkey.credential_id, count, self._context().now):
            raise Unproven("passkey_count", "this passkey was used elsewhere meanwhile; try again")
        return kept.user_id

    async def listing(self, user_id: str) -> Sequence[PasskeyRow]:
        """Return a person's passkeys, oldest first."""
        return await self._store.passkeys(user_id)

    async def remove(self, user_id: str, passkey_id: str) -> None:
        """Remove a passkey of a person. Raises NotFound, also for one of somebody else."""
        if not await self._store.remove_passkey(user_id, passkey_id):
            raise NotFound("this account has no such passkey")
        await self._record(FactorRemoved(user_id=user_id, factor="passkey", factor_id=passkey_id, because="removed"))

    async def reset(self, user_id: str) -> bool:
        """Remove all passkeys of a person who has lost them; False without one."""
        removed = await self._store.remove_passkeys(user_id)
        for passkey_id in removed:
            await self._record(FactorRemoved(user_id=user_id, factor="passkey", factor_id=passkey_id, because="reset"))
        return bool(removed)
