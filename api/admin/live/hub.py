"""One reader of the log for all listeners: recent messages are kept once, and every listener reads them at its own pace.

A channel keeps its latest messages in a ring; a listener is an index into that ring. So a thousand listeners cost no copies. A
listener that is too slow falls out of the ring: it gets a last message and its stream ends; nothing waits for it. The id of a
message is the position on the log after it, `topic:partition=offset,…`, for all partitions of the channel. A client that
reconnects with it goes on there, from the ring, or from the log when the ring has moved on.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import merge
from itertools import groupby
from typing import Any, NamedTuple

import orjson
import structlog
from fastapi.sse import format_sse_event

from api.admin.live.messages import Notice, of_progress, of_workers
from events.clock import Clock
from events.envelope import Recorded
from events.errors import LogTruncated, Retryable, Stalled
from events.pulse import Pulse
from events.topics import JOBS, PROGRESS, VIDEOS, WORKER_HEARTBEATS, WORKERS, Partition, Topic
from projections.folding.log import LogReader, Source
from projections.folding.positions import Positions
from projections.folding.runner import Batch

KEPT_MAX = 10_000
"""Messages that a channel keeps; about a kilobyte each."""
LISTENERS_MAX = 5_000
STATES_MAX = 4
"""Maximum number of concurrent reads of present states. Clients that reconnect together queue here, not at the database."""
REPLAYS_MAX = 8
"""Maximum number of listeners that read the log for themselves at once; the others wait their turn."""
BEGIN_BEFORE = timedelta(minutes=1)
"""A hub begins with recent messages, so that the listeners of the hub before it find their messages."""
REPLAYED_MAX = 100_000
"""A listener further behind than this begins anew."""
CHUNK_MESSAGES = 200
HEARTBEAT_S = 30.0
RETRY_MS = 3000
BATCH_RECORDS = 2_000
Vector = tuple[int, ...]
"""The next offset of each partition of a channel, in their order."""
log = structlog.get_logger(__name__)


class Message(NamedTuple):
    """One message in the ring: its position on the log, the position after it, its subject, and the bytes to send."""

    lane: int
    offset: int
    after: Vector
    notice: Notice
    frame: bytes


class Channel:
    """One stream for listeners. `render` turns an event of its topics into a message, or None."""

    def __init__(self, topics: Sequence[Topic], render: Callable[[Recorded[Any]], Notice | None], kept_max: int) -> None:
        self.partitions: list[Partition] = sorted((topic.name, number) for topic in topics for number in range(topic.partitions))
        self.render = render
        self.listeners = 0
        self._lanes = {partition: lane for lane, partition in enumerate(self.partitions)}
        self._ring: list[Message | None] = [None] * kept_max
        self._reached: list[int] = [0] * len(self.partitions)
        self._kept_from: list[int] = [0] * len(self.partitions)
        self.end = 0
        self._news: asyncio.Future[None] | None = None

    @property
    def first(self) -> int:
        """Number of the oldest message kept; `end` is the number of the next one."""
        return max(0, self.end - len(self._ring))

    @property
    def reached(self) -> Vector:
        """Position up to which the log was read."""
        return tuple(self._reached)

    def begin(self, positions: Mapping[Partition, int]) -> None:
        """Set the positions from which the log is read; nothing before them is kept."""
        self._reached = [positions[partition] for partition in self.partitions]
        self._kept_from = list(self._reached)

    def take(self, batch: Batch) -> None:
        """Keep the messages of a batch, and wake the listeners."""
        for recorded in batch.records:
            if (lane := self._lanes.get((recorded.topic, recorded.partition))) is not None:
                self._reached[lane] = recorded.offset + 1
                if (notice := self.render(recorded)) is not None:
                    self._keep(lane, recorded.offset, notice)
        for part in batch.slices:
            if (lane := self._lanes.get((part.topic, part.partition))) is not None:
                self._reached[lane] = part.next
        self.wake()

    def _keep(self, lane: int, offset: int, notice: Notice) -> None:
        slot = self.end % len(self._ring)
        if (oldest := self._ring[slot]) is not None:
            self._kept_from[oldest.lane] = oldest.offset + 1
        self._ring[slot] = Message(lane, offset, self.reached, notice, self.frame(notice, self.reached))
        self.end += 1

    def frame(self, notice: Notice, after: Vector) -> bytes:
        """Return a message as bytes to send, with this position as its id."""
        return format_sse_event(event=notice.event, data_str=orjson.dumps(notice.data).decode(), id=self.id_of(after))

    def id_of(self, vector: Vector) -> str:
        """Return the id of a message after which the log stands at `vector`."""
        return Positions(dict(zip(self.partitions, vector, strict=True))).header()

    def vector_of(self, positions: Mapping[Partition, int]) -> Vector:
        """Return positions as a vector; a partition missing from them is read from its start."""
        return tuple(positions.get(partition, 0) for partition in self.partitions)

    def has(self, vector: Vector) -> bool:
        """Return whether everything from `vector` on is kept."""
        return all(map(int.__ge__, vector, self._kept_from))

    def find(self, vector: Vector) -> int:
        """Return the number of the first message that is not wholly before `vector`; `since` filters the rest."""

        def is_after(number: int) -> bool:
            message = self._ring[number % len(self._ring)]
            assert message is not None
            return any(map(int.__gt__, message.after, vector))

        return self.first + bisect_left(range(self.first, self.end), True, key=is_after)

    def since(self, number: int, vector: Vector, wanted: Collection[str] | None) -> tuple[list[bytes], int, Vector]:
        """Return the wanted messages from `number` on, and the number after them; messages before `vector` are left out.

        A message's own id is used once its position has passed `vector` everywhere; before that, both are joined.
        """
        frames: list[bytes] = []
        while number < self.end and len(frames) < CHUNK_MESSAGES:
            message = self._ring[number % len(self._ring)]
            assert message is not None
            number += 1
            if message.offset < vector[message.lane]:
                continue
            level = all(map(int.__ge__, message.after, vector))
            vector = message.after if level else tuple(map(max, message.after, vector))
            if wanted is None or message.notice.about in wanted:
                frames.append(message.frame if level else self.frame(message.notice, vector))
        return frames, number, vector

    async def news(self, timeout_s: float) -> None:
        """Wait for the next batch, at most `timeout_s`."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._news}, timeout=timeout_s)

    def wake(self) -> None:
        """Let all listeners look again."""
        if self._news is not None:
            self._news.set_result(None)
            self._news = None


class Replays:
    """Consumers with which listeners read the log for themselves: at most `REPLAYS_MAX`, each used again and again.

    A closed consumer keeps thread-specific memory until it is collected, and a process has room for 1,024 of these: clients
    that reconnected together took them all, and their streams broke in the middle.
    """

    def __init__(self, open_source: Callable[[], AbstractAsyncContextManager[Source]]) -> None:
        self._open = open_source
        self._turns = asyncio.Semaphore(REPLAYS_MAX)
        self._idle: list[tuple[AsyncExitStack, Source]] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Source]:
        """Yield a consumer that nobody else uses. It is returned for reuse, unless the log went away meanwhile."""
        async with self._turns:
            stack, source = self._idle.pop() if self._idle else await self._opened()
            try:
                yield source
                await source.assign({})
            except Retryable:
                await stack.aclose()
                raise
            except BaseException:
                self._idle.append((stack, source))  # the next user assigns anew
                raise
            self._idle.append((stack, source))

    async def _opened(self) -> tuple[AsyncExitStack, Source]:
        stack = AsyncExitStack()
        return stack, await stack.enter_async_context(self._open())

    async def close(self) -> None:
        """Close the idle consumers."""
        while self._idle:
            stack, _ = self._idle.pop()
            await stack.aclose()


Initial = Callable[[], Awaitable[tuple[Mapping[Partition, int], dict[str, object]]]]
"""Reads the present state from the projections: its position, and the data of the `initial` message."""


class Hub:
    """Reads the log for all listeners, with one consumer. `open_source` opens it; `run` the hub before anybody listens."""

    def __init__(
        self,
        open_source: Callable[[], AbstractAsyncContextManager[Source]],
        clock: Clock,
        *,
        kept_max: int = KEPT_MAX,
        pulse: Pulse | None = None,
    ) -> None:
        self._pulse = pulse or Pulse("live status")
        self._open = open_source
        self._clock = clock
        self.progress = Channel((VIDEOS, JOBS, PROGRESS), of_progress, kept_max)
        self.workers = Channel((WORKERS, WORKER_HEARTBEATS), of_workers, kept_max)
        self._channels = (self.progress, self.workers)
        self._states = asyncio.Semaphore(STATES_MAX)
        self._replays = Replays(open_source)
        self._started = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Read until cancelled; when the log is away or the reader hangs, go on at the same position.

        Raises LogTruncated when that position is gone.
        """
        positions: dict[Partition, int] = {}
        try:
            await self._run(positions)
        finally:
            await self._replays.close()

    async def _run(self, positions: dict[Partition, int]) -> None:
        while True:
            try:
                async with self._pulse.limited(), self._open() as source:
                    if not positions:
                        partitions = [partition for channel in self._channels for partition in channel.partitions]
                        positions = dict(await source.after(partitions, self._clock.now() - BEGIN_BEFORE))
                        for channel in self._channels:
                            channel.begin(positions)
                        self._started.set()
                    await self._follow(source, positions)
            except (Retryable, Stalled) as error:
                log.warning("live_reader_stumbled", error=str(error))
                await self._clock.sleep(1.0)

    async def _follow(self, source: Source, positions: dict[Partition, int]) -> None:
        reader = LogReader(source)
        await reader.seek(positions)
        while True:
            self._pulse.beat()
            batch, _ = await reader.read(records_max=BATCH_RECORDS, wait_s=1.0)
            if batch is not None:
                batch = _by_time(batch)
                for channel in self._channels:
                    channel.take(batch)
                positions.update(reader.positions)

    def stop(self) -> None:
        """End every stream: the app is stopping. Clients reconnect by themselves."""
        self._stopping = True
        for channel in self._channels:
            channel.wake()

    @property
    def listeners(self) -> int:
        """Number of present listeners."""
        return sum(channel.listeners for channel in self._channels)

    async def listen(
        self, channel: Channel, initial: Initial, *, last: Vector | None = None, wanted: Collection[str] | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a stream, as bytes to send: from `last` on without gap or repetition, else from the present state on.

        `wanted` names the videos or workers of the stream. A heartbeat comes after 30 s without any message. The first piece
        comes at once, or raises the error: of the state, or with the time to wait before the next attempt.
        """
        with _counted(channel):
            await self._started.wait()
            vector = last
            if vector is None or _distance(vector, channel.reached) > REPLAYED_MAX:
                frame, vector = await self._begin(channel, initial)
                yield frame
            else:
                yield format_sse_event(retry=RETRY_MS)
            while not channel.has(vector):
                target = tuple(map(max, channel.reached, vector))
                try:
                    async with self._replays.one() as source, aclosing(_replay(channel, source, vector, target, wanted)) as frames:
                        async for frame in frames:
                            yield frame
                    vector = target
                except Retryable as error:
                    log.warning("live_replay_stumbled", error=str(error))
                    return  # the listener reconnects, and goes on after its last message
                except LogTruncated:
                    if last is None:
                        raise  # records that the projections have not read are gone: they must be repaired first
                    last = None
                    frame, vector = await self._begin(channel, initial)
                    yield frame
            async for frame in self._live(channel, vector, wanted):
                yield frame

    async def _begin(self, channel: Channel, initial: Initial) -> tuple[bytes, Vector]:
        async with self._states:
            positions, data = await initial()
        vector = channel.vector_of(positions)
        data = {"type": "initial", **data, "timestamp": self._clock.now().isoformat()}
        text = orjson.dumps(data).decode()
        return format_sse_event(event="initial", data_str=text, id=channel.id_of(vector), retry=RETRY_MS), vector

    async def _live(self, channel: Channel, vector: Vector, wanted: Collection[str] | None) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        number, beat_at = channel.find(vector), loop.time() + HEARTBEAT_S
        while not self._stopping:
            if number < channel.first:
                yield _dropped(self._clock.now(), channel.first - number)
                return
            frames, number, vector = channel.since(number, vector, wanted)
            if frames:
                yield b"".join(frames)
            elif loop.time() >= beat_at:
                yield _heartbeat(self._clock.now(), channel.id_of(tuple(map(max, channel.reached, vector))))
            else:
                await channel.news(beat_at - loop.time())
                continue
            beat_at = loop.time() + HEARTBEAT_S


@contextmanager
def _counted(channel: Channel) -> Iterator[None]:
    channel.listeners += 1
    try:
        yield
    finally:
        channel.listeners -= 1


def _by_time(batch: Batch) -> Batch:
    """Return the batch with all partitions merged by time, each in its own order: else `ready` may precede its jobs."""
    parts = groupby(batch.records, key=lambda recorded: (recorded.topic, recorded.partition))
    records = merge(*[list(part) for _, part in parts], key=lambda recorded: recorded.envelope.time)
    return replace(batch, records=list(records))


def _distance(vector: Vector, reached: Vector) -> int:
    return sum(max(0, there - here) for here, there in zip(vector, reached, strict=True))


async def _replay(
    channel: Channel, source: Source, vector: Vector, target: Vector, wanted: Collection[str] | None
) -> AsyncGenerator[bytes, None]:
    """Yield the wanted messages between two positions of the log, each with the position after it. Raises LogTruncated."""
    until = dict(zip(channel.partitions, target, strict=True))
    positions = dict(zip(channel.partitions, vector, strict=True))
    reader = LogReader(source)
    await reader.seek(positions)
    while reader.missing(until):
        batch, _ = await reader.read(records_max=BATCH_RECORDS, wait_s=0.5, until=until)
        for recorded in _by_time(batch).records if batch else ():
            positions[recorded.topic, recorded.partition] = recorded.offset + 1
            notice = channel.render(recorded)
            if notice is not None and (wanted is None or notice.about in wanted):
                yield channel.frame(notice, channel.vector_of(positions))


def _heartbeat(now: datetime, id_: str) -> bytes:
    """Return a sign of life; its id keeps the listener's position near the end of the log."""
    data = orjson.dumps({"type": "heartbeat", "timestamp": now.isoformat()}).decode()
    return format_sse_event(event="heartbeat", data_str=data, id=id_)


def _dropped(now: datetime, lost: int) -> bytes:
    """Return the last message to a listener that reads too slowly; its next connection goes on at the same position."""
    reason = f"too slow: {lost} messages were overwritten before they were read; come back with Last-Event-ID to get them"
    data = orjson.dumps({"type": "dropped", "reason": reason, "timestamp": now.isoformat()}).decode()
    return format_sse_event(event="dropped", data_str=data, retry=RETRY_MS)
