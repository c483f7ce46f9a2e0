"""Compress answers as far as their client accepts it (RFC 9110, 12.5.3), in every app: JSON, pages, scripts and manifests.

An answer that is complete in one message is compressed. A streamed answer stays as it is: media, ranges of media, live
events. An answer with an entity tag is compressed once and kept, because every viewer gets the same scripts and manifests.
The tag of a compressed answer is weak: good for If-None-Match, not for joining ranges.

We tried `starlette-compress` (2.0). It chooses by the declared type alone, so it also compresses stored objects that answer
ranges, keeps strong tags, and compresses a film's manifest anew for each of its viewers.
"""

import gzip
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache

import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BYTES_MIN = 500
"""Smaller answers fit into one packet uncompressed."""
KEPT_BYTES_MAX = 16 * 2**20
TYPES = frozenset(
    (
        *("application/json", "application/javascript", "application/xml", "application/x-ndjson", "application/openmetrics-text"),
        *("application/vnd.apple.mpegurl", "application/dash+xml", "image/svg+xml"),
    )
)
ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstandard.ZstdCompressor(level=6).compress(body),
    "gzip": lambda body: gzip.compress(body, compresslevel=6, mtime=0),
}
"""The first one that the client accepts is used."""


@lru_cache(maxsize=200)
def preferred(accepted: str) -> str | None:
    """Return the encoding of ours that an Accept-Encoding header prefers; None for uncompressed bytes."""
    wanted: dict[str, bool] = {}
    for item in accepted.lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";q=")
        wanted[coding] = weight.strip("0.") != "" or not weight
    return next((coding for coding in ENCODINGS if wanted.get(coding, wanted.get("*", False))), None)


def weak(etag: str) -> str:
    """Return the tag that all encodings of an answer share."""
    return etag if etag.startswith("W/") else f"W/{etag}"


class Compressed:
    """Compresses answers, and keeps up to `kept_bytes_max` of the tagged ones."""

    def __init__(self, app: ASGIApp, *, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._app = app
        self._kept_bytes_max = kept_bytes_max
        self._kept_bytes = 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        encoding = preferred(", ".join(Headers(scope=scope).getlist("accept-encoding")))
        start: Message | None = None

        async def pack(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _compressible(message):
                start = {**message, "headers": [*message["headers"]]}
                MutableHeaders(scope=start).add_vary_header("Accept-Encoding")
                return
            if start is not None:
                begun, start = start, None
                body = message.get("body", b"")
                if encoding is not None and len(body) >= BYTES_MIN and not message.get("more_body", False):
                    message = {**message, "body": self._packed(body, encoding, MutableHeaders(scope=begun))}
                await send(begun)
            await send(message)

        await self._app(scope, receive, pack)

    def _packed(self, body: bytes, encoding: str, headers: MutableHeaders) -> bytes:
        """Return the compressed body, and adjust the headers."""
        etag = headers.get("etag")
        packed = ENCODINGS[encoding](body) if etag is None else self._once(body, encoding, weak(etag))
        headers["content-encoding"], headers["content-length"] = encoding, str(len(packed))
        if etag is not None:
            headers["etag"] = weak(etag)
        return packed

    def _once(self, body: bytes, encoding: str, etag: str) -> bytes:
        if (packed := self._kept.get((etag, encoding))) is not None:
            self._kept.move_to_end((etag, encoding))
            return packed
        packed = self._kept[etag, encoding] = ENCODINGS[encoding](body)
        self._kept_bytes += len(packed)
        while self._kept_bytes > self._kept_bytes_max:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)
        return packed


def _compressible(start: Message) -> bool:
    """Return whether compressing an answer that begins so is worth it."""
    headers = Headers(raw=start["headers"])
    if start["status"] in (204, 206, 304) or "content-encoding" in headers or "content-range" in headers:
        return False
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return (kind.startswith("text/") and kind != "text/event-stream") or kind in TYPES or kind.endswith(("+json", "+xml"))
