"""A feed that keeps up rests between small batches: what comes one by one shares a batch."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from events.codec import encode
from processors.feed import FEW, Feed, Offer
from projections.log import Place
from tests.support.counting import counting, ticks

PLACE = ("progress", 0)


class Log:
    """A source with one partition, to which a test appends."""

    assigned = frozenset([PLACE])
    generation = 1

    def __init__(self) -> None:
        self.values = [encode(event) for event in ticks(2 * FEW)]
        self.end = self.next = 0
        self._grew = asyncio.Event()

    def grow(self, count: int) -> None:
        self.end += count
        self._grew.set()

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Place, Sequence[tuple[int, bytes]]]:
        await self._grew.wait()
        self._grew.clear()
        first, self.next = self.next, self.end
        return {PLACE: [(offset, self.values[offset]) for offset in range(first, self.end)]}

    async def starts(self, places: Iterable[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, 0)

    ends = starts

    async def after(self, places: Iterable[Place], time: datetime) -> Mapping[Place, int]:
        return dict.fromkeys(places, 0)

    async def assign(self, positions: Mapping[Place, int]) -> None: ...

    async def subscribe(self, topics: Iterable[str]) -> None: ...

    async def close(self) -> None: ...

    def position(self, place: Place) -> int:
        return self.next

    async def lag(self) -> Mapping[Place, int]:
        return {PLACE: 0}


class Silent:
    """Metrics that nobody reads."""

    def folded(self, name: str, events: int, seconds: float) -> None: ...

    def behind(self, name: str, lag: Mapping[tuple[str, int], int]) -> None: ...

    def failed(self, name: str) -> None: ...


class Resting(Feed):
    """A feed whose rests last until the test ends them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rests: asyncio.Queue[float] = asyncio.Queue()
        self.rested = asyncio.Event()

    async def sleep(self, n: Any, **_: Any) -> None:
        """Tell of the rest, and wait for its end."""
        self.rests.put_nowait(n)
        await self.rested.wait()
        self.rested.clear()


@asynccontextmanager
async def feeding(rest_s: float) -> AsyncIterator[tuple[Log, Resting, "asyncio.Queue[Offer]"]]:
    """Yield a log, its feed, and the channel that it fills."""
    log, channel = Log(), asyncio.Queue[Offer]()

    async def stored() -> Mapping[tuple[str, int], int]:
        return {PLACE: 0}

    async def bury(_: object) -> None:
        raise AssertionError("nothing is dead")

    feed = Resting(
        counting(),
        channel,
        open_source=lambda group: log,
        stored=stored,
        bury=bury,
        metrics=Silent(),
        rest_s=rest_s,
    )
    async with asyncio.timeout(10):
        await feed.start()
        try:
            yield log, feed, channel
        finally:
            feed.rested.set()
            await feed.stop()


async def batch_of(channel: "asyncio.Queue[Offer]") -> int:
    """Take a batch and make it durable; return how many events were in it."""
    batch, done = await channel.get()
    done.set_result(None)
    return batch.count


async def test_what_comes_while_it_rests_shares_a_batch() -> None:
    async with feeding(rest_s=0.05) as (log, feed, channel):
        log.grow(1)
        assert await batch_of(channel) == 1, "the first one does not wait"
        assert await feed.rests.get() == 0.05
        for _ in range(3):
            log.grow(1)
        feed.rested.set()
        assert await batch_of(channel) == 3


async def test_who_is_behind_does_not_rest_nor_who_never_does() -> None:
    async with feeding(rest_s=0.05) as (log, feed, channel):
        log.grow(FEW)
        assert await batch_of(channel) == FEW
        log.grow(1)
        assert await batch_of(channel) == 1
        await feed.rests.get()
    async with feeding(rest_s=0.0) as (log, feed, channel):
        for _ in range(2):
            log.grow(1)
            assert await batch_of(channel) == 1
        assert feed.rests.empty()
