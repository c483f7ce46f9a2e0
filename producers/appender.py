"""Makes events durable. `append` returns when every event is on the log, acknowledged by all replicas.

Group commit: while one batch is in flight the next one forms; each caller waits for its own batch only. The buffer is
bounded; when the broker is away callers get LogUnavailable in bounded time, and the HTTP apps answer 503.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from events.codec import HEADERS, encode
from events.envelope import Envelope, Event
from events.errors import InvalidEvent, LogUnavailable
from events.topics import TOPIC_OF, partition_for

EVENT_BYTES_MAX = 900_000
"""Largest encoded event: below the broker's usual limit of 1 MB a batch."""


class Position(NamedTuple):
    """Where an event stands on the log."""

    topic: str
    partition: int
    offset: int


class _Group:
    """Encoded events of one batch, by topic and partition, and the future that its callers wait for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.records: dict[tuple[str, int], list[tuple[bytes, bytes, int]]] = defaultdict(list)
        self.count = 0
        self.done: asyncio.Future[dict[tuple[str, int], list[int]]] = loop.create_future()


class Appender:
    """One per process. `open_producer` returns a started idempotent producer; a broken one is replaced."""

    def __init__(
        self,
        open_producer: Callable[[], Awaitable[AIOKafkaProducer]],
        *,
        topic_prefix: str = "",
        pending_max: int = 100_000,
        timeout_s: float = 5.0,
        observe_seconds: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._open_producer = open_producer
        self._prefix = topic_prefix
        self._pending_max = pending_max
        self._timeout_s = timeout_s
        self._observe = observe_seconds
        self._producer: AIOKafkaProducer | None = None
        self._group: _Group | None = None
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the producer and begin to flush."""
        self._producer = await self._open_producer()
        self._flusher = asyncio.create_task(self._flush_groups(), name="appender")

    async def stop(self) -> None:
        """Flush what is pending, then close."""
        if self._flusher:
            if self._group:
                await asyncio.wait([self._group.done], timeout=self._timeout_s)
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._close_producer()

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> list[Position]:
        """Append the events, in order per subject; return their positions.

        Raises LogUnavailable when the buffer is full or the broker does not acknowledge within the time limit: then
        they may or may not be on the log, and the caller repeats them with the same ids. Raises InvalidEvent for an
        event that is too large.
        """
        if not envelopes:
            return []
        if self._in_flight + len(envelopes) > self._pending_max:
            raise LogUnavailable("too many events wait for the log; try again in a moment")
        group = self._group
        if group is None:
            group = self._group = _Group(asyncio.get_running_loop())
            self._wake.set()
        places: list[tuple[str, int, int]] = []
        for envelope in envelopes:
            value = encode(envelope)
            if len(value) > EVENT_BYTES_MAX:
                raise InvalidEvent(f"{envelope.data.TYPE} is {len(value)} bytes; at most {EVENT_BYTES_MAX} fit on the log")
            topic = TOPIC_OF[envelope.data.TYPE]
            partition = partition_for(envelope.subject, topic.partitions)
            records = group.records[topic.name, partition]
            places.append((topic.name, partition, len(records)))
            records.append((envelope.subject.encode(), value, int(envelope.time.timestamp() * 1000)))
        group.count += len(envelopes)
        self._in_flight += len(envelopes)
        try:
            async with asyncio.timeout(self._timeout_s):
                offsets = await asyncio.shield(group.done)
        except TimeoutError as error:
            raise LogUnavailable from error
        return [Position(topic, partition, offsets[topic, partition][index]) for topic, partition, index in places]

    async def _flush_groups(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)
            group, self._group = self._group, None
            if group is None:
                continue
            started = perf_counter()
            try:
                offsets = await asyncio.wait_for(self._send(group), self._timeout_s)
            except (KafkaError, TimeoutError, OSError) as error:
                await self._close_producer()
                failure = LogUnavailable(f"the log did not acknowledge: {type(error).__name__}")
                failure.__cause__ = error
                group.done.set_exception(failure)
                group.done.exception()
            else:
                self._observe(perf_counter() - started)
                group.done.set_result(offsets)
            finally:
                self._in_flight -= group.count

    async def _send(self, group: _Group) -> dict[tuple[str, int], list[int]]:
        """Send one record batch per partition (more when full); return the offsets, in the order of the records."""
        if self._producer is None:
            self._producer = await self._open_producer()
        producer = self._producer
        sent: list[tuple[tuple[str, int], int, asyncio.Future[object]]] = []
        for (topic, partition), records in group.records.items():
            name = self._prefix + topic
            builder = producer.create_batch()
            for key, value, timestamp in records:
                if builder.append(key=key, value=value, timestamp=timestamp, headers=HEADERS) is None:
                    future = await producer.send_batch(builder, name, partition=partition)
                    sent.append(((topic, partition), builder.record_count(), future))
                    builder = producer.create_batch()
                    builder.append(key=key, value=value, timestamp=timestamp, headers=HEADERS)
            future = await producer.send_batch(builder, name, partition=partition)
            sent.append(((topic, partition), builder.record_count(), future))
        offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
        for place, count, future in sent:
            base = (await future).offset  # type: ignore[attr-defined]
            offsets[place].extend(range(base, base + count))
        return offsets

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), 2)
            except (KafkaError, TimeoutError, OSError):
                return  # it was broken; the next append opens a new one
