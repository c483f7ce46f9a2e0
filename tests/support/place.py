"""The admin app over people in memory, for tests of logins: its log, and a browser for each person."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from api.admin.live.hub import Hub
from api.login.household import Household
from events.access import AccessRefused
from events.envelope import Envelope, Event
from events.people import Role, UserCreated
from infra.runtime.clock import system_context
from tests.support.apps import TOKEN, make
from tests.support.people import home

PASSWORD = "several words for anna"
HOME = "http://test"


@dataclass
class Place:
    """The admin app over people in memory, its log, and a browser for each person."""

    log: list[Event] = field(default_factory=list)
    live: Hub | None = None

    def __post_init__(self) -> None:
        self.home: Household = home(self.append, lambda: system_context("test"), bootstrap=TOKEN)
        self.app = make("admin", append=self.append, home=self.home, live=self.live)

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> list[Any]:
        await asyncio.sleep(0)  # a log takes its time: other requests go on meanwhile
        self.log += [envelope.data for envelope in envelopes]
        return [type("Position", (), {"topic": "people", "partition": 0, "offset": len(self.log)})() for _ in envelopes]

    @asynccontextmanager
    async def browser(self, url: str = HOME, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        given = {"Sec-Fetch-Site": "same-origin"} | headers
        async with httpx.AsyncClient(transport=transport, base_url=url, headers=given) as http:
            yield http

    async def link(self, purpose: str = "invitation", role: Role = "viewer") -> str:
        async with self.browser() as http:
            answer = await http.post(
                "/api/users/invitations",
                json={"purpose": purpose, "role": role},
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
            return str(answer.raise_for_status().json()["token"])

    async def person(self, http: httpx.AsyncClient, role: Role = "operator", name: str = "anna") -> str:
        """Make a person by an invitation; they are logged in in this browser. Return their id."""
        link = await self.link(role=role)
        answer = await http.post("/api/auth/accept", json={"token": link, "name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return next(event.user_id for event in reversed(self.log) if isinstance(event, UserCreated))

    def reasons(self) -> list[str]:
        return [event.reason for event in self.log if isinstance(event, AccessRefused)]


async def login(http: httpx.AsyncClient, name: str = "anna", password: str = PASSWORD, **more: str) -> httpx.Response:
    return await http.post("/api/auth/login", json={"name": name, "password": password, **more})
