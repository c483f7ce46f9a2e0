"""What surrounds every request: how often, how much, how slowly; what browsers get; what is measured."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.limits import Allowed, BodyLimited, RateLimited, TimeLimited, allowing
from tests.support.apps import Seen, client, make, make_worker
from tests.support.minutes import stop_the_minute

STILL_S = 0.05
PATIENCE_S = 60.0
"""No machine stops for so long."""
JSON = {"Content-Type": "application/json"}


def app() -> FastAPI:
    """An app that does what the limits are for."""
    made = FastAPI()
    problems.install(made)

    @made.post("/json")
    async def take(body: dict[str, Any]) -> int:
        return len(str(body))

    @made.post("/file")
    @allowing(file=True)
    async def stream(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    @made.post("/join")
    @allowing(answer_s=PATIENCE_S)
    async def join() -> str:
        await asyncio.sleep(3 * STILL_S)
        return "joined"

    @made.post("/join/quickly")
    @allowing(answer_s=STILL_S)
    async def join_quickly() -> str:
        return await join()

    @made.get("/media/{name}")
    @allowing(rate="faults")
    async def media(name: str) -> None:
        if name == "none":
            raise HTTPException(404)

    @made.get("/slow")
    async def slow() -> None:
        await asyncio.Event().wait()

    return made


def limited(kind: Callable[..., ASGIApp], **limits: Any) -> ASGIApp:
    """The app within one kind of limit."""
    made = app()
    return Allowed(kind(made, **limits), routes=made.routes)


async def pieces(*data: bytes, then: Callable[[], Any] = lambda: asyncio.sleep(0)) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
    await then()


async def test_a_body_may_be_as_long_as_it_may_be() -> None:
    async with client(limited(BodyLimited, max_bytes=20, file_max_bytes=lambda: 40)) as http:
        assert (await http.post("/json", content=b'{"a":"aaaaaaaaaaaa"}', headers=JSON)).status_code == 200
        for body in (b'{"a":"aaaaaaaaaaaaa"}', pieces(b'{"a":"', b"a" * 13, b'"}')):
            answer = await http.post("/json", content=body, headers=JSON)
            assert (answer.status_code, answer.headers["content-type"]) == (413, problems.TYPE)
            assert answer.json()["detail"] == "the body is longer than 20 bytes"
            assert answer.headers["connection"] == "close"
        assert (await http.post("/file", content=b"x" * 40)).json() == 40
        assert (await http.post("/file", content=pieces(b"x" * 40, b"x"))).status_code == 413


async def test_an_answer_that_does_not_begin_ends_as_a_problem() -> None:
    async with client(limited(TimeLimited, answer_s=STILL_S)) as http:
        answer = await http.get("/slow")
        assert (answer.status_code, answer.headers["content-type"]) == (503, problems.TYPE)
        assert answer.headers["retry-after"] == "5"


async def test_a_route_may_declare_how_long_its_answer_may_take() -> None:
    async with client(limited(TimeLimited, answer_s=STILL_S)) as http:
        assert (await http.post("/join")).json() == "joined"
    async with client(limited(TimeLimited, answer_s=PATIENCE_S)) as http:
        assert (await http.post("/join/quickly")).status_code == 503


def test_every_app_declares_its_files_and_joins() -> None:
    """Routes whose body is a file, and those that take longer: an upload of 20 GB fails without."""
    assert declared(make("public")) == set()
    assert declared(make("admin")) == {("/api/videos", "file"), ("/api/uploads/{video_id}/complete", "600 s")}
    assert declared(make_worker()) == {
        ("/api/worker/upload/{job_id}/segment/{quality}/{filename}", "file"),
        ("/api/worker/upload/{job_id}/file/{filename}", "file"),
        ("/api/worker/upload/{job_id}/archive", "file"),
        ("/api/worker/claim", "60 s"),
        ("/api/worker/{job_id}/part", "60 s"),
        ("/api/worker/{job_id}/complete", "60 s"),
    }


def declared(app: FastAPI) -> set[tuple[str, str]]:
    found = set()
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            allowance = Allowed(app, routes=app.routes).of({"type": "http", "method": method.upper(), "path": path, "headers": []})
            if allowance.file or allowance.answer_s:
                found.add((path, "file" if allowance.file else f"{allowance.answer_s:g} s"))
    return found


async def test_an_answer_that_has_begun_takes_as_long_as_it_takes() -> None:
    """It begins in the turn of the event loop in which it is asked for: however busy the machine is, that is in time."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in (True, True, False):
            await asyncio.sleep(STILL_S)
            await send({"type": "http.response.body", "body": b"x", "more_body": more})

    async with client(TimeLimited(answer, answer_s=STILL_S)) as http:
        assert (await http.get("/long")).text == "xxx"


async def test_a_body_that_stops_coming_is_given_up() -> None:
    async with client(limited(TimeLimited, silence_s=STILL_S)) as http:
        answer = await http.post("/file", content=pieces(b"x", then=asyncio.Event().wait))
        assert (answer.status_code, answer.headers["content-type"]) == (408, problems.TYPE)


async def test_a_form_may_take_its_time() -> None:
    async with client(limited(TimeLimited, answer_s=STILL_S, silence_s=PATIENCE_S)) as http:
        answer = await http.post("/file", content=pieces(b"x", then=lambda: asyncio.sleep(3 * STILL_S)))
        assert answer.json() == 1


async def test_who_stops_reading_is_left() -> None:
    """The server's `send` waits while its buffer is full; the app must not wait with it for ever."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    with pytest.raises(TimeoutError):
        await TimeLimited(answer, silence_s=STILL_S)({"type": "http", "method": "GET", "path": "/"}, receive, send)


async def test_requests_are_counted_per_address_and_media_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    around = limited(RateLimited, per_minute=lambda kind: 2)
    async with client(around) as http:
        states = [(await http.post("/json", json={})).status_code for _ in range(4)]
        assert states == [200, 200, 429, 429]
        answer = await http.post("/json", json={})
        assert answer.headers["retry-after"] == "30"
        assert answer.json()["status"] == 429
        assert (await http.get("/media/x")).status_code == 200
    other = httpx.ASGITransport(around, client=("10.0.0.2", 1))
    async with httpx.AsyncClient(transport=other, base_url="http://kinolog.example") as http:
        assert (await http.post("/json", json={})).status_code == 200


async def test_everything_is_measured_by_route_also_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    seen = Seen()
    async with client(make("admin", observer=seen, requests_per_minute=3), token=None) as http:
        health = await http.get("/health")
        await http.get("/api/jobs/x")
        await http.get("/api/jobs/y")
        await http.get("/nothing/here")
        await http.get("/api/jobs/z")
    assert len({seen.requests[0][4], len(health.content)}) == 1
    assert [request[:4] for request in seen.requests] == [
        ("admin", "GET", "/health", 200),
        ("admin", "GET", "/api/jobs/{job_id}", 401),
        ("admin", "GET", "/api/jobs/{job_id}", 401),
        ("admin", "GET", "unknown", 404),
        ("admin", "GET", "unknown", 429),
    ]
    assert seen.open == 0
    assert len(health.headers["x-request-id"]) == 36


async def test_browsers_load_nothing_from_elsewhere() -> None:
    async with client(make("public")) as http:
        answer = await http.get("/health")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    async with client(make("public", media_delivery="redirect", media_origin="https://media.example")) as http:
        policy = (await http.get("/health")).headers["content-security-policy"]
        assert policy.count("https://media.example") == 3
        assert "script-src 'self';" in policy


async def test_players_of_other_sites_may_read_the_public_app_only() -> None:
    async with client(make("public", requests_per_minute=1)) as http:
        for answer in (await http.get("/health"), await http.get("/nothing"), await http.get("/nothing")):
            assert answer.headers["access-control-allow-origin"] == "*"
        preflight = await http.options(
            "/media/x", headers={"Origin": "https://a.example", "Access-Control-Request-Headers": "range"}
        )
        assert preflight.status_code == 204
        assert "Range" in preflight.headers["access-control-allow-headers"]
    async with client(make("admin")) as http:
        assert "access-control-allow-origin" not in (await http.get("/health")).headers
