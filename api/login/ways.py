"""Ways to log in besides the password, and the part of an app that they need."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from fastapi import Request, Response

from api import cookies
from api.login.passkeys import Passkeys
from api.login.providers import Providers
from api.login.second import Record, SecondFactor
from events.clock import Context
from events.errors import NotFound
from events.people import ProviderLinked
from producers.openid import Person

COOKIE = "kinolog_attempt"
COOKIE_LIFE = timedelta(minutes=10)


class House(Protocol):
    """The app's part in a login: sessions, passwords and roles."""

    async def me(self, request: Request) -> tuple[str, str]:
        """Return id and name of the person whose session this is. Raises 401."""

    async def confirm(self, request: Request, user_id: str, password: str) -> None:
        """Return when this is the person's password. Raises 401, or 429 after many wrong ones."""

    async def open_session(self, request: Request, response: Response, user_id: str, how: str) -> None:
        """Log a person in. Raises 401 for one who was disabled."""

    async def admit(self, user_id: str, person: Person) -> None:
        """Make a person of a provider an account with their role, or give the account that role."""

    async def end_sessions(self, user_id: str) -> None:
        """Log a person out everywhere."""


class Links(Protocol):
    """Accounts at providers; `infra.runtime.people.factors.FactorTables` implements it."""

    async def link(self, issuer: str, subject: str, user_id: str, now: datetime) -> str: ...
    async def linked(self, issuer: str, subject: str) -> str | None: ...


@dataclass(frozen=True)
class Ways:
    """The ways to log in of one app."""

    second: SecondFactor
    passkeys: Passkeys
    providers: Providers
    links: Links
    house: House
    context: Callable[[], Context]
    record: Record

    async def account_of(self, person: Person) -> str:
        """Return the id of a provider's person, a new one at their first login; their role is the provider's."""
        known = await self.links.linked(person.issuer, person.subject)
        context = self.context()
        user_id = known or await self.links.link(person.issuer, person.subject, context.new_id(), context.now)
        await self.house.admit(user_id, person)
        if known is None:
            await self.record(ProviderLinked(user_id=user_id, provider=person.provider))
        return user_id

    async def reset(self, user_id: str) -> None:
        """Remove the authenticator app and the passkeys of a person, and log them out. Raises NotFound when there are none."""
        if not any([await self.second.reset(user_id), await self.passkeys.reset(user_id)]):
            raise NotFound("this account has no authenticator app and no passkeys")
        await self.house.end_sessions(user_id)


def browser_of(request: Request, response: Response) -> str:
    """Return the digest of a browser's secret; give the browser one that lasts a few minutes."""
    secret = cookies.secret_of(request, COOKIE) or secrets.token_urlsafe(32)
    cookies.give(request, response, COOKIE, secret, COOKIE_LIFE)
    return cookies.digest_of(secret).hex()
