"""Answers are compressed as their client can take them; what streams, and parts, go as they are."""

import gzip
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from api import compression
from api.compression import Compressed, preferred
from api.public import pages
from tests.support.apps import client, make
from tests.support.every_app import APPS

TEXT = b"#EXTINF:6.000000,\n" * 100
UNPACK: dict[str, Callable[[bytes], bytes]] = {"zstd": zstandard.ZstdDecompressor().decompress, "gzip": gzip.decompress}


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP ; q=0.5", "gzip"),
        ("zstd;q=0, gzip;q=1.0", "gzip"),
        ("zstd;q=0.000,gzip;q=0", None),
        ("*", "zstd"),
        ("*;q=0", None),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0.001", "gzip"),
    ],
)
def test_the_encoding_is_one_that_the_client_takes(accepted: str, chosen: str | None) -> None:
    assert preferred(accepted) == chosen


@given(st.text(max_size=60))
def test_no_header_breaks_the_choice(accepted: str) -> None:
    assert preferred(accepted) in (None, "zstd", "gzip")


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("encoding", [*UNPACK, None])
async def test_every_app_compresses_what_is_large(name: str, encoding: str | None) -> None:
    async with client(APPS[name]()) as http:
        plain = await raw(http, "/openapi.json", None)
        answer = await raw(http, "/openapi.json", encoding)
    assert answer["content-encoding"] == encoding
    assert answer["vary"] == plain["vary"] == "Accept-Encoding"
    assert int(answer["content-length"]) == len(answer["body"])
    assert unpacked(answer) == plain["body"] and (encoding is None or 4 * len(answer["body"]) < len(plain["body"]))


async def test_scripts_are_packed_once_and_known_by_a_tag_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []
    pack = compression.ENCODINGS["zstd"]

    def counted(body: bytes) -> bytes:
        packed.append(len(body))
        return pack(body)

    monkeypatch.setitem(compression.ENCODINGS, "zstd", counted)
    async with client(make("public")) as http:
        for _ in range(3):
            answer = await raw(http, "/assets/vendor/hls.js", "zstd")
        known = await raw(http, "/assets/vendor/hls.js", "gzip", **{"If-None-Match": answer["etag"]})
        plain = await raw(http, "/assets/vendor/hls.js", None)
    assert packed == [pages.VENDOR["hls.js"].stat().st_size]
    assert unpacked(answer) == pages.VENDOR["hls.js"].read_bytes() == plain["body"]
    assert answer["etag"] == plain["etag"] == known["etag"] and answer["etag"].startswith("W/")
    assert (known["status"], known["body"]) == (304, b"")


def answering(response: Response) -> Compressed:
    """Return an app that answers so."""

    async def route(request: Request) -> Response:
        return response

    return Compressed(Starlette(routes=[Route("/", route)]))


async def raw(http: httpx.AsyncClient, path: str, encoding: str | None, **headers: str) -> dict[str, Any]:
    """Ask; return status, headers and the body as it came."""
    async with http.stream("GET", path, headers={"Accept-Encoding": encoding or "identity", **headers}) as answer:
        body = b"".join([part async for part in answer.aiter_raw()])
    named = ("content-encoding", "content-length", "vary", "etag", "content-range")
    return {"status": answer.status_code, "body": body} | {name: answer.headers.get(name) for name in named}


def unpacked(answer: Mapping[str, Any]) -> bytes:
    body: bytes = answer["body"]
    return UNPACK[answer["content-encoding"]](body) if answer["content-encoding"] else body


async def pieces() -> Any:
    for _ in range(3):
        yield TEXT


@pytest.mark.parametrize(
    "response",
    [
        StreamingResponse(pieces(), media_type="text/event-stream"),
        StreamingResponse(pieces(), media_type="text/vtt"),
        Response(TEXT, 206, {"Content-Range": "bytes 0-1799/9999"}, media_type="text/vtt"),
        Response(TEXT, media_type="video/mp4"),
        Response(TEXT, media_type="image/jpeg"),
        Response(TEXT, headers={"Content-Encoding": "br"}, media_type="text/plain"),
        Response(b"short", media_type="text/plain"),
        Response(status_code=304, headers={"ETag": '"x"'}),
        Response(status_code=204),
    ],
    ids=["live events", "stream", "range", "media", "picture", "compressed already", "short", "not modified", "nothing"],
)
async def test_what_streams_or_is_small_already_goes_as_it_is(response: Response) -> None:
    async with client(answering(response)) as http:
        answer = await raw(http, "/", "zstd, gzip")
    assert answer["content-encoding"] == response.headers.get("content-encoding")
    assert answer["etag"] == response.headers.get("etag")
    if not isinstance(response, StreamingResponse):
        assert answer["body"] == response.body


async def test_a_strong_tag_becomes_weak_only_where_the_bytes_change() -> None:
    async with client(answering(Response(TEXT, headers={"ETag": '"tag"'}, media_type="application/vnd.apple.mpegurl"))) as http:
        assert (await raw(http, "/", None))["etag"] == '"tag"'
        assert (await raw(http, "/", "gzip"))["etag"] == 'W/"tag"'


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["gzip", "zstd"])), max_size=30))
async def test_what_is_kept_is_bounded_and_never_another_answer(asked: list[tuple[int, str]]) -> None:
    bodies = [bytes([65 + n]) * (1000 + n) for n in range(6)]

    async def route(request: Request) -> Response:
        n = int(request.query_params["n"])
        return JSONResponse(None) if n > 5 else Response(bodies[n], headers={"ETag": f'"{n}"'}, media_type="text/plain")

    app = Compressed(Starlette(routes=[Route("/", route)]), kept_bytes_max=60)
    async with client(app) as http:
        for n, encoding in asked:
            assert unpacked(await raw(http, f"/?n={n}", encoding)) == bodies[n]
            assert sum(map(len, app._kept.values())) == app._kept_bytes <= 60
