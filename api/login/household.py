"""Opens the doors, the people and the ways to log in of an app."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fastapi import Request

from api.identity import Doors, Identity
from api.login.passkeys import Passkeys
from api.login.people import People
from api.login.providers import Ask, Providers
from api.login.second import SecondFactor
from api.login.ways import Ways
from events.clock import Context
from events.envelope import Envelope, Event, Recorded
from producers.passkeys import site_of
from producers.passwords import Cost, Passwords
from producers.providers import Provider
from projections.people.directory import Directory


@dataclass(frozen=True)
class Terms:
    """Settings of logins. `home` is the URL that browsers come back to; `idle` and `life` bound a session."""

    home: str
    bootstrap: str = ""
    providers: Sequence[Provider] = ()
    cost: Cost = field(default_factory=Cost)
    idle: timedelta = timedelta(hours=12)
    life: timedelta = timedelta(days=30)


@dataclass(frozen=True)
class Household:
    """People, doors and ways of an app."""

    doors: Doors
    people: People
    ways: Ways


def household(
    terms: Terms,
    directory: Directory,
    accounts: Any,
    factors: Any,
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]],
    context: Callable[[], Context],
    ask: Ask,
) -> Household:
    """Return the household of an app. `accounts` and `factors` are the tables of `infra.runtime.people`."""

    async def record(event: Event) -> None:
        """Append an event about a person. The directory has it at once: its follower reads the log a moment later."""
        now = context()
        id_ = now.new_id()
        envelope = Envelope(id_, now.source, str(event.user_id), now.now, event, id_)  # type: ignore[attr-defined]
        (position,) = await append([envelope])
        directory.take(Recorded(position.topic, position.partition, position.offset, envelope))  # type: ignore[arg-type]

    doors = Doors(directory, accounts, context, terms.bootstrap, terms.idle)
    second = SecondFactor(factors, context, record)
    people = People(
        directory=directory,
        accounts=accounts,
        passwords=Passwords(terms.cost),
        context=context,
        record=record,
        identify=identified(doors),
        second=second,
        forget_factors=factors.forget,
        session_life=terms.life,
    )
    ways = Ways(
        second=second,
        passkeys=Passkeys(factors, context, record, site_of(terms.home)),
        providers=Providers(terms.providers, factors, context, ask, terms.home),
        links=factors,
        house=people,
        context=context,
        record=record,
    )
    return Household(doors, people, ways)


def identified(doors: Doors) -> Callable[[Request], Awaitable[Identity]]:
    """Return a function that finds the caller of a request, once for each request."""

    async def identify(request: Request) -> Identity:
        found: Identity | None = getattr(request.state, "identity", None)
        if found is None:
            found = request.state.identity = await doors.caller(request)
        return found

    return identify
