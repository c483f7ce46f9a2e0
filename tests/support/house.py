"""An app with the ways to log in, over people in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request, Response

from api.addresses import Addresses
from api.app import begin, finish
from api.login import routes
from api.login.passkeys import Passkeys
from api.login.providers import Ask, Providers
from api.login.second import SecondFactor
from api.login.ways import Ways
from events.clock import Context
from events.envelope import Event
from events.errors import Unproven
from infra.runtime.clock import new_id
from producers.openid import Person
from producers.passkeys import site_of
from producers.providers import Provider
from tests.support.apps import Seen, refusals_of
from tests.support.factors import MemoryFactors

SESSION = "session"


@dataclass
class MemoryHouse:
    """An `api.login.ways.House`. A session's cookie is its person's id; everybody's password is `right`."""

    names: dict[str, str] = field(default_factory=lambda: {"id-of-anna": "anna"})
    roles: dict[str, str] = field(default_factory=dict)
    opened: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def me(self, request: Request) -> tuple[str, str]:
        user_id = request.cookies.get(SESSION, "")
        if user_id not in self.names:
            raise Unproven("no_session", "log in first")
        return user_id, self.names[user_id]

    async def confirm(self, request: Request, user_id: str, password: str) -> None:
        if password != "right":
            raise Unproven("password_wrong", "this is not your password")

    async def open_session(self, request: Request, response: Response, user_id: str, how: str) -> None:
        self.opened.append((user_id, how))
        response.set_cookie(SESSION, user_id)

    async def admit(self, user_id: str, person: Person) -> None:
        self.names[user_id] = person.name or ""
        self.roles[user_id] = person.role

    async def end_sessions(self, user_id: str) -> None:
        self.ended.append(user_id)


@dataclass
class House:
    """The app, its people, its log and the reasons of its refusals."""

    app: FastAPI
    people: MemoryHouse
    log: list[Event]
    reasons: list[str]


def build(home: str, ask: Ask, providers: Sequence[Provider] = ()) -> House:
    """Return an app at a URL."""
    people, tables, log, reasons = MemoryHouse(), MemoryFactors(), list[Event](), list[str]()

    def context() -> Context:
        return Context(datetime.now(UTC), new_id, "tests")

    async def record(event: Event) -> None:
        log.append(event)

    ways = Ways(
        second=SecondFactor(tables, context, record),
        passkeys=Passkeys(tables, context, record, site_of(home)),
        providers=Providers(providers, tables, context, ask, home),
        links=tables,
        house=people,
        context=context,
        record=record,
    )
    app = begin("People", "Ways to log in.", 401, 429, 503, kind=FastAPI)
    app.include_router(routes.routes)
    app = finish(
        app,
        name="people",
        services=SimpleNamespace(ways=ways),
        addresses=Addresses(),
        observer=Seen(),
        refusals=refusals_of("people"),
        new_id=new_id,
    )

    @app.middleware("http")
    async def noted(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        if reason := getattr(request.state, "refusal", None):
            reasons.append(reason)
        return answer

    return House(app, people, log, reasons)


async def nobody(method: str, url: str, headers: Mapping[str, str] | None = None, body: str | None = None) -> tuple[int, Any]:
    """Stand in for providers where there is none."""
    raise AssertionError(url)
