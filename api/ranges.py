"""Objects of the store over HTTP, whole or in part: ETag, If-None-Match, Range, If-Range (RFC 9110)."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from fastapi import Response
from fastapi.responses import StreamingResponse

from api.problems import problem

UNKNOWN_TYPE = "application/octet-stream"
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Readable(Protocol):
    """The part of the object store that this module uses."""

    async def stat(self, key: str) -> Any: ...
    def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]: ...


async def answer(
    store: Readable,
    key: str,
    method: str,
    *,
    wanted: str | None,
    known: str | None = None,
    same: str | None = None,
    headers: Mapping[str, str],
) -> Response:
    """Answer with an object that never changes; `wanted`, `known`, `same`: Range, If-None-Match, If-Range.

    Raises ObjectMissing.
    """
    stat = await store.stat(key)
    etag = f'"{stat.etag}"'
    given = {**headers, "ETag": etag, "Accept-Ranges": "bytes"}
    if is_known(etag, known):
        return Response(status_code=304, headers=given)
    part = part_of(wanted, stat.size_bytes) if same is None or same.strip() == etag else None
    if part is not None and not part:
        given |= {"Content-Range": f"bytes */{stat.size_bytes}", "Cache-Control": "no-store"}
        return problem(416, f"the range begins after the end: there are {stat.size_bytes} bytes", headers=given)
    if part is not None:
        given["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{stat.size_bytes}"
    whole = range(stat.size_bytes)
    given |= {"Content-Length": str(len(whole if part is None else part)), "Content-Type": stat.content_type or UNKNOWN_TYPE}
    status = 200 if part is None else 206
    if method == "HEAD" or not whole:
        return Response(status_code=status, headers=given)
    if part is None:
        return StreamingResponse(store.stream(key), status, headers=given)
    return StreamingResponse(store.stream(key, part.start, len(part)), status, headers=given)


def is_known(etag: str, known: str | None) -> bool:
    """Return whether an If-None-Match header names this entity tag; weak and strong tags compare alike there."""
    return known is not None and (known.strip() == "*" or etag.removeprefix("W/") in known)


def part_of(wanted: str | None, size_bytes: int) -> range | None:
    """Return the bytes that a Range header wants: an empty range when it begins after the end, None for the whole object.

    Any other header than a single range of bytes is ignored, as RFC 9110 (14.2) says.
    """
    if wanted is None or not (match := _RANGE.fullmatch(wanted.strip())) or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size_bytes - int(last)), size_bytes)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size_bytes, int(last) + 1) if last else size_bytes)
