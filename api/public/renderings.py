"""Manifests that were rendered before. Of a film of two hours one takes 50 ms and may be a megabyte, and every viewer wants it.

What a manifest is made of is never changed, only added to (`projections.catalog.Edition`): a rendering of an edition stays
right for ever, and nothing has to be told that it is outdated. Those not asked for longest are forgotten first.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

BYTES_MAX = 32 * 2**20


@dataclass(frozen=True)
class Rendering:
    """A manifest's bytes and its entity tag (RFC 9110, 8.8.3), a weak one: it is that of every encoding of them."""

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
        """Return what was rendered under this key; render it once, however many ask meanwhile. None is not kept."""
        if (kept := self._find(key)) is not None:
            return kept
        async with self._alone:  # it is the processor's time that rendering takes: two at once would take twice as long
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
