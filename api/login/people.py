"""People: accounts, links, logins, sessions, tokens. The app's `api.login.ways.House`.

A password costs a proof of 0.1 s and 64 MiB, also for a name that nobody has, so that the two take the same time. Wrong ones are
counted per address, and per account; a browser in which the person has logged in before has a count of its own, so that nobody
can lock them out.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol, cast

from fastapi import Request, Response

from api import cookies
from api.callers import proven_by
from api.cookies import digest_of
from api.identity import COOKIE, TOKEN_PREFIX, Denied, Identity, Tables, address_of, check_right, check_session
from api.limits import Attempts
from api.login.second import SecondFactor
from events.actors import BOOTSTRAP
from events.clock import Context
from events.envelope import Event
from events.errors import Conflict, InvalidRequest, NotFound, Unproven
from events.people import (
    BOOTSTRAP_ID,
    InvitationMade,
    PasswordChanged,
    Right,
    Role,
    RoleChanged,
    SessionEnded,
    SessionOpened,
    TokenMade,
    TokenRevoked,
    UserCreated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
)
from producers.accounts import Account, Invitation, folded
from producers.openid import Person
from producers.passwords import Passwords, check_strength
from projections.people.directory import Directory, Token
from projections.people.rights import rights_of

DEVICE = "kinolog_device"
DEVICE_LIFE = timedelta(days=365)
LINK_LIFE = {"setup": timedelta(days=1), "invitation": timedelta(days=7), "reset": timedelta(days=1)}
LOGINS_PER_MINUTE = 10
PROOFS_AT_ONCE = 2
PREFIX_CHARS = 8
NAME_MAX = 64
TOKENS_MAX = 100
"""Tokens of one person."""
WRONG = "name or password is wrong"
Purpose = Literal["setup", "invitation", "reset"]


class Accounts(Tables, Protocol):
    """Names, hashes and digests; `infra.runtime.people.accounts.AccountTables` implements it."""

    async def add_account(self, user_id: str, name: str, now: datetime) -> bool: ...
    async def account(self, name: str) -> Account | None: ...
    async def account_of(self, user_id: str) -> Account | None: ...
    async def names(self) -> dict[str, str]: ...
    async def set_hash(self, user_id: str, hash_: str) -> None: ...
    async def forget(self, user_id: str) -> None: ...
    async def keep_invitation(self, digest: bytes, made: Invitation, now: datetime, expires_at: datetime) -> None: ...
    async def invitation(self, digest: bytes, now: datetime) -> Invitation | None: ...
    async def take_invitation(self, digest: bytes, now: datetime) -> bool: ...
    async def open_session(self, digest: bytes, session_id: str, user_id: str, now: datetime, expires_at: datetime) -> None: ...
    async def uses_of_sessions(self, user_id: str) -> dict[str, datetime]: ...
    async def end_session(self, session_id: str) -> None: ...
    async def know_device(self, digest: bytes, user_id: str, now: datetime, before: datetime) -> None: ...
    async def device(self, digest: bytes) -> str | None: ...
    async def add_token(self, digest: bytes, token_id: str, prefix: str) -> None: ...
    async def remove_token(self, token_id: str) -> None: ...
    async def uses_of_tokens(self) -> dict[str, tuple[str, datetime | None]]: ...


class Device(NamedTuple):
    """A browser that a person has logged in in."""

    user_id: str
    secret: str


class Link(NamedTuple):
    """A link that was made; its text is shown once."""

    text: str
    purpose: Purpose
    expires_at: datetime


class ShownSession(NamedTuple):
    """One of a person's sessions."""

    session_id: str
    how: str
    opened_at: datetime
    used_at: datetime | None
    expires_at: datetime
    this: bool


class ShownToken(NamedTuple):
    """A token without its text."""

    token_id: str
    prefix: str
    token: Token
    used_at: datetime | None


@dataclass
class People:
    """The people of one installation, as an app sees them. `record` appends an event and folds it into the directory."""

    directory: Directory
    accounts: Accounts
    passwords: Passwords
    context: Callable[[], Context]
    record: Callable[[Event], Awaitable[None]]
    identify: Callable[[Request], Awaitable[Identity]]
    second: SecondFactor
    forget_factors: Callable[[str], Awaitable[None]]
    session_life: timedelta = timedelta(days=30)
    by_address: Attempts = field(default_factory=lambda: Attempts(LOGINS_PER_MINUTE))
    by_account: Attempts = field(default_factory=lambda: Attempts(LOGINS_PER_MINUTE))
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by one change at a time of who may come in, from its last check to its event."""
    _strangers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PROOFS_AT_ONCE - 1))
    """Of the proofs at once, one is left to people who are known: a flood of strangers does not keep them waiting."""
    _proofs: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PROOFS_AT_ONCE))

    # --- logging in -------------------------------------------------------------------------------------------------

    async def login(self, request: Request, response: Response, name: str, password: str, code: str | None) -> None:
        """Log a person in. Raises Unproven, FactorMissing, TooManyAttempts."""
        account = await self.accounts.account(name)
        known = await self._device(request)
        mine = known is not None and account is not None and known.user_id == account.user_id
        whose = f"device {digest_of(known.secret).hex()}" if known and mine else f"name {folded(name)}"
        with self.by_address.one(address_of(request)), self.by_account.one(whose):
            async with nullcontext() if mine else self._strangers:
                right = await self._proves(password, account.hash if account else None)
            if account is None or not right:
                raise Unproven("password_wrong", WRONG)
            self._check_in(account.user_id)
        await self.second.check(account.user_id, code, whose)
        assert account.hash is not None
        fresh = await self._hashed(password) if self.passwords.outdated(account.hash) else None
        async with self._turn:
            now = await self._account(account.user_id)
            if now.hash != account.hash and not await self._proves(password, now.hash):
                raise Unproven("password_wrong", WRONG)
            if fresh is not None:
                await self.accounts.set_hash(account.user_id, fresh)
            await self._open(request, response, account.user_id, "password+code" if code else "password")

    async def open_session(self, request: Request, response: Response, user_id: str, how: str) -> None:
        """Log a person in, in a new session, whatever cookie the browser has. Raises Unproven for one who was disabled."""
        async with self._turn:
            await self._open(request, response, user_id, how)

    async def _open(self, request: Request, response: Response, user_id: str, how: str) -> None:
        self._check_in(user_id)
        proven_by(f"user:{user_id}")
        context = self.context()
        secret, session_id = secrets.token_urlsafe(32), context.new_id()
        expires_at = context.now + self.session_life
        await self.accounts.open_session(digest_of(secret), session_id, user_id, context.now, expires_at)
        await self.record(SessionOpened(session_id=session_id, user_id=user_id, how=how, expires_at=expires_at))
        cookies.give(request, response, COOKIE, secret, self.session_life)
        known = await self._device(request)
        device = known.secret if known and known.user_id == user_id else secrets.token_urlsafe(32)
        await self.accounts.know_device(digest_of(device), user_id, context.now, context.now - DEVICE_LIFE)
        cookies.give(request, response, DEVICE, device, DEVICE_LIFE)

    async def logout(self, request: Request, response: Response) -> None:
        """End the session of the request."""
        await self._end(*check_session(await self.identify(request)), "logout")
        cookies.take(request, response, COOKIE)

    async def me(self, request: Request) -> tuple[str, str]:
        """Return id and name of the person whose session this is. Raises Denied, Unproven for an account that is gone."""
        user_id, _ = check_session(await self.identify(request))
        return user_id, (await self._account(user_id)).name

    async def confirm(self, request: Request, user_id: str, password: str) -> None:
        """Return when this is the person's password. Raises Unproven, TooManyAttempts."""
        account = await self._account(user_id)
        with self.by_address.one(address_of(request)), self.by_account.one(f"confirm {user_id}"):
            if not await self._proves(password, account.hash):
                raise Unproven("password_wrong", "this is not your password")

    async def change_password(self, request: Request, response: Response, old: str, new: str) -> None:
        """Give the caller another password; their other sessions end, and this one is replaced."""
        user_id, name = await self.me(request)
        await self.confirm(request, user_id, old)
        await self._set_password(user_id, name, new)
        await self.open_session(request, response, user_id, "password")

    # --- links ------------------------------------------------------------------------------------------------------

    async def invite(self, maker: Identity, purpose: Purpose, role: Role | None = None, user_id: str | None = None) -> Link:
        """Make a link that is good once, and only while its maker may administer.

        Raises Conflict for a set-up where somebody administers already, NotFound.
        """
        if purpose == "setup" and self.directory.administrators():
            raise Conflict("somebody administers this installation already: they can invite others, and reset passwords")
        if user_id is not None:
            self._user(user_id)
        context = self.context()
        text, invitation_id, user_id = secrets.token_urlsafe(24), context.new_id(), user_id or context.new_id()
        expires_at = context.now + LINK_LIFE[purpose]
        role = "administrator" if purpose == "setup" else role
        await self.accounts.keep_invitation(
            digest_of(text), Invitation(invitation_id, purpose, role, user_id, maker.actor), context.now, expires_at
        )
        await self.record(
            InvitationMade(invitation_id=invitation_id, purpose=purpose, role=role, user_id=user_id, expires_at=expires_at)
        )
        return Link(text, purpose, expires_at)

    async def accept(self, request: Request, response: Response, text: str, name: str | None, password: str) -> bool:
        """Use a link: make an account, or give one a new password. Return whether the person is logged in now.

        A link for a new password does not replace a second factor. Raises Unproven, InvalidRequest, Conflict.
        """
        now = self.context().now
        with self.by_address.one(address_of(request)):
            invitation = await self.accounts.invitation(digest_of(text), now)
            if (
                invitation is None
                or "administer" not in self.directory.rights_of_actor(invitation.maker, now)
                or (invitation.purpose == "setup" and self.directory.administrators())
            ):
                raise Unproven("link_spent", "this link was used, has expired or never was; ask for another one")
        if invitation.purpose == "reset":
            account = await self._account(invitation.user_id)
            self._check_in(account.user_id)
            check_strength(password, account.name)
            await self._spend(text, now)
            proven_by(f"user:{account.user_id}")
            await self._set_password(account.user_id, account.name, password)
            if await self.second.counts(account.user_id):
                return False
            await self.open_session(request, response, account.user_id, "invitation")
            return True
        if name is None or not 1 <= len(folded(name)) <= NAME_MAX:
            raise InvalidRequest(f"choose a name of at most {NAME_MAX} characters to log in with")
        check_strength(password, name)
        if await self.accounts.account(name) is not None:
            raise Conflict("somebody has this name; choose another one")
        await self._spend(text, now)
        user_id = invitation.user_id
        proven_by(f"user:{user_id}")
        if not await self.accounts.add_account(user_id, name.strip(), now):
            raise Conflict("somebody has this name; choose another one, with a new link")
        await self.accounts.set_hash(user_id, await self._hashed(password))
        await self.record(UserCreated(user_id=user_id, role=cast(Role, invitation.role or "viewer")))
        await self.open_session(request, response, user_id, "invitation")
        return True

    async def _spend(self, text: str, now: datetime) -> None:
        if not await self.accounts.take_invitation(digest_of(text), now):
            raise Unproven("link_spent", "another request has used this link")

    # --- administering ----------------------------------------------------------------------------------------------

    async def change_role(self, user_id: str, role: Role) -> None:
        """Give a person another role; their sessions end. Raises NotFound, Conflict for the last administrator."""
        async with self._turn:
            if self._user(user_id).role != role:
                self._check_not_last(user_id)
                await self.record(RoleChanged(user_id=user_id, role=role))

    async def disable(self, user_id: str, reason: str) -> None:
        """Let a person in no longer; their sessions end. Raises NotFound, Conflict for the last administrator."""
        async with self._turn:
            if not self._user(user_id).disabled:
                self._check_not_last(user_id)
                await self.record(UserDisabled(user_id=user_id, reason=reason))

    async def enable(self, user_id: str) -> None:
        """Let a disabled person in again. Raises NotFound."""
        if self._user(user_id).disabled:
            await self.record(UserEnabled(user_id=user_id))

    async def delete(self, user_id: str) -> None:
        """Delete a person's name and secrets for good; their id stays as a pseudonym. Raises NotFound, Conflict.

        The event comes last: until then a deletion that stumbled can be asked for again.
        """
        async with self._turn:
            self._user(user_id)
            self._check_not_last(user_id)
            await self.accounts.forget(user_id)
            await self.forget_factors(user_id)
            await self.record(UserDeleted(user_id=user_id))

    async def admit(self, user_id: str, person: Person) -> None:
        """Make a provider's person an account with their role, or give the account that role."""
        role = person.role
        if user_id in self.directory.users:
            if self.directory.users[user_id].role != role:
                await self.record(RoleChanged(user_id=user_id, role=role))
            return
        name = person.name if person.name and folded(person.name) else f"{person.provider} {user_id[-8:]}"
        await self._add_named(user_id, name, role)

    async def end_sessions(self, user_id: str) -> None:
        """Log a person out everywhere."""
        for session_id, _ in [*self.directory.sessions_of(user_id, self.context().now)]:
            await self._end(user_id, session_id, "ended")

    async def sessions(self, user_id: str, this: str | None) -> list[ShownSession]:
        """Return a person's sessions, newest first."""
        uses = await self.accounts.uses_of_sessions(user_id)
        found = [
            ShownSession(id_, one.how, one.opened_at, uses.get(id_), one.expires_at, id_ == this)
            for id_, one in self.directory.sessions_of(user_id, self.context().now)
        ]
        return sorted(found, key=lambda session: session.opened_at, reverse=True)

    async def end_session(self, user_id: str, session_id: str) -> None:
        """End one of a person's sessions. Raises NotFound."""
        session = self.directory.sessions.get(session_id)
        if session is None or session.user_id != user_id:
            raise NotFound("you have no such session")
        await self._end(user_id, session_id, "ended")

    # --- tokens -----------------------------------------------------------------------------------------------------

    async def make_token(self, maker: Identity, name: str, rights: Iterable[Right], life: timedelta | None) -> tuple[str, str]:
        """Make a token; return its id and its text, which is shown once. Raises Denied for a right that its maker lacks, Conflict
        for one too many."""
        wanted = tuple(sorted(set(rights)))
        for right in wanted:
            check_right(maker, right)
        if maker.actor != BOOTSTRAP and maker.session_id is None:
            raise Denied("token_of_token", "a token makes no tokens; log in", 403)
        user_id = maker.user_id or BOOTSTRAP_ID
        if sum(token.user_id == user_id for token in self.directory.tokens.values()) >= TOKENS_MAX:
            raise Conflict(f"a person has at most {TOKENS_MAX} tokens; revoke one first")
        context = self.context()
        text, token_id = TOKEN_PREFIX + secrets.token_urlsafe(32), context.new_id()
        await self.accounts.add_token(digest_of(text), token_id, text[: len(TOKEN_PREFIX) + PREFIX_CHARS])
        expires_at = context.now + life if life is not None else None
        await self.record(TokenMade(token_id=token_id, user_id=user_id, name=name, rights=wanted, expires_at=expires_at))
        return token_id, text

    async def tokens(self, caller: Identity) -> list[ShownToken]:
        """Return one's own tokens; an administrator sees all. Newest first."""
        uses = await self.accounts.uses_of_tokens()
        all_ = "administer" in caller.rights
        mine = {id_: one for id_, one in self.directory.tokens.items() if all_ or one.user_id == caller.user_id}
        found = [ShownToken(id_, *_of(uses, id_, one)) for id_, one in mine.items()]
        return sorted(found, key=lambda shown: shown.token.made_at, reverse=True)

    async def revoke_token(self, caller: Identity, token_id: str) -> None:
        """Refuse a token from now on. Raises NotFound for one that is neither one's own nor one's to administer."""
        token = self.directory.tokens.get(token_id)
        if token is None or (token.user_id != caller.user_id and "administer" not in caller.rights):
            raise NotFound("there is no such token")
        await self.record(TokenRevoked(token_id=token_id, user_id=token.user_id))
        await self.accounts.remove_token(token_id)

    def still_has(self, caller: Identity, right: Right) -> bool:
        """Return whether a caller who was let in would be let in now, as a stream asks that goes on for hours."""
        return right in self.directory.rights_of_actor(caller.actor, self.context().now, caller.session_id)

    # --- parts ------------------------------------------------------------------------------------------------------

    def rights(self, user_id: str) -> frozenset[Right]:
        """Return a person's rights."""
        return rights_of(self._user(user_id).role)

    async def _add_named(self, user_id: str, name: str, role: Role) -> None:
        """Add a provider's person; a name that somebody has gets a number."""
        for number in range(1, 1000):
            shown = name[: NAME_MAX - 4] + (f" {number}" if number > 1 else "")
            if await self.accounts.add_account(user_id, shown, self.context().now):
                await self.record(UserCreated(user_id=user_id, role=role))
                return
        raise Conflict("too many people have this name")

    async def _set_password(self, user_id: str, name: str, password: str) -> None:
        check_strength(password, name)
        hash_ = await self._hashed(password)
        async with self._turn:
            await self.accounts.set_hash(user_id, hash_)
            await self.record(PasswordChanged(user_id=user_id))

    async def _end(self, user_id: str, session_id: str, because: Literal["logout", "ended"]) -> None:
        await self.record(SessionEnded(session_id=session_id, user_id=user_id, because=because))
        await self.accounts.end_session(session_id)

    async def _account(self, user_id: str) -> Account:
        account = await self.accounts.account_of(user_id)
        if account is None:
            raise Unproven("account_gone", "this account's name and password are gone; ask an administrator for a link")
        return account

    def _user(self, user_id: str) -> Any:
        user = self.directory.users.get(user_id)
        if user is None or user.deleted:
            raise NotFound(f"there is no person {user_id}")
        return user

    def _check_in(self, user_id: str) -> None:
        user = self.directory.users.get(user_id)
        if user is None or user.out:
            raise Unproven("user_out", WRONG)

    def _check_not_last(self, user_id: str) -> None:
        if self.directory.administrators() == {user_id}:
            raise Conflict("this is the last administrator; make somebody else one first")

    async def _device(self, request: Request) -> Device | None:
        """Return the browser, when somebody has logged in in it before."""
        if (secret := cookies.secret_of(request, DEVICE)) is None:
            return None
        user_id = await self.accounts.device(digest_of(secret))
        return Device(user_id, secret) if user_id else None

    async def _proves(self, password: str, hash_: str | None) -> bool:
        async with self._proofs:
            return await asyncio.to_thread(self.passwords.proves, password, hash_)

    async def _hashed(self, password: str) -> str:
        async with self._proofs:
            return await asyncio.to_thread(self.passwords.hashed, password)


def _of(uses: dict[str, tuple[str, datetime | None]], id_: str, token: Token) -> tuple[str, Token, datetime | None]:
    prefix, used_at = uses.get(id_, ("", None))
    return prefix, token, used_at
