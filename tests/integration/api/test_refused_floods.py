"""Floods of wrong secrets on the real platform: few events, bounded memory, and the honest caller beside them is served."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import quantiles
from time import monotonic
from typing import Any

import httpx
import psutil
from pydantic import SecretStr

from api.telemetry.insights import INSIGHTS
from events.access import AccessRefused
from infra.runtime.settings import Settings
from tests.support.log import read_topic
from tests.support.platform import Platform, beside
from tests.support.telemetry_server import TelemetryServer
from tests.support.waiting import eventually

FLOOD = 10_000
CONNECTIONS = 8
AHEAD = 50
"""Requests sent before their answers are read."""
GROWTH_BYTES = 64 * 2**20
LONGEST_S = 5.0
"""For this machine when it is busy; `test_a_flood…` prints the p99."""


def attacks(addresses: Sequence[str]) -> Iterator[bytes]:
    for number in range(FLOOD):
        address = addresses[number % len(addresses)]
        head = f"GET /api/jobs?limit={number % 90 + 1} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer kt_{number}\r\n"
        yield f"{head}X-Forwarded-For: {address}\r\n\r\n".encode()


async def flood(port: int, requests: Iterator[bytes]) -> Counter[bytes]:
    """Send requests over some connections; return the number of each status."""
    statuses: Counter[bytes] = Counter()

    async def attacker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while batch := [*islice(requests, AHEAD)]:
            writer.write(b"".join(batch))
            for _ in batch:
                head = await reader.readuntil(b"\r\n\r\n")
                statuses[head.split(b" ", 2)[1]] += 1
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(attacker() for _ in range(CONNECTIONS)))
    return statuses


async def honest(http: httpx.AsyncClient, seconds: list[float]) -> None:
    """Ask again and again, and note how long each answer took."""
    while True:
        began = monotonic()
        (await http.get("/api/jobs")).raise_for_status()
        seconds.append(monotonic() - began)


async def refused(settings: Settings) -> list[tuple[Any, AccessRefused]]:
    """Return the envelopes and events of topic `access`."""
    found = [one.envelope for one in await read_topic(settings, "access")]
    return [(envelope, envelope.data) for envelope in found if isinstance(envelope.data, AccessRefused)]


async def test_a_flood_of_wrong_tokens_makes_few_events_and_the_honest_caller_is_served(settings: Settings) -> None:
    one, many = ["192.0.2.1"], [f"198.51.{number // 250}.{number % 250}" for number in range(FLOOD)]
    async with Platform(settings, workers=0, trusted_proxies=("127.0.0.1/32",)) as platform:
        process = psutil.Process(platform.processes["admin"].pid)
        before, began, seconds = process.memory_info().rss, monotonic(), list[float]()
        serving = asyncio.create_task(honest(platform.admin, seconds))
        from_one = await flood(platform.port_of("admin"), attacks(one))
        from_many = await flood(platform.port_of("admin"), attacks(many))
        took_s, growth = monotonic() - began, process.memory_info().rss - before
        assert not serving.done(), serving.exception()
        serving.cancel()
        await platform.retire("admin")
        events = await refused(platform.settings)
    assert from_one.total() == from_many.total() == FLOOD and from_many == {b"401": FLOOD}
    assert from_one[b"401"] >= 300 and from_one[b"429"] > FLOOD / 2
    kinds = {(event.status, event.reason) for _, event in events}
    assert kinds == {(401, "wrong_token"), (429, "too_many_attempts")}
    assert len(events) <= len(kinds) * (2 + took_s // 60), "the first, one a minute, and the last at the app's end"
    assert sum(event.count for _, event in events) == 2 * FLOOD, "and none is missing"
    assert not [envelope for envelope, _ in events if one[0] in str(envelope) or "198.51." in str(envelope)]
    assert growth < GROWTH_BYTES
    p99 = quantiles(seconds, n=100)[98]
    assert p99 < LONGEST_S
    print(f"{2 * FLOOD} refusals in {took_s:.0f} s: {len(events)} events, {growth / 2**20:.1f} MiB, p99 {1000 * p99:.0f} ms")


async def test_a_wrong_token_at_the_public_app_is_on_the_log(platform: Platform) -> None:
    async with beside(platform, "public", metrics_token=SecretStr("right")) as http:
        for _ in range(20):
            answer = await http.get("/metrics", headers={"Authorization": "Bearer wrong"})
            assert answer.status_code == 401
        events = await eventually(lambda: refused(platform.settings), lambda found: any(e.route == "/metrics" for _, e in found))
    ((envelope, event),) = [(envelope, event) for envelope, event in events if event.route == "/metrics"]
    assert (event.reason, event.app, event.count) == ("metrics_token", "public", 1)
    assert envelope.actor == "system:public" and envelope.client and "127.0.0.1" not in str(envelope)


async def test_of_a_node_beyond_its_limit_the_log_has_a_hash_and_no_address(platform: Platform) -> None:
    limits = {"telemetry_requests_per_minute": 1, "telemetry_burst": 1}
    async with TelemetryServer(platform.settings, **limits) as server, httpx.AsyncClient(base_url=server.url) as http:
        answers = [(await http.get(INSIGHTS)).status_code for _ in range(5)]
        assert answers[1:] == [429] * 4
        events = await eventually(lambda: refused(platform.settings), lambda found: any(e.app == "telemetry" for _, e in found))
    ((envelope, event),) = [(envelope, event) for envelope, event in events if event.app == "telemetry"]
    assert event == AccessRefused(app="telemetry", method="GET", route=INSIGHTS, status=429, reason="rate_telemetry")
    assert envelope.actor == "system:telemetry" and envelope.client and "127.0.0.1" not in str(envelope)
