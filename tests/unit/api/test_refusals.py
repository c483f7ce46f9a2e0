"""Refusals leave events in every app: the first of a kind at once, the others summed up, and few of a flood."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.refusals import ANY, KINDS_MAX, Refusal, Refusals, access_refused
from api.telemetry.insights import INSIGHTS
from events.access import AccessRefused
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from infra.runtime.clock import system_context
from tests.support import telemetry
from tests.support.apps import client, make
from tests.support.waiting import eventually

WRONG = {"Authorization": "Bearer kt_wrong"}


class Taken:
    """The events of an app, and a log that may be away."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope[Event]] = []
        self.away = False

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> list[Any]:
        if self.away:
            raise LogUnavailable("away")
        self.envelopes += envelopes
        return []

    @property
    def events(self) -> list[AccessRefused]:
        return [envelope.data for envelope in self.envelopes if isinstance(envelope.data, AccessRefused)]


async def hashed(address: str) -> str:
    return f"hash of {address}"


def refusals(taken: Taken) -> Refusals:
    return Refusals(taken.append, lambda: system_context("test"), hashed, partial(access_refused, "admin"))


def refusal(number: int = 0, who: object = None, reason: str = "wrong_token") -> Refusal:
    return Refusal(who, "GET", f"/api/{number}", 401, reason)


async def test_equal_refusals_are_one_event_and_their_sum() -> None:
    taken = Taken()
    noted = refusals(taken)
    for number in range(10_000):
        await noted.note(refusal(number), f"10.0.{number // 250}.{number % 250}")
    assert [(event.route, event.count) for event in taken.events] == [("/api/0", 1)]
    await noted.close()
    assert [(event.route, event.count) for event in taken.events] == [("/api/0", 1), (ANY, 9_999)]
    await noted.close()
    assert sum(event.count for event in taken.events) == 10_000


async def test_the_refusals_of_somebody_known_name_their_routes() -> None:
    taken = Taken()
    noted = refusals(taken)
    for number in (1, 2, 1):
        await noted.note(refusal(number, "user:anna"), "10.0.0.1")
    await noted.note(refusal(1, "user:bob"), "10.0.0.1")
    assert [event.route for event in taken.events] == ["/api/1", "/api/2", "/api/1"]
    await noted.close()
    assert [(event.route, event.count) for event in taken.events[3:]] == [("/api/1", 1)]


async def test_memory_and_events_are_bounded_whatever_comes() -> None:
    taken = Taken()
    noted = refusals(taken)
    for number in range(5 * KINDS_MAX):
        await noted.note(refusal(number, "user:anna"), "10.0.0.1")
    assert len(taken.events) == KINDS_MAX + 1
    await noted.close()
    assert sum(event.count for event in taken.events) == 5 * KINDS_MAX


async def test_a_log_that_is_away_fails_no_request() -> None:
    taken = Taken()
    taken.away = True
    noted = refusals(taken)
    await noted.note(refusal(), "10.0.0.1")
    taken.away = False
    await noted.note(refusal(), "10.0.0.1")
    await noted.close()
    assert [event.count for event in taken.events] == [1]


def app_of(name: str, taken: Taken) -> FastAPI:
    """Return an app that lets one request a minute pass."""
    if name == "telemetry":
        return telemetry.make(telemetry.Log(), per_minute=1, burst=1, append=taken.append)
    options: dict[str, Any] = {"requests_per_minute": 1} | ({"rates": {}} if name == "public" else {})
    return make(name, append=taken.append, **options)


@pytest.mark.parametrize(
    ("name", "path", "reason"),
    [
        ("public", "/api/nothing", "rate_reading"),
        ("admin", "/api/nothing", "rate_reading"),
        ("telemetry", INSIGHTS, "rate_telemetry"),
        ("telemetry", "/api/nothing", "rate_telemetry"),
    ],
)
async def test_requests_beyond_a_limit_leave_an_event_in_every_app(name: str, path: str, reason: str) -> None:
    taken = Taken()
    async with client(app_of(name, taken)) as http:
        answers = [await http.get(path) for _ in range(5)]
    assert [answer.status_code for answer in answers[1:]] == [429] * 4
    await eventually(lambda: taken.events, bool)
    assert [(event.app, event.status, event.reason) for event in taken.events] == [(name, 429, reason)]
    assert "127.0.0.1" not in str(taken.envelopes)


@pytest.mark.parametrize("name", ["public", "admin", "telemetry"])
async def test_an_app_that_ends_records_what_it_has_only_counted(name: str) -> None:
    """The server asks for the end by ASGI's lifespan; code after it does not run, since uvicorn raises SIGTERM again."""
    taken = Taken()
    app = app_of(name, taken)
    async with client(app) as http:
        for _ in range(5):
            await http.get("/api/nothing")
    coming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, str]:
        return next(coming)

    async def send(message: Any) -> None:
        assert message["type"] in ("lifespan.startup.complete", "lifespan.shutdown.complete")

    await app({"type": "lifespan", "state": {}}, receive, send)
    assert sorted(event.count for event in taken.events) == [1, 3]


@pytest.mark.parametrize("name", ["public", "admin", "telemetry"])
async def test_wrong_tokens_for_metrics_leave_an_event(name: str) -> None:
    taken = Taken()
    app = app_of(name, taken) if name == "telemetry" else make(name, append=taken.append, metrics_token="right")
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.get("/metrics", headers=WRONG)).status_code == 401
    assert [(event.app, event.reason, event.route) for event in taken.events] == [(name, "metrics_token", "/metrics")]


@pytest.mark.parametrize("name", ["public", "admin"])
async def test_other_mistakes_are_no_refusals(name: str) -> None:
    taken = Taken()
    async with client(make(name, append=taken.append)) as http:
        assert (await http.get("/nothing")).status_code == 404
    assert taken.events == []
