"""Each route of each app with each kind of caller: let in exactly as `api.rights` says, and a refused request changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.identity import COOKIE
from api.rights import ROUTES
from events.actors import BOOTSTRAP
from events.people import Right
from events.topics import TOPICS
from infra.runtime import postgres
from projections.people.rights import ROLES
from tests.support.log import read_topic
from tests.support.platform import Platform
from tests.support.telemetry_server import TelemetryServer

PASSWORD = "several words for the table"
ALL = frozenset(get_args(Right))
SHARED = ("/health", "/ready", "/metrics", "/api/metrics", "/openapi.json")
EXAMPLES = 2
UNTRIED = ("/api/events/", "{path}")
"""A stream has no end, and no schema describes a name with slashes."""
SENT = ("Authorization", "Cookie", "Sec-Fetch-Site")
CHECKS = [
    not_a_server_error,
    *(status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance),
]
"""The first is not for a 501, which oEmbed wants, and for a 503, which asks for patience."""
load_all_checks()
Doors = Callable[[str], str]


@dataclass(frozen=True)
class Caller:
    """A kind of caller. `rights` is None for one without a good secret; `known` has their actors on the log."""

    http: httpx.AsyncClient
    rights: frozenset[Right] | None
    session: bool = False
    actor: str = ""

    def refused_at(self, door: str) -> int | None:
        """Return the status with which a door refuses this caller; None when it lets them in."""
        if door in ("open", "metrics"):
            return None
        if self.rights is None or door == "key":
            return 401
        return None if (self.session if door == "session" else door in self.rights) else 403


@pytest.fixture(scope="module")
async def callers(platform: Platform) -> AsyncIterator[dict[str, Caller]]:
    """Everybody by name, each at an address of their own: limits count addresses."""
    async with AsyncExitStack() as stack:
        numbers = iter(range(1, 100))

        async def at_an_address(**headers: str) -> httpx.AsyncClient:
            transport = httpx.AsyncHTTPTransport(local_address=f"127.0.78.{next(numbers)}")
            client = httpx.AsyncClient(transport=transport, base_url=platform.admin.base_url, headers=headers, timeout=60)
            return await stack.enter_async_context(client)

        async def with_token(rights: list[Right]) -> Caller:
            made = (await platform.admin.post("/api/tokens", json={"name": "table", "rights": rights})).raise_for_status().json()
            http = await at_an_address(Authorization=f"Bearer {made['token']}")
            return Caller(http, frozenset(rights), actor=f"token:{made['token_id']}")

        found = {
            "nobody": Caller(await at_an_address(), None),
            "wrong token": Caller(await at_an_address(Authorization="Bearer kt_wrong"), None),
            "wrong session": Caller(await at_an_address(Cookie=f"{COOKIE}=wrong"), None),
            "bootstrap": Caller(await at_an_address(Authorization=f"Bearer {platform.token}"), ALL, actor=BOOTSTRAP),
            "narrow token": await with_token(["read"]),
            "token of everything": await with_token(sorted(ALL)),
        }
        for role, rights in ROLES.items():
            http = await at_an_address(**{"Sec-Fetch-Site": "same-origin"})
            link = (await platform.admin.post("/api/users/invitations", json={"role": role})).raise_for_status().json()["token"]
            acceptance = {"token": link, "name": f"{role} of the table", "password": PASSWORD}
            (await http.post("/api/auth/accept", json=acceptance)).raise_for_status()
            user_id = (await http.get("/api/auth/check")).json()["user_id"]
            found[role] = Caller(http, rights, session=True, actor=f"user:{user_id}")
        yield found


async def ask(caller: Caller, url: httpx.URL, route: str) -> tuple[int, str]:
    """Ask a route about things that nobody has; return the status and the text of a refusal. A stream is left at once."""
    method, path = route.split()
    path = path.replace("{path:path}", "{path}").replace("{", "").replace("}", "")
    async with caller.http.stream(method, url.join(path), json=None if method in ("GET", "HEAD") else {}) as answer:
        if url == caller.http.base_url and path.startswith("/api/"):
            assert answer.headers.get_list("Cache-Control") == ["no-store"], route
        return answer.status_code, (await answer.aread()).decode() if answer.status_code in (401, 403) else ""


async def wrongly(caller: Caller, url: httpx.URL, routes: list[str], door: Doors) -> list[str]:
    """Return the routes that do not treat a caller as their door says."""
    found = []
    for route in routes:
        status, text = await ask(caller, url, route)
        expected = caller.refused_at(door(route))
        if status != expected if expected else status in (401, 403):
            found.append(f"{route} answers {status}, not {expected or 'letting in'}: {text}")
    return found


async def kept(platform: Platform) -> dict[str, Any]:
    """Return what is on the log by named actors, without refusals, and in the tables of people."""
    events = [event for name in TOPICS if name != "access" for event in await read_topic(platform.settings, name)]
    found: dict[str, Any] = {"log": {event.envelope.id: event.envelope.actor for event in events if event.envelope.actor}}
    async with postgres.connected(platform.settings) as connection:
        for table in ("accounts", "invitations", "sessions", "devices", "tokens", "totp", "passkeys", "links"):
            count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("people", table))
            found[table] = await (await connection.execute(count)).fetchall()
    return found


async def test_a_refused_request_is_answered_as_the_table_says_and_changes_nothing(
    platform: Platform, callers: dict[str, Caller]
) -> None:
    before = await kept(platform)
    for name, caller in callers.items():
        refused = [route for route, door in ROUTES.items() if caller.refused_at(door)]
        assert await wrongly(caller, platform.admin.base_url, refused, ROUTES.__getitem__) == [], name
    after = await kept(platform)
    actors = {caller.actor for caller in callers.values()}
    assert [actor for id_, actor in after.pop("log").items() if id_ not in before["log"] and actor in actors] == []
    before.pop("log")
    assert after == before


def judge(url: httpx.URL, callers: dict[str, Caller], door: Doors) -> None:
    """Send each operation of an app requests made from its document, as any of the callers; check that each answer is described."""
    ours = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})  # a caller brings their own
    for found in schemathesis.openapi.from_url(str(url.join("/openapi.json")), config=ours).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        route = f"{operation.method.upper()} {operation.path}"
        if any(part in route for part in UNTRIED):
            continue
        ending = route.endswith("auth/logout")  # would leave the next request without its session
        judge_one(operation, url, [one for one in callers.values() if not (ending and one.session)], door(route))


def judge_one(operation: Any, url: httpx.URL, callers: list[Caller], door: str) -> None:
    """Judge one operation, by the same requests in each run."""

    @given(case=operation.as_strategy(), caller=st.sampled_from(callers))
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def as_described(case: schemathesis.Case[Any], caller: Caller) -> None:
        headers = {name: caller.http.headers[name] for name in SENT if name in caller.http.headers}
        if caller.session:
            headers["Cookie"] = f"{COOKIE}={caller.http.cookies[COOKIE]}"
        answer = case.call(base_url=str(url).rstrip("/"), headers=headers, timeout=60)
        refused = caller.refused_at(door)
        assert refused is None or answer.status_code in (refused, 422, 429), f"{operation.label} answers {answer.text[:300]}"
        case.validate_response(answer, checks=CHECKS[answer.status_code in (501, 503) :])

    as_described()


def doors_of(app: str) -> Doors:
    """Return the doors of an app that knows no people: a worker registers by a secret of another kind."""
    opened = (*SHARED, "/api/worker/register")
    return lambda route: "key" if app == "worker" and not route.endswith(opened) else "open"


@pytest.mark.parametrize("app", ["public", "worker", "telemetry"])
async def test_people_get_no_more_from_the_other_apps_than_anybody(
    platform: Platform, callers: dict[str, Caller], app: str
) -> None:
    async with TelemetryServer(platform.settings) as server:
        url = httpx.URL(server.url) if app == "telemetry" else getattr(platform, app).base_url
        paths = (await platform.public.get(url.join("/openapi.json"))).raise_for_status().json()["paths"]
        routes = [f"{method.upper()} {path}" for path, operations in paths.items() for method in operations]
        for name, caller in callers.items():
            found = await wrongly(caller, url, routes, doors_of(app))
            if app == "public" and name == "wrong token":  # the public app knows people: a token that nobody has is refused
                found = [one for one in found if " answers 401, " not in one]
            assert found == [], name


@pytest.mark.parametrize("app", ["admin", "public", "worker"])
async def test_every_answer_to_everybody_is_described(platform: Platform, callers: dict[str, Caller], app: str) -> None:
    """That of the telemetry app, which knows nobody, is judged by `tests/contract/test_telemetry_schema.py`."""
    door = ROUTES.__getitem__ if app == "admin" else doors_of(app)
    await asyncio.to_thread(judge, getattr(platform, app).base_url, callers, door)


async def test_a_caller_with_the_right_is_let_in(platform: Platform, callers: dict[str, Caller]) -> None:
    for name, caller in callers.items():
        allowed = [route for route, door in ROUTES.items() if not caller.refused_at(door)]
        allowed.sort(key=lambda route: route.endswith("/logout"))  # ends the session of the test
        assert await wrongly(caller, platform.admin.base_url, allowed, ROUTES.__getitem__) == [], name
