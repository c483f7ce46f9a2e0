"""Feeds a Faust channel with record batches, from positions that PostgreSQL holds.

A feed owns one consumer group. It goes to the stored positions when partitions are assigned, puts a batch with a
future on the channel, and waits for the future: the agent that reads the channel fulfils it when the batch is durable.
Meanwhile the next batch is read, and thrown away when this one fails.
When the agent raises, Faust restarts it, the feed seeks back to the stored positions and offers the batch again; after
`FAILURES_MAX` failures in a row the process ends, and its supervisor starts it anew. No Kafka commit matters here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog
from mode import Service

from events.errors import ReaderLost
from projections.fold import Projection
from projections.log import DeadLetter, LogReader, Place, Source
from projections.runner import Batch

FAILURES_MAX = 5
RECORDS_MAX = 10_000
GATHERED_RECORDS_MAX = 50_000
"""In a batch, which is written while the next one is read; and where a projection gathers: there rows cost more than events."""
WAIT_S = 1.0
FEW = 500
"""A batch of fewer events is small: that of a reader who keeps up, and need not read ahead."""
ASTRAY = -1
"""A generation that never is: positions must be looked up again."""
log = structlog.get_logger(__name__)


class Offer(NamedTuple):
    """A batch on the channel; `done` is fulfilled when it is durable, or fails."""

    batch: Batch
    done: "asyncio.Future[None]"


class GroupSource(Source, Protocol):
    """A source that shares topics with others of its group: `generation` grows when `assigned` has changed."""

    assigned: frozenset[Place]
    generation: int

    async def subscribe(self, topics: Iterable[str]) -> None: ...

    async def close(self) -> None: ...


class Channel(Protocol):
    """The part of a Faust channel that a feed needs."""

    async def put(self, value: Offer) -> None: ...


class FeedMetrics(Protocol):
    """What a feed tells about itself."""

    def folded(self, name: str, events: int, seconds: float) -> None: ...

    def behind(self, name: str, lag: Mapping[tuple[str, int], int]) -> None: ...

    def failed(self, name: str) -> None: ...


class Feed(Service):
    """Fills `channel` for a projection, or that of a process."""

    def __init__(
        self,
        projection: Projection,
        channel: Channel,
        *,
        open_source: Callable[[str], GroupSource],
        stored: Callable[[], Awaitable[Mapping[tuple[str, int], int]]],
        bury: Callable[[Sequence[DeadLetter]], Awaitable[None]],
        metrics: FeedMetrics,
        topic_prefix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.name = projection.name
        self._projection = projection
        self._channel = channel
        self._open_source = open_source
        self._stored = stored
        self._bury = bury
        self._metrics = metrics
        self._group = f"{topic_prefix}kinolog.{projection.name}"
        self._records_max = RECORDS_MAX if projection.gathering is None else GATHERED_RECORDS_MAX
        self._source: GroupSource | None = None
        self._reader: LogReader | None = None
        self._generation = 0
        self.ready = asyncio.Event()

    async def on_start(self) -> None:
        """Join the group; partitions come with the first read."""
        self._source = self._open_source(self._group)
        self._reader = LogReader(self._source, self._projection)
        self._generation = 0
        await self._source.subscribe([topic.name for topic in self._projection.topics])

    async def on_shutdown(self) -> None:
        """Leave the group, after the last read."""
        if self._reader is not None:
            await self._reader.forget()
        if self._source is not None:
            await self._source.close()

    async def _go_to_stored(self) -> None:
        assert self._source is not None and self._reader is not None
        generation, mine = self._source.generation, self._source.assigned
        stored = await self._stored()
        await self._reader.seek({place: position for place, position in stored.items() if place in mine})
        self._generation = generation
        self.ready.set()

    @Service.task
    async def _feed(self) -> None:
        assert self._source is not None
        failures = 0
        while not self.should_stop:
            try:
                if self._generation != self._source.generation:
                    await self._go_to_stored()
                await self._feed_once()
                failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:
                failures += 1
                self._metrics.failed(self.name)
                log.warning("batch_failed", feed=self.name, failures=failures, error=str(error), exc_info=failures == 1)
                if failures >= FAILURES_MAX:
                    raise
                self._generation = ASTRAY
                if isinstance(error, ReaderLost):
                    await self.on_shutdown()
                    await self.on_start()
                await self.sleep(min(5.0, 0.05 * 4**failures))

    async def _feed_once(self) -> None:
        """Read a batch and wait until it is durable."""
        assert self._reader is not None
        loop = asyncio.get_running_loop()
        batch, dead = await self._reader.read(records_max=self._records_max, wait_s=WAIT_S)
        lag = await self._reader.lag()
        if dead:
            await self._bury(dead)
        if batch is not None:
            if batch.count >= FEW:
                self._reader.begin(records_max=self._records_max, wait_s=WAIT_S)
            started = loop.time()
            done: asyncio.Future[None] = loop.create_future()
            await self._channel.put(Offer(batch, done))
            await done
            self._metrics.folded(self.name, batch.count, loop.time() - started)
        self._metrics.behind(self.name, lag)


async def each(stream: AsyncIterator[Offer], handle: Callable[[Batch], Awaitable[None]]) -> None:
    """Run an agent: handle each batch and answer its feed; a failure is told to the feed and then raised to Faust."""
    async for batch, done in stream:
        try:
            await handle(batch)
        except BaseException as error:
            if not done.done():
                done.set_exception(error if isinstance(error, Exception) else RuntimeError("the agent was stopped"))
            raise
        if not done.done():
            done.set_result(None)
