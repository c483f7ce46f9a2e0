"""Whatever stands in an address, a query, a header or a body: no route of any app answers that something is wrong with Kinolog.

Each app is asked as somebody who may ask: by an administrator, by a worker with a key, about things that are there.
"""

import asyncio
import copy
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api.problems import TYPE
from infra.runtime.settings import Settings
from tests.conftest import new_world
from tests.support import clips
from tests.support.gate import Worker, given_job
from tests.support.log import appending
from tests.support.platform import Platform, answers
from tests.support.remote import register
from tests.support.telemetry_server import TelemetryServer
from tests.support.waiting import eventually

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
"""A value for parameters that are not the one that is tried, where nothing is known that is there."""
BODIES = (
    *(b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"{}{}", b"NaN", b"[" * 100_000, b'{"a":' * 5000, b"\xef\xbb\xbf{}"),
    *(b'{"\\ud800": 1}', b'{"": {}}', b"1e999999", b"9" * 5000, b'{"__proto__": 1}'),
)
LEAVES = (
    *("null", "true", "-1", "0", "1.5", "1e999", str(2**63), str(2**64), "9" * 400, '""', '"\\u0000"', '"\\ud800"', '"\\u202e"'),
    *('"' + "x" * 9000 + '"', '"../../etc/passwd"', '"2026-02-30T25:61:61Z"', "[]", "{}", "[null]", '[{"a": {}}]'),
    "[" * 600 + "]" * 600,
)
"""JSON that replaces one value of a body."""
PAGES = {
    "/": {"get": {}},
    "/watch/{slug}": {"get": {"parameters": [{"name": "slug", "in": "path"}]}},
    "/assets/{name}": {"get": {"parameters": [{"name": "name", "in": "path"}]}},
}
"""What the public app's document does not have: it is for people."""
AT_ONCE = 16
CLIENTS = 100
"""Each has an address of its own, so that no limit stands before what is tried."""


Request = tuple[str, str, dict[str, bytes], bytes | None]
"""Method, target, headers, body."""


def bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[bytes]:
    """Yield bad bodies of an operation that takes JSON: whole ones, and the example with one value replaced."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return
    yield from BODIES
    sound = content["example"] if "example" in content else example(document, content["schema"])
    for path in leaves(sound):
        marked = copy.deepcopy(sound)
        inner = marked
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = "@here@"
        text = json.dumps(marked)
        yield from (text.replace('"@here@"', leaf).encode() for leaf in LEAVES)


def example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Return something that a schema allows, by its examples and defaults."""
    if "$ref" in schema:
        return example(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for given in ("example", "default", "const"):
        if schema.get(given) is not None:
            return schema[given]
    for several in ("examples", "enum"):
        if schema.get(several):
            return schema[several][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(document, schema[choice][0])
    match schema.get("type"):
        case "object":
            return {name: example(document, one) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [example(document, schema["items"])] if isinstance(schema.get("items"), dict) else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return WHOLE if schema.get("format") == "uuid" else "x"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a document that is not the whole of it."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def requests(document: dict[str, Any], there: Mapping[str, str]) -> Iterator[Request]:
    """Yield each operation with each bad value in each field, the others as they should be.

    `there` has values of parameters that name something; nothing that could be deleted is named with them.
    """
    for method, target, headers in heads(document, there):
        yield method, target, headers, None
    for path, operations in sorted(document["paths"].items(), key=lambda item: "rotate" in item[0]):  # a new key ends the old one
        for method, operation in operations.items():
            in_path = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
            target = path.format(**{name: there.get(name, WHOLE) for name in in_path})
            named = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one["name"] in there]
            query = "&".join(f"{name}={there[name]}" for name in named)
            for body in bodies(document, operation):
                yield method, f"{target}?{query}", {"Content-Type": b"application/json"}, body


def heads(document: dict[str, Any], there: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Yield the same without bodies."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", ())
            in_path = [one["name"] for one in parameters if one["in"] == "path"]
            sound = {name: there.get(name, WHOLE) if method in ("get", "head") else WHOLE for name in in_path}
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


async def faults(url: str, headers: dict[str, str], there: Mapping[str, str] | None = None) -> tuple[Counter[int], list[str]]:
    """Ask everything, as many clients; return how often each status came, and what was not refused as it should be."""
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
        document["paths"] |= PAGES if "/api/videos/{slug}" in document["paths"] else {}
        waiting = deque(enumerate(requests(document, there or {})))

        async def ask_on() -> None:
            while waiting:
                number, (method, target, more, body) = waiting.popleft()
                raw = quote(target, safe="/?&=%:;,*+-_.~!$'()@[]{}").encode()
                given = httpx.Headers([(name.encode(), value) for name, value in more.items()])
                request = clients[number % CLIENTS].build_request(method, url, headers=given, content=body)
                request.url = httpx.URL(url).copy_with(raw_path=raw)
                answer = await clients[number % CLIENTS].send(request, stream=True)
                statuses[answer.status_code] += 1
                if answer.status_code >= 500 or (answer.status_code >= 400 and not await is_explained(answer)):
                    said = f"{answer.headers.get('content-type')} {(await answer.aread())[:200]!r}" if method != "head" else ""
                    found.append(f"{answer.status_code} {method} {target[:200]} {str(more)[:150]} {(body or b'')[:150]!r} {said}")
                await answer.aclose()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask_on())
    return statuses, found


async def is_explained(answer: httpx.Response) -> bool:
    """Return whether a refusal is one for programs, in its envelope if there is one, or a page for a person who asked for one."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "application/json" and answer.request.url.path.startswith("/api/v1/analytics/"):
        return set(json.loads(await answer.aread())) == {"success", "error"}
    return kind == TYPE or (kind == "text/html" and answer.request.headers["accept"].startswith("text/html"))


@pytest.fixture(scope="module")
async def mine(engine: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """A platform of its own: what is asked of it pauses pools and changes videos."""
    async with Platform(new_world(engine, tmp_path_factory.mktemp("hostile")), supervised=True) as running:
        yield running


@pytest.fixture(scope="module")
async def there(mine: Platform) -> dict[str, str]:
    """Names of things that are there: a video with all that was made of it, its job, its worker."""
    video = await mine.ended(await mine.upload(clips.real_clips()["carphone"]))
    assert video["status"] == "ready"
    video_id, slug = str(video["video_id"]), str(video["slug"])
    job, *_ = (await mine.admin.get("/api/jobs", params={"video_id": video_id})).raise_for_status().json()["items"]
    ids = {name: str(job[name]) for name in ("job_id", "worker_id", "epoch")}
    return {"slug": slug, "which": video_id, "video_id": video_id, **ids}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["public", "admin", "worker"])
async def test_bad_input_is_nobodys_bug(mine: Platform, there: dict[str, str], name: str) -> None:
    http: httpx.AsyncClient = getattr(mine, name)
    headers = dict(http.headers)
    if name == "worker":  # behind the key: as one that holds a job
        held = Worker(mine, await register(mine))
        await mine.retire("worker-1")
        async with appending(mine.settings) as log:
            job = await given_job(log, held)
        headers, there = held.headers, there | {"job_id": job["job_id"]}
    statuses, found = await faults(str(http.base_url).rstrip("/"), headers, there)
    print(name, statuses)
    assert not found, "\n".join(found[:40])
    assert statuses.total() > 1000 and statuses[429] < statuses.total() / 10
    assert {process: mine.log(process).count("Traceback") for process in mine.names} == dict.fromkeys(mine.names, 0)


async def test_bad_input_is_nobodys_bug_in_telemetry(mine: Platform) -> None:
    """With jobs on the log: insights have rows."""
    async with TelemetryServer(mine.settings) as server, httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        ended = {
            "app_version": "1.0.0",
            "event_type": "job_finished",
            "status": "success",
            "encoder": "libx264",
            "speed_factor": 2.0,
        }
        for number in range(20):
            report = ended | {"hardware_model": f"Card {number % 2}", "resolution": "1080p", "video_codec": "h264"}
            (await http.post("/v1/event", json=report)).raise_for_status()
        await eventually(lambda: answers(http, "/api/v1/stats/insights"))
        statuses, found = await faults(server.url, {})
        print(statuses)
        assert not found, "\n".join(found[:40])
        assert not {"Traceback", "ingest_failed"} & set(server.log().split())
