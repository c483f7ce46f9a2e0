"""One rule for the address that a request comes from, in every app; and who may read the metrics."""

from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.addresses import Addresses
from api.limits import Allowed, RateLimited
from tests.support.apps import TOKEN, make
from tests.support.every_app import APPS, LIMITED
from tests.support.minutes import stop_the_minute

PROXIES = (ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"), ip_network("fd00::/8"))
ADDRESSES = Addresses(PROXIES)


def scope(peer: str, **headers: str) -> dict[str, Any]:
    """A request from `peer`."""
    return {"client": (peer, 1), "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("192.0.2.1", {"x_forwarded_for": "198.51.100.1"}, "192.0.2.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("10.0.0.1", {"x_forwarded_for": "198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.1", {"x_forwarded_for": "203.0.113.9, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"),
        ("10.0.0.1", {"x_forwarded_for": "198.51.100.1, nonsense"}, "10.0.0.1"),
        ("10.0.0.1", {"x_forwarded_for": ""}, "10.0.0.1"),
        ("10.0.0.1", {"x_forwarded_for": "[2001:db8:1:2:3::4]:80"}, "2001:0db8:0001:0002"),
        ("fd00::1", {"x_forwarded_for": "198.51.100.1:80"}, "198.51.100.1"),
        ("10.0.0.1", {"forwarded": 'for=203.0.113.9, for="[2001:db8::1]:4711";proto=https'}, "2001:0db8:0000:0000"),
        ("10.0.0.1", {"forwarded": "proto=https;FOR=198.51.100.1;by=10.0.0.1"}, "198.51.100.1"),
        ("10.0.0.1", {"forwarded": "for=unknown"}, "10.0.0.1"),
        ("10.0.0.1", {"forwarded": "for=198.51.100.2", "x_forwarded_for": "198.51.100.1"}, "198.51.100.1"),
        ("192.0.2.1", {"forwarded": "for=198.51.100.1"}, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", {}, "2001:0db8:0001:0002"),
        ("::ffff:192.0.2.1", {}, "192.0.2.1"),
    ],
)
def test_the_address_is_the_last_one_that_can_be_believed(peer: str, headers: dict[str, str], address: str) -> None:
    assert ADDRESSES.of(scope(peer, **headers)) == address


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_nobody_chooses_an_address_by_what_stands_before_the_proxys_own_word(forwarded_for: str, forwarded: str) -> None:
    request = scope("10.0.0.1")
    request["headers"] += [(b"x-forwarded-for", forwarded_for.encode("latin-1")), (b"x-forwarded-for", b"192.0.2.7")]
    assert ADDRESSES.of(request) == "192.0.2.7"
    request["headers"] = [(b"forwarded", forwarded.encode("latin-1") + b",for=192.0.2.7")]
    assert ADDRESSES.of(request) == "192.0.2.7"


COUNTED = {"telemetry": "/api/v1/stats/insights"}
"""The path that is asked for in an app; else one that does not exist."""
BEHIND_A_PROXY = [f"192.0.2.{number}" for number in range(9)]


@pytest.mark.parametrize("name", LIMITED)
@pytest.mark.parametrize(
    ("trusted", "headers", "passed"),
    [
        ((), [{"X-Forwarded-For": address} for address in BEHIND_A_PROXY], 3),
        ((), [{"Forwarded": f"for={address}"} for address in BEHIND_A_PROXY], 3),
        ((ip_network("10.0.0.0/8"),), [{"X-Forwarded-For": address} for address in BEHIND_A_PROXY], 3),
        (PROXIES, [{"X-Forwarded-For": address} for address in BEHIND_A_PROXY], 9),
        (PROXIES, [{"Forwarded": f"for={address}"} for address in BEHIND_A_PROXY], 9),
        (PROXIES, [{"X-Forwarded-For": f"{address}, 192.0.2.7"} for address in BEHIND_A_PROXY], 3),
        (PROXIES, [{}] * 9, 3),
    ],
    ids=["untrusted", "untrusted, Forwarded", "other proxy", "trusted", "trusted, Forwarded", "chosen by the client", "no header"],
)
async def test_requests_are_counted_by_the_clients_address(
    name: str, trusted: Any, headers: list[dict[str, str]], passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback is believed only when it is named; then each viewer behind the proxy has a count of its own."""
    stop_the_minute(monkeypatch)
    transport = httpx.ASGITransport(LIMITED[name](3, trusted))
    async with httpx.AsyncClient(transport=transport, base_url="http://kinolog.example") as http:
        statuses = [(await http.get(COUNTED.get(name, "/nothing"), headers=each)).status_code for each in headers]
    assert statuses.count(429) == 9 - passed


@pytest.mark.parametrize("name", LIMITED)
async def test_every_429_of_every_route_says_when_to_come_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    app = LIMITED[name](1, ())
    refused = set()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://kinolog.example") as http:
        routes = [(path, method) for path, methods in app.openapi()["paths"].items() for method in methods]
        for path, method in routes * 3:
            answer = await http.request(method, path.replace("{", "").replace("}", ""))
            if answer.status_code == 429:
                refused.add(path)
                assert int(answer.headers["retry-after"]) >= 1, (method, path)
    free = {"/health", "/ready", "/v1/health", "/openapi.json"}
    assert {path for path, _ in routes} - refused <= free


@pytest.mark.parametrize("path", ["/media/x/1/y.m4s", "/assets/style.css", "/assets/vendor/hls.js", "/videos/x/master.m3u8"])
async def test_media_are_free_mistakes_about_them_are_limited_and_health_is_always_answered(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_the_minute(monkeypatch)
    status = 200

    async def answer(request: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=status)(request, receive, send)

    app = Allowed(RateLimited(answer, per_minute=lambda kind: 1000 if kind == "media" else 3), routes=make("public").routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kinolog.example") as http:
        assert {(await http.get(path)).status_code for _ in range(9)} == {200}
        status = 404
        assert [(await http.get(path)).status_code for _ in range(9)] == [404] * 3 + [429] * 6
        status = 200
        assert (await http.get("/nothing")).status_code == 200, "other requests have a count of their own"
        assert (await http.get("/health")).status_code == 200


@pytest.mark.parametrize("name", ["public", "admin"])
async def test_metrics_are_shown_to_this_machine_or_to_who_has_the_token(name: str) -> None:
    async def ask(client: str, token: str = "", **headers: str) -> int:
        transport = httpx.ASGITransport(make(name, metrics_token=token), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://kinolog.example") as http:
            return (await http.get("/metrics", headers=headers)).status_code

    assert await ask("127.0.0.1") == await ask("::1") == await ask("127.3.2.1") == 200
    assert await ask("192.0.2.1") == await ask("127.0.0.1", **{"X-Forwarded-For": "127.0.0.1"}) == 401
    assert await ask("127.0.0.1", Forwarded="for=192.0.2.1") == 401
    assert await ask("192.0.2.1", "secret", Authorization="Bearer secret") == 200
    assert await ask("127.0.0.1", "secret") == await ask("127.0.0.1", "secret", Authorization=f"Bearer {TOKEN}") == 401


@pytest.mark.parametrize("name", APPS)
async def test_no_answer_repeats_the_clients_host(name: str) -> None:
    app = APPS[name]()
    headers = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://kinolog.example") as http:
        for path in app.openapi()["paths"]:
            path = path.replace("{", "").replace("}", "") + "/"
            answer = await http.get(path, headers=headers)
            assert "evil.example" not in answer.text + str(answer.headers), path
