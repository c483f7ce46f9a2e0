"""Whatever stands in an address, a query or a header: no route of any app answers that something is wrong with Kinolog."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from infra.runtime.settings import Settings
from tests.support.platform import Platform
from tests.support.telemetry_server import TelemetryServer

VALUES = (
    *("", "%00", "a%00b", "%ED%A0%80", "%C0%80", "%FF%FE", "%F4%90%80%80", "%E2%80%AE", "%0D%0AX-Evil:1", "%", "%zz", "a" * 4000),
    *("NaN", "Infinity", "-0", "-1", "1e999", "9" * 30, str(2**31), str(2**63), str(2**64), "9" * 5000, "0x10", "1_0", "%D9%A1"),
    *("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "0000-01-01", "1969-12-31T23:59:59.999Z", "2026-02-30", "24:00"),
    *("videos:0=" + "9" * 30, "videos:0=-1", "videos:" + "9" * 30 + "=1", "nope:0=1", "videos:0=1;videos:0=2", "%D9%A1:0=1"),
    *("'%22;--", "${jndi:x}", "..%2F..%2Fetc%2Fpasswd", "%5B%5D", "null", "true", "{}", "%25", "*"),
    # cursors: base64 of JSON whose parts are no time and no id
    *("WyJcdWQ4MDAiLCAiXHVkODAwIl0", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIlx1ZDgwMCJd", "WyIyMDI2LTAxLTAxIiwgIlx1MDAwMCJd"),
    *("WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwgImEiXQ", "WyI5OTk5LTEyLTMxVDIzOjU5OjU5LTE0OjAwIiwgImEiXQ", "W1sxXSwgMl0", "bnVsbA"),
    *("WyIyMDI2LTAxLTAxIiwgMV0", "W" * 200, "W1tbW1tb" * 20),
)
HEADERS: dict[str, tuple[bytes, ...]] = {
    "Range": (
        b"bytes=-",
        b"bytes=5-1",
        b"bytes=" + b"9" * 4000 + b"-",
        b"bytes=-" + b"9" * 18,
        b"bytes=0-0,1-1",
        b"chars=0-1",
        b"\xff",
    ),
    "If-None-Match": (b"", b"*", b"\xff\xfe", b'"' * 999, b"W/" * 999),
    "If-Range": (b"", b"\xff", b"Sat, 99 Foo 0000 99:99:99 GMT"),
    "Accept-Encoding": (b"\xff", b"gzip;q=nan", b"gzip;q=" + b"9" * 999, b"," * 999, b"*;q=0"),
    "Accept": (b"\xff", b"text/html;q=1e999", b"*" * 999),
    "Accept-Language": (b"\xff", b"x" * 999),
    "X-Min-Position": (b"\xff", b"videos:0=" + b"9" * 30, b"videos:0=-1", b"videos:" + b"9" * 4000 + b"=1", b"nope:0=1"),
    "Last-Event-ID": (b"\xff", b"jobs:0=" + b"9" * 30, b"x" * 4000),
    "Authorization": (b"", b"Bearer", b"Bearer \xff", b"Basic \xff", b"Bearer " + b"x" * 9000),
    "X-Worker-API-Key": (b"\xff" * 43, b"x" * 9000),
    "X-Join-Token": (b"\xff" * 43,),
    "X-Admin-Secret": (b"\xff" * 43,),
    "Content-Type": (
        b"\xff",
        b"multipart/form-data; boundary=" + b"a" * 5000,
        b"multipart/form-data; boundary=\xff",
        b"text/plain;charset=\xff",
    ),
    "Content-Encoding": (b"\xff", b"gzip, gzip"),
    "Cookie": (b"\xff", b"=;" * 999),
    "X-Forwarded-For": (b"\xff", b"," * 999, b"999.1.1.1", b"::1%\xff"),
    "Forwarded": (b"\xff", b'for="' * 99, b"for=,for=;;="),
    "Expect": (b"nothing",),
    "Upgrade": (b"websocket", b"h2c"),
    "Connection": (b"\xff", b"upgrade, close"),
    "Traceparent": (b"\xff",),
}
WHOLE = "0192f0c0-0000-7000-8000-000000000000"
"""A value for parameters that are not the one that is tried."""
AT_ONCE = 16
CLIENTS = 100
"""Each has an address of its own, so that no limit stands before what is tried."""


def requests(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Yield (method, target, headers): each operation with each bad value in each place, the others as they should be."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", ())
            in_path = [one["name"] for one in parameters if one["in"] == "path"]
            sound = dict.fromkeys(in_path, WHOLE)
            queries = {one["name"] for one in parameters if one["in"] == "query"} | {"as_of", "nothing"}
            for value in VALUES:
                for name in in_path:
                    if value and len(value) < 4096:
                        yield method, path.format(**sound | {name: value}), {}
                if method in ("get", "head"):
                    yield from ((method, f"{path.format(**sound)}?{name}={value}", {}) for name in queries)
            if method in ("get", "head"):
                yield from ((method, f"{path.format(**sound)}?{name}=a&{name}=b&{name}", {}) for name in queries)
            for header, values in HEADERS.items():
                yield from ((method, path.format(**sound), {header: value}) for value in values)


async def faults(url: str, headers: dict[str, str]) -> tuple[Counter[int], list[str]]:
    """Ask everything, as many clients; return how often each status came, and what was answered with 5xx or not at all."""
    statuses: Counter[int] = Counter()
    found: list[str] = []
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.AsyncHTTPTransport(local_address=f"127.0.77.{n + 1}"), headers=headers, timeout=60
                )
            )
            for n in range(CLIENTS)
        ]
        document = (await clients[0].get(f"{url}/openapi.json")).raise_for_status().json()
        waiting = deque(enumerate(requests(document)))

        async def ask_on() -> None:
            while waiting:
                number, (method, target, more) = waiting.popleft()
                raw = quote(target, safe="/?&=%:;,*+-_.~!$'()@[]{}").encode()
                request = clients[number % CLIENTS].build_request(method, url, headers=more)
                request.url = httpx.URL(url).copy_with(raw_path=raw)
                answer = await clients[number % CLIENTS].send(request, stream=True)
                statuses[answer.status_code] += 1
                if answer.status_code >= 500:
                    found.append(f"{answer.status_code} {method} {target[:200]} {str(more)[:150]} {(await answer.aread())[:200]!r}")
                await answer.aclose()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask_on())
    return statuses, found


@pytest.mark.parametrize("name", ["public", "admin", "worker"])
async def test_bad_input_is_nobodys_bug(platform: Platform, name: str) -> None:
    http: httpx.AsyncClient = getattr(platform, name)
    statuses, found = await faults(str(http.base_url).rstrip("/"), dict(http.headers))
    print(name, statuses)
    assert not found, "\n".join(found[:40])
    assert statuses.total() > 1000 and statuses[429] < statuses.total() / 10


async def test_bad_input_is_nobodys_bug_in_telemetry(settings: Settings) -> None:
    async with TelemetryServer(settings) as server:
        statuses, found = await faults(server.url, {})
        insights = [one for one in found if "there are no insights yet" in one]
        print(statuses, len(insights))
        assert found == insights, "\n".join(found[:40])
        assert not {"Traceback", "ingest_failed"} & set(server.log().split())
