"""Manifests rendered before. One manifest of a two-hour film takes 50 ms and may be a megabyte, and every viewer wants it.

A manifest's content is never changed, only extended (`projections.catalog.Edition`): a rendering of an edition stays right
for ever and never needs invalidation. The least recently used ones are forgotten first.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

BYTES_MAX = 32 * 2**20


@dataclass(frozen=True)
class Rendering:
    """A manifest's bytes and their weak entity tag (RFC 9110, 8.8.3), which all encodings of the manifest share."""

    body: bytes
    etag: str


class Renderings:
    """Up to `bytes_max` of renderings."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Rendering] = OrderedDict()
        self._alone = asyncio.Lock()

    async def get(self, key: Hashable, render: Callable[[], Awaitable[str | None]]) -> Rendering | None:
        """Return the rendering under this key. It is rendered once, however many requests wait meanwhile. None is not kept."""
        if (kept := self._find(key)) is not None:
            return kept
        async with self._alone:  # rendering is bound by the processor: two at once would take twice as long
            if (kept := self._find(key)) is not None:
                return kept
            text = await render()
            return None if text is None else self._keep(key, text.encode())

    def _find(self, key: Hashable) -> Rendering | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def _keep(self, key: Hashable, body: bytes) -> Rendering:
        rendering = self._kept[key] = Rendering(body, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')
        self._bytes += len(body)
        while self._bytes > self._bytes_max:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.body)
        return rendering
