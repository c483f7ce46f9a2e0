"""The caller of a request: who they are, by a token or a session's cookie, and what they may do.

Secrets are proven once, by their digests in a table, and remembered; whether they still count is asked of the directory at every
request. So a request costs microseconds, and a revocation works as soon as it was read from the log.
"""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from fastapi import Request
from starlette.exceptions import HTTPException

from api.addresses import UNKNOWN
from api.cookies import digest_of, secret_of
from api.limits import Attempts
from events.actors import BOOTSTRAP
from events.clock import Context
from events.people import Right, Role
from producers.accounts import KeptSession
from projections.people.directory import Directory
from projections.people.rights import RIGHTS, rights_of

COOKIE = "kinolog_session"
TOKEN_PREFIX = "kt_"
READING = ("GET", "HEAD", "OPTIONS")
OURS = ("same-origin", "none")
"""Sec-Fetch-Site of our own pages, and of an address that a person typed."""
CSRF_HEADER = "x-csrf-token"
REMEMBERED_MAX = 20_000
USED_EVERY = timedelta(minutes=1)
LOOKS, LOOK_S = 20, 0.05
"""A session that another app has just opened is awaited this long."""
TOKENS_PER_MINUTE = 300
"""Wrong tokens per address. A comparison costs nothing, so a page with an old token may ask often."""
NO_TOKEN = "log in, or send `Authorization: Bearer TOKEN`"
IN_ADDRESS = ("token", "access_token", "api_key")


class Tables(Protocol):
    """Digests of secrets; `infra.runtime.people.accounts.AccountTables` implements it."""

    async def session(self, digest: bytes) -> KeptSession | None: ...
    async def use_session(self, session_id: str, now: datetime) -> None: ...
    async def token(self, digest: bytes) -> str | None: ...
    async def use_token(self, token_id: str, now: datetime) -> None: ...


class Identity(NamedTuple):
    """A caller: the actor of their events (`events.actors`), and their rights. `role` is that of a person at a browser."""

    actor: str
    rights: frozenset[Right]
    user_id: str | None = None
    session_id: str | None = None
    role: Role | None = None


EVERYTHING = frozenset(RIGHTS)


class Denied(HTTPException):
    """A request is refused: 401 without a good secret, 403 without the right. `reason` goes into the audit."""

    def __init__(self, reason: str, detail: str, status: int = 401) -> None:
        super().__init__(status, detail, headers={"WWW-Authenticate": "Bearer"} if status == 401 else None)
        self.reason = reason


@dataclass
class _Known:
    """A proven secret."""

    id: str
    seen_at: datetime
    noted_at: datetime


@dataclass
class Doors:
    """The doors of one app. `idle` is the longest time without a request that a session survives."""

    directory: Directory
    tables: Tables
    context: Callable[[], Context]
    bootstrap: str = ""
    idle: timedelta = timedelta(hours=12)
    attempts: Attempts = field(default_factory=lambda: Attempts(TOKENS_PER_MINUTE))
    _sessions: "OrderedDict[bytes, _Known]" = field(default_factory=OrderedDict)
    _tokens: "OrderedDict[bytes, _Known]" = field(default_factory=OrderedDict)

    async def caller(self, request: Request) -> Identity:
        """Return the caller. Raises Denied; TooManyAttempts after many wrong secrets from one address."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme:
            with self.attempts.one(address_of(request)):
                if scheme.lower() != "bearer" or not text:
                    raise Denied("no_token", NO_TOKEN)
                return await self._of_token(text.strip())
        if secret := secret_of(request, COOKIE):
            found = await self._of_session(secret)
            check_origin(request, secret)
            return found
        if any(name in request.query_params for name in IN_ADDRESS):
            raise Denied("token_in_address", "a token in an address is not read: send it in the header Authorization")
        raise Denied("no_token", NO_TOKEN)

    # --- tokens -----------------------------------------------------------------------------------------------------

    async def _of_token(self, text: str) -> Identity:
        if self.bootstrap and hmac.compare_digest(text.encode(), self.bootstrap.encode()):
            return Identity(BOOTSTRAP, EVERYTHING)
        now = self.context().now
        digest = digest_of(text)
        known = self._tokens.get(digest)
        if known is None:
            token_id = await self.tables.token(digest) if text.startswith(TOKEN_PREFIX) else None
            if token_id is None:
                raise Denied("wrong_token", f"nobody has this token; {NO_TOKEN}")
            known = _remember(self._tokens, digest, _Known(token_id, now, now - 2 * USED_EVERY))
        rights = self.directory.of_token(known.id, now)
        if rights is None:
            token = self.directory.tokens.get(known.id)
            expired = token is not None and token.expires_at is not None and now >= token.expires_at
            detail = "this token was revoked, has expired, or its owner cannot log in; make another one"
            raise Denied("token_expired" if expired else "token_ended", detail)
        if now - known.noted_at >= USED_EVERY:
            known.noted_at = now
            await self.tables.use_token(known.id, now)
        return Identity(f"token:{known.id}", rights, self.directory.tokens[known.id].user_id)

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def _of_session(self, secret: str) -> Identity:
        now = self.context().now
        digest = digest_of(secret)
        known = self._sessions.get(digest)
        if known is None or now - known.seen_at >= self.idle:
            row = await self.tables.session(digest)
            if row is None:
                self._sessions.pop(digest, None)
                raise Denied("session_unknown", "this session is over; log in again")
            known = _remember(self._sessions, digest, _Known(row.session_id, row.used_at, row.used_at))
            await self._followed(row, now)
        if now - known.seen_at >= self.idle:
            raise Denied("session_idle", "this session was not used for too long; log in again")
        found = self.directory.of_session(known.id, now)
        if found is None:
            self._sessions.pop(digest, None)
            raise Denied("session_ended", "this session is over; log in again")
        known.seen_at = now
        if now - known.noted_at >= USED_EVERY:
            known.noted_at = now
            await self.tables.use_session(known.id, now)
        user_id, role = found
        return Identity(f"user:{user_id}", rights_of(role), user_id, known.id, role)

    async def _followed(self, row: KeptSession, now: datetime) -> None:
        """Wait a moment for the event of a session that was just opened elsewhere."""
        if now - row.opened_at > timedelta(seconds=10):
            return
        for _ in range(LOOKS):
            if row.session_id in self.directory.sessions:
                return
            await asyncio.sleep(LOOK_S)


def has_secret(request: Request) -> bool:
    """Return whether a request comes with a token or a session's cookie, right or wrong."""
    return "authorization" in request.headers or secret_of(request, COOKIE) is not None


def check_right(identity: Identity, right: Right) -> None:
    """Raise Denied with 403 when the caller lacks a right. Pure."""
    if right not in identity.rights:
        raise Denied(f"lacks_{right}", f"this needs the right to {RIGHTS[right]}; ask an administrator", 403)


def check_session(identity: Identity) -> tuple[str, str]:
    """Return the ids of a person and of their session. Raises Denied with 403 for a token. Pure."""
    if identity.user_id is None or identity.session_id is None:
        raise Denied("no_session", "log in in a browser first: a token has no password and no second factor", 403)
    return identity.user_id, identity.session_id


def check_origin(request: Request, secret: str) -> None:
    """Raise Denied with 403 for a change that another site's page sends with the browser's cookie.

    The browser names the site in Sec-Fetch-Site or Origin; a client that sends neither must repeat the token of `csrf_token`.
    """
    if request.method in READING:
        return
    ours = _is_ours(request)
    if ours is None:
        ours = hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token(secret).encode())
    if not ours:
        raise _other_origin()


def check_not_foreign(request: Request) -> None:
    """Raise Denied with 403 for a change that a browser sends for another site's page, as a login to somebody else's account."""
    if request.method not in READING and _is_ours(request) is False:
        raise _other_origin()


def _is_ours(request: Request) -> bool | None:
    """Return whether a page of ours sends a request; None when the client does not say, as a browser does."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in OURS
    return None if origin is None else origin == f"{request.url.scheme}://{request.url.netloc}"


def _other_origin() -> Denied:
    return Denied("other_origin", "this request comes from another site's page; send it from ours", 403)


def csrf_token(secret: str) -> str:
    """Return the token that forms and scripts with a session's cookie send in X-CSRF-Token."""
    return hmac.digest(secret.encode(), b"csrf", "sha256").hex()


def address_of(request: Request) -> str:
    """Return the client's address."""
    return request.client.host if request.client else UNKNOWN


def _remember(kept: "OrderedDict[bytes, _Known]", digest: bytes, known: _Known) -> _Known:
    kept[digest] = known
    while len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)
    return known
