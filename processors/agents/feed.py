"""Feeds a Faust channel with record batches, from positions that PostgreSQL holds.

A feed owns one consumer group. It seeks to the stored positions when partitions are assigned. It puts a batch with a future on
the channel and waits for the future, which the agent fulfils when the batch is durable. Meanwhile it reads the next batch, and
drops it when this one fails. Kafka commits do not matter.

A failed batch is offered again from the stored positions: until the service is back when one is away. Otherwise one record is
to blame. The feed halves batches until that record is alone, puts its partition aside and tries it again ever more seldom, while
the other partitions go on. It skips no event, for rows would differ, but reports where it stands still (`fault`). No failure ends
the process, which feeds share. A turn that hangs is cancelled, with its agent's work. A feed that hangs repeatedly without a batch,
in its reader or the database client, ends the process: only a new process has new clients.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import structlog
from mode import Service

from events.clock import Clock
from events.errors import ReaderLost, Retryable, Stalled
from events.pulse import Pulse
from events.topics import Partition
from processors.agents.dead_letters import Graves
from processors.agents.standing import STANDS_AFTER_S, Standing, is_away, seconds_of, sentence_of, words_of
from projections.folding.fold import Projection
from projections.folding.log import LogReader, Source
from projections.folding.runner import Batch

RETRY_S = (0.5, 30.0)
"""First and longest rest of a failing record."""
AWAY_S = 5.0
"""Longest rest while a service is away."""
RECORDS_MAX = 10_000
GATHERED_RECORDS_MAX = 50_000
"""Events in a batch, written while the next one is read; and where a projection gathers, as rows cost more than events there."""
WAIT_S = 1.0
FEW = 500
"""A smaller batch means that the reader keeps up and need not read ahead."""
STALLS_MAX = 3
"""Hangs in a row, without a batch that could be at fault, that end the process."""
STALLED_RESTS = 4
"""Rest of a record at which the feed hangs, in multiples of the hang: other partitions get most of the time."""
LEAVE_S = 10.0
"""Longest wait for an abandoned reader to close."""
ASTRAY = -1
"""A generation that never occurs: positions must be looked up again."""
log = structlog.get_logger(__name__)


class Offer(NamedTuple):
    """A batch on the channel; `done` is fulfilled when it is durable, or fails."""

    batch: Batch
    done: "asyncio.Future[None]"


class GroupSource(Source, Protocol):
    """A source in a consumer group: `generation` grows when `assigned` changes."""

    assigned: frozenset[Partition]
    generation: int

    async def subscribe(self, topics: Iterable[str]) -> None: ...

    async def close(self) -> None: ...


class Channel(Protocol):
    """The part of a Faust channel that a feed needs."""

    async def put(self, value: Offer) -> None: ...


class FeedMetrics(Protocol):
    """Metrics of a feed."""

    def folded(self, name: str, events: int, seconds: float) -> None: ...

    def behind(self, name: str, lag: Mapping[tuple[str, int], int]) -> None: ...

    def failed(self, name: str) -> None: ...


class Feed(Service):
    """Fills `channel` for a projection, a process or an effect."""

    def __init__(
        self,
        projection: Projection,
        channel: Channel,
        *,
        open_source: Callable[[str], GroupSource],
        stored: Callable[[], Awaitable[Mapping[tuple[str, int], int]]],
        graves: Graves,
        metrics: FeedMetrics,
        clock: Clock,
        pulse: Pulse,
        topic_prefix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.name = projection.name
        self._projection = projection
        self._channel = channel
        self._open_source = open_source
        self._stored = stored
        self._graves = graves
        self._metrics = metrics
        self._wall = clock
        self._pulse = pulse
        self._group = f"{topic_prefix}kinolog.{projection.name}"
        self._records_max = RECORDS_MAX if projection.gathering is None else GATHERED_RECORDS_MAX
        self._size = self._records_max
        self._singly = 0
        self._stalls = 0
        self._source: GroupSource | None = None
        self._reader: LogReader | None = None
        self._lost = False
        self._generation = 0
        self._offered: Batch | None = None
        self._busy: tuple[Batch, float] | None = None
        self._quiet_since: float | None = None
        self._aside: dict[Partition, tuple[Standing, float]] = {}
        self._outage: Standing | None = None
        self.ready = asyncio.Event()

    # --- reports --------------------------------------------------------------------------------------------------------

    def fault(self) -> str | None:
        """Return a sentence about where and why the feed stands still; None when it goes on."""
        return sentence_of(self.standings())

    def standings(self) -> list[Standing]:
        """Return the reported standings, the oldest first."""
        found = [standing for standing, _ in self._aside.values()]
        if (outage := self._outage) is not None and outage.is_reported(self._wall.now()):
            found.append(outage)
        if self._busy is not None and (age_s := self.loop.time() - self._busy[1]) > STANDS_AFTER_S:
            found.append(self._standing(self._busy[0], f"the batch is not done after {age_s:.0f} s"))
        return sorted(found, key=lambda standing: standing.since)

    def standing_s(self) -> float:
        """Return the seconds for which the feed has stood still; 0 when it goes on."""
        return seconds_of(self.standings(), self._wall.now())

    def _standing(self, batch: Batch | None, error: str, before: Standing | None = None) -> Standing:
        """Return a standing at the beginning of a batch."""
        since = before.since if before else self._wall.now()
        failures = before.failures + 1 if before else 1
        if batch is None:
            return Standing(self.name, None, None, "", error, since, failures)
        part = batch.slices[0]
        first = batch.records[0] if batch.records else None
        offset = first.offset if first else part.next - 1 if batch.count == 1 else part.start
        subject = first.envelope.subject if first else next(iter(batch.gathered.ids), "") if batch.gathered else ""
        return Standing(self.name, (part.topic, part.partition), offset, subject, error, since, failures)

    # --- life cycle -----------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Join the group; the first read assigns partitions."""
        self._source = self._open_source(self._group)
        self._reader = LogReader(self._source, self._projection)
        self._generation = 0
        await self._source.subscribe([topic.name for topic in self._projection.topics])
        self._lost = False

    async def on_shutdown(self) -> None:
        """Leave the group, after the last read."""
        if self._reader is not None:
            await self._reader.forget()
        if self._source is not None:
            await self._source.close()

    async def _go_to_stored(self, only: Partition | None = None) -> None:
        """Seek to the stored positions of the partitions that are not put aside, or of `only` one that is."""
        assert self._source is not None and self._reader is not None
        generation, mine = self._source.generation, self._source.assigned
        self._aside = {partition: put for partition, put in self._aside.items() if partition in mine}
        wanted = mine - self._aside.keys() if only is None else mine & {only}
        stored = await self._stored()
        await self._reader.seek({partition: position for partition, position in stored.items() if partition in wanted})
        self._generation = generation if only is None else ASTRAY
        self.ready.set()

    @Service.task
    async def _feed(self) -> None:
        while not self.should_stop:
            try:
                async with self._pulse.limited():
                    if self._lost:
                        await self._open_another()
                    await self._turn()
                self._outage, self._stalls = None, 0
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._stalls += isinstance(error, Stalled) and self._offered is None
                if self._stalls >= STALLS_MAX:
                    raise
                await self._failed(error)

    async def _open_another(self) -> None:
        """Open another reader; abandon one that does not even close."""
        with suppress(TimeoutError, Retryable):
            async with asyncio.timeout(LEAVE_S):
                await self.on_shutdown()
        await self.on_start()

    async def _turn(self) -> None:
        """Feed one batch: of the partitions not put aside, or the due record of one that is."""
        assert self._source is not None
        self._offered = None
        now = self.loop.time()
        due = [partition for partition, (_, at) in self._aside.items() if at <= now and partition in self._source.assigned]
        if due:
            await self._go_to_stored(due[0])
            await self._feed_once(1)
            standing, _ = self._aside.pop(due[0])
            log.info("feed_goes_on", **standing.fields())
            return
        if self._generation != self._source.generation:
            await self._go_to_stored()
        count = await self._feed_once(1 if self._singly else self._size)
        self._singly = max(0, self._singly - count)
        self._size = min(self._records_max, 2 * self._size)

    async def _feed_once(self, records_max: int) -> int:
        """Read a batch and wait until it is durable; return its number of records."""
        assert self._reader is not None
        batch, dead = await self._reader.read(records_max=records_max, wait_s=WAIT_S)
        lag = await self._reader.lag()
        self._look_whether_it_reads(batch, lag)
        if dead:
            await self._graves.bury(dead, read=batch.count if batch else len(dead))
        if batch is not None:
            if batch.count >= FEW:
                self._reader.begin(records_max=self._records_max, wait_s=WAIT_S)
            self._offered = batch
            seconds = await self._offer(batch)
            self._metrics.folded(self.name, batch.count, seconds)
            self._graves.passed(batch.count, {(part.topic, part.partition): part.next for part in batch.slices})
        self._metrics.behind(self.name, lag)
        return batch.count if batch else 0

    async def _offer(self, batch: Batch) -> float:
        """Return the seconds until the batch was durable."""
        started = self.loop.time()
        done: asyncio.Future[None] = self.loop.create_future()
        self._busy = batch, started
        try:
            await self._channel.put(Offer(batch, done))
            await done
        finally:
            self._busy = None
        return self.loop.time() - started

    def _look_whether_it_reads(self, batch: Batch | None, lag: Mapping[Partition, int]) -> None:
        """Raise ReaderLost when the log has more records and the reader returns none."""
        if batch is not None or not any(lag.values()):
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = self.loop.time()
        elif self.loop.time() - self._quiet_since > STANDS_AFTER_S:
            self._quiet_since = None
            raise ReaderLost(f"nothing was read for {STANDS_AFTER_S:.0f} s although the log has {sum(lag.values())} more")

    # --- failures -----------------------------------------------------------------------------------------------------

    async def _failed(self, error: Exception) -> None:
        """Rest while a service is away; else find the record at fault and put its partition aside."""
        self._metrics.failed(self.name)
        batch, self._offered = self._offered, None
        self._generation = ASTRAY
        self._lost = self._lost or isinstance(error, ReaderLost) or (batch is None and isinstance(error, Stalled))
        if batch is None or await is_away(error):
            self._outage = self._standing(batch, words_of(error), self._outage)
            if self._outage.is_milestone:
                log.warning("batch_failed", exc_info=self._outage.failures == 1, **self._outage.fields())
            await self.sleep(min(AWAY_S, 0.05 * 4 ** min(self._outage.failures, 5)))
        elif batch.count > 1:
            self._size = batch.count // 2
            if isinstance(error, Stalled):
                self._singly = batch.count  # halves would wait for it again and again
            log.warning("batch_halved", **self._standing(batch, words_of(error)).fields())
        else:
            await self._put_aside(batch, error)

    async def _put_aside(self, batch: Batch, error: Exception) -> None:
        """Put a partition aside at the failed record."""
        partition = (batch.slices[0].topic, batch.slices[0].partition)
        before, _ = self._aside.get(partition, (None, 0.0))
        standing = self._standing(batch, words_of(error), before)
        rest_s = min(RETRY_S[1], RETRY_S[0] * 2.0 ** min(standing.failures - 1, 10))
        if isinstance(error, Stalled):  # the other partitions wait for each try
            rest_s = max(rest_s, STALLED_RESTS * self._pulse.limit_s)
        self._aside[partition] = standing, self.loop.time() + rest_s
        self._size = self._records_max
        if standing.is_milestone:
            log.error("feed_stands_still", exc_info=standing.failures == 1, **standing.fields())


async def each(stream: AsyncIterator[Offer], handle: Callable[[Batch], Awaitable[None]], pulse: Pulse) -> None:
    """Run an agent: handle each batch and answer its feed, which decides about failures.

    When the feed has abandoned the batch and waits no longer, the work on it is cancelled.
    """
    async for batch, done in stream:
        work = asyncio.ensure_future(handle(batch))
        done.add_done_callback(lambda _, work=work: work.cancel())  # type: ignore[misc]
        try:
            with pulse.watching():
                await work
        except asyncio.CancelledError:
            if not done.done():
                done.set_exception(RuntimeError("the agent was stopped"))
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
        except Exception as error:  # noqa: BLE001  (its feed reports it)
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)
