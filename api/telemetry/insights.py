"""`GET /api/v1/stats/insights`: the predecessor's insights, answered from bytes made when the projection moves.

The predecessor's page depends on some behaviour that contradicts its text; it is kept, and `documents` describes it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from psycopg import Error as PostgresError
from psycopg_pool import PoolTimeout, TooManyRequests
from starlette.responses import Response

from api.compression import BYTES_MIN, ENCODINGS, preferred, weak
from events.errors import Retryable, Stalled
from events.pulse import Pulse
from projections.telemetry.insights import Insights

INSIGHTS = "/api/v1/stats/insights"
REFRESH_S = 0.5
"""Pause between two looks at the projection: with the time of a look, less than a second behind."""
MAX_AGE_S = 1

log = structlog.get_logger(__name__)


class Prepared(Response):
    """An answer without a variable part, whose bytes are made once."""

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: bytes = b"") -> None:
        super().__init__(body or None, status, headers)
        self.status_line = f"HTTP/1.1 {status} {reason}\r\n".encode()
        self.fields = b"".join(name + b": " + value + b"\r\n" for name, value in self.raw_headers)


Variants = Mapping[str | None, Prepared]
"""An answer by its content encoding; None for the bytes as they are."""


@dataclass(frozen=True)
class Snapshot:
    """The answers to clients that have, or have not, seen this state. `position` is that of the projection."""

    full: Variants
    head: Variants
    unchanged: Prepared
    etag: bytes
    position: str

    @classmethod
    def of(cls, insights: Insights, position: str, headers: dict[str, str]) -> "Snapshot":
        """Make the answers. The entity tag is a digest of the document, the same for all its encodings, so a weak one."""
        tag = f'"{hashlib.sha256(insights.document).hexdigest()[:32]}"'
        known = {**headers, "etag": weak(tag), "cache-control": f"public, max-age={MAX_AGE_S}", "x-log-position": position}
        known["vary"] = "Accept-Encoding"
        full: dict[str | None, Prepared] = {}
        head: dict[str | None, Prepared] = {}
        for encoding in (None, *ENCODINGS):
            body, described = insights.document, {**known, "content-type": "application/json"}
            if encoding is not None and len(body) >= BYTES_MIN:
                body, described["content-encoding"] = ENCODINGS[encoding](body), encoding
            full[encoding] = Prepared(200, "OK", described, body)
            head[encoding] = Prepared(200, "OK", {**described, "content-length": str(len(body))})
        return cls(full, head, Prepared(304, "Not Modified", known), tag.encode(), position)

    def answer(self, method: str, if_none_match: bytes | None, accept_encoding: bytes = b"") -> Prepared:
        """Return the answer to GET or HEAD."""
        if if_none_match is not None and (self.etag in if_none_match or if_none_match.strip() == b"*"):
            return self.unchanged
        return (self.full if method == "GET" else self.head)[preferred(accept_encoding.decode("latin-1"))]


Look = Callable[[str | None], Awaitable[tuple[Insights, str] | None]]
"""Returns the insights and their position; None when the position is unchanged."""


class Snapshots:
    """Holds the present snapshot. While the database is away the last one stays; before the first there is none."""

    def __init__(
        self, look: Look, headers: dict[str, str], observe_capped: Callable[[str, int], None] = lambda label, count: None
    ) -> None:
        self._look = look
        self._headers = headers
        self._observe_capped = observe_capped
        self.current: Snapshot | None = None

    async def follow(self, pulse: Pulse) -> None:
        """Look again and again, for ever."""
        away = False
        while True:
            try:
                async with pulse.limited():
                    await self.refresh()
                away = False
            except (PostgresError, PoolTimeout, TooManyRequests, Retryable, Stalled) as error:
                if not away:
                    log.warning("insights_unavailable", error=type(error).__name__)
                away = True
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Look once."""
        found = await self._look(self.current.position if self.current else None)
        if found is not None:
            insights, position = found
            self.current = Snapshot.of(insights, position, self._headers)
            for label, count in insights.capped.items():
                self._observe_capped(label, count)
