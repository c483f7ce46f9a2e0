"""The second factor: TOTP codes and recovery codes, each accepted once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import ClassVar, NamedTuple, Protocol

from api.limits import Attempts
from events.clock import Context
from events.envelope import Event
from events.errors import Conflict, InvalidRequest, NotFound, Unproven
from events.people import FactorAdded, FactorRemoved
from producers.factors import (
    Totp,
    looks_like_totp,
    otpauth_uri,
    qr_code,
    recovery_codes,
    recovery_digest,
    step_of,
    totp_secret,
)

CODES_AT_ONCE, CODES_PER_HOUR = 10, 3
"""Wrong codes for one person: this burst, then this number. Who has stolen a password guesses a code within a year in one of twelve
cases."""
Record = Callable[[Event], Awaitable[None]]
"""Appends an event about a person to the log."""


class Store(Protocol):
    """Secrets and digests; `infra.runtime.people.factors.FactorTables` implements it."""

    async def begin_totp(self, user_id: str, secret: str, now: datetime) -> bool: ...
    async def totp(self, user_id: str) -> Totp | None: ...
    async def prove_totp(self, user_id: str, begun_at: datetime, step: int, now: datetime) -> bool: ...
    async def accept_step(self, user_id: str, step: int) -> bool: ...
    async def remove_totp(self, user_id: str) -> bool: ...
    async def replace_codes(self, user_id: str, digests: list[bytes]) -> None: ...
    async def has_code(self, user_id: str, digest: bytes) -> bool: ...
    async def spend_code(self, user_id: str, digest: bytes) -> bool: ...
    async def codes_left(self, user_id: str) -> int: ...


class Begun(NamedTuple):
    """A secret to put into an authenticator app; shown once. `qr_code` is SVG."""

    secret: str
    uri: str
    qr_code: str


class FactorMissing(Unproven):
    """The password is right, and a code of the second factor must come with it. `members` go into the answer."""

    members: ClassVar = {"state": "factor_missing"}

    def __init__(self) -> None:
        super().__init__("factor_missing", "send a code of your authenticator app, or a recovery code, with the password")


class SecondFactor:
    """The second factor of every person."""

    def __init__(self, store: Store, context: Callable[[], Context], record: Record) -> None:
        self._store = store
        self._context = context
        self._record = record
        self._guesses = Attempts(CODES_PER_HOUR / 60, CODES_AT_ONCE)

    async def counts(self, user_id: str) -> bool:
        """Return whether a password alone is not enough for this person."""
        totp = await self._store.totp(user_id)
        return totp is not None and totp.proven

    async def codes_left(self, user_id: str) -> int:
        """Return the number of a person's recovery codes."""
        return await self._store.codes_left(user_id)

    async def begin(self, user_id: str, name: str) -> Begun:
        """Make a secret; it counts once `prove` has seen a code of it. Raises Conflict when one counts already."""
        secret = totp_secret()
        if not await self._store.begin_totp(user_id, secret, self._context().now):
            raise Conflict("this account has an authenticator app; remove it before you add another one")
        uri = otpauth_uri(secret, name)
        return Begun(secret, uri, qr_code(uri))

    async def prove(self, user_id: str, code: str) -> tuple[str, ...]:
        """Let the secret count; return new recovery codes, which are shown once. Raises Conflict, InvalidRequest."""
        totp = await self._store.totp(user_id)
        if totp is None or totp.proven:
            raise Conflict("begin with a new secret: there is none that waits for its first code")
        now = self._context().now
        step = step_of(totp.secret, code, now)
        if step is None:
            raise InvalidRequest("this is not the code that the app shows now; is the phone's clock right?")
        if not await self._store.prove_totp(user_id, totp.begun_at, step, now):
            raise Conflict("another request was faster; look at the account's factors")
        await self._record(FactorAdded(user_id=user_id, factor="totp"))
        return await self._new_codes(user_id)

    async def check(self, user_id: str, code: str | None, whose: str = "") -> None:
        """Return when the person has no second factor, or this is a good code, which is then spent.

        `whose` names a browser whose wrong codes have a count of their own. Raises FactorMissing without a code, Unproven for a
        wrong or a spent one, TooManyAttempts.
        """
        totp = await self._store.totp(user_id)
        if totp is None or not totp.proven:
            return
        if not code:
            raise FactorMissing
        with self._guesses.one(whose or user_id):
            await self._accept(user_id, totp, code)

    async def _accept(self, user_id: str, totp: Totp, code: str) -> None:
        if not looks_like_totp(code):
            await self._spend(user_id, recovery_digest(code))
            return
        step = step_of(totp.secret, code, self._context().now)
        if step is None:
            raise Unproven("totp_wrong", "this code is wrong, or its time is over")
        if not await self._store.accept_step(user_id, step):
            raise Unproven("totp_replayed", "this code was used already; wait for the next one")

    async def _spend(self, user_id: str, digest: bytes) -> None:
        """Spend a recovery code; the event comes first, so that the log knows of every code that let somebody in.

        A process that dies in between has let nobody in: the code is still good.
        """
        known = await self._store.has_code(user_id, digest)
        if known:
            await self._record(FactorRemoved(user_id=user_id, factor="recovery_code", because="used"))
        if not known or not await self._store.spend_code(user_id, digest):
            raise Unproven("recovery_code_wrong", "this recovery code is wrong, or was used")

    async def renew_codes(self, user_id: str, code: str | None) -> tuple[str, ...]:
        """Return new recovery codes instead of the old ones. Raises as `check` does, NotFound without a second factor."""
        await self._must_count(user_id)
        await self.check(user_id, code)
        return await self._new_codes(user_id)

    async def remove(self, user_id: str, code: str | None) -> None:
        """Remove the second factor and its recovery codes. Raises as `check` does, NotFound without a second factor."""
        await self._must_count(user_id)
        await self.check(user_id, code)
        await self._remove(user_id, "removed")

    async def reset(self, user_id: str) -> bool:
        """Remove the second factor of a person who has lost it; False without one. It need not be readable any more."""
        return await self._remove(user_id, "reset")

    async def _must_count(self, user_id: str) -> None:
        if not await self.counts(user_id):
            raise NotFound("this account has no authenticator app")

    async def _remove(self, user_id: str, because: str) -> bool:
        removed = await self._store.remove_totp(user_id)
        if removed:
            await self._record(FactorRemoved(user_id=user_id, factor="totp", because=because))
        return removed

    async def _new_codes(self, user_id: str) -> tuple[str, ...]:
        codes = recovery_codes()
        await self._store.replace_codes(user_id, [recovery_digest(code) for code in codes])
        await self._record(FactorAdded(user_id=user_id, factor="recovery_codes"))
        return codes
