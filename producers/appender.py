"""Makes events durable. `append` returns when every event is on the log, acknowledged by all replicas.

Group commit: while one batch is in flight, the next one forms; each caller waits for its own batch only. The buffer and
the wait are bounded: when the broker is away, callers get LogUnavailable, and the HTTP apps answer 503. Events that were
not sent by then are dropped. Sent events stay with their idempotent producer, which repeats them until the broker
answers, so that they reach the log once; OutcomeUnknown carries the outcome.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from events.codec import HEADERS, encode
from events.envelope import Envelope, Event, Record
from events.errors import EventTooLarge, LogUnavailable
from events.topics import TOPIC_OF, Partition, Topic, partition_of

EVENT_BYTES_MAX = 900_000
"""Largest encoded event: below the broker's usual limit of 1 MB a batch."""
GATHERING_S = 0.001
"""Maximum time that a batch stays open while each turn of the event loop adds to it: simultaneous requests share one batch."""
OUTCOME_S = 300.0
"""A batch without an outcome after this time is given up, and so is its producer. Longer than the restart of a broker."""

ASKED_S = 2.0
"""A broker that does not describe its cluster within this time counts as away."""

Offsets = dict[Partition, list[int]]
"""The offsets of a group's records, in the order of the records."""


class Position(NamedTuple):
    """The position of an event on the log."""

    topic: str
    partition: int
    offset: int


class OutcomeUnknown(LogUnavailable):
    """The log did not acknowledge the events in time; they may still get there."""

    def __init__(self, outcome: "asyncio.Future[Offsets]") -> None:
        super().__init__()
        self.outcome = outcome


class _Part:
    """The records of a group for one partition, in the batches that the producer sends: all but the last are full.

    `append` is the last batch's own. It returns None when the batch is full; `turn_over` then takes the record.
    """

    def __init__(self, create_batch: Callable[[], Any]) -> None:
        self._create_batch = create_batch
        self.batches = [create_batch()]
        self.append: Callable[..., object] = self.batches[0].append

    def __len__(self) -> int:
        return sum(batch.record_count() for batch in self.batches)

    def turn_over(self, key: bytes, value: bytes, timestamp_ms: int) -> None:
        """Add a record to a new batch."""
        self.batches.append(self._create_batch())
        self.append = self.batches[-1].append
        if self.append(key=key, value=value, timestamp=timestamp_ms, headers=HEADERS) is None:
            raise EventTooLarge(f"a record of {len(value)} bytes does not fit into an empty batch")


class _Group:
    """Records that are sent together, by topic and partition, with their waiting callers and their outcome."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.parts: dict[str, list[_Part]] = {}
        self.count = 0
        self.size_bytes = 0
        self.overdue = False
        self.deadline: asyncio.TimerHandle | None = None
        self.waiting: list[asyncio.Future[Offsets]] = []
        self.outcome: asyncio.Future[Offsets] = loop.create_future()

    def succeed(self, offsets: Offsets) -> None:
        """Give every waiting caller the records' offsets."""
        self.outcome.set_result(offsets)
        for caller in self.waiting:
            if not caller.done():
                caller.set_result(offsets)

    def fail(self, reason: str) -> None:
        """Fail every waiting caller: the records are not known to be on the log."""
        self.outcome.set_exception(LogUnavailable(reason))
        self.outcome.exception()  # marks it as retrieved: nobody has to wait for it
        self.dismiss(lambda: LogUnavailable(reason))

    def dismiss(self, failure: Callable[[], LogUnavailable]) -> None:
        """End every wait with the failure."""
        for caller in self.waiting:
            if not caller.done():
                caller.set_exception(failure())
        self.waiting.clear()


class Appender:
    """One per process. `open_producer` returns a started idempotent producer; a broken one is replaced."""

    def __init__(
        self,
        open_producer: Callable[[], Awaitable[AIOKafkaProducer]],
        *,
        topic_prefix: str = "",
        pending_max: int = 100_000,
        pending_max_bytes: int = 256 * 2**20,
        timeout_s: float = 5.0,
        observe_seconds: Callable[[float], None] = lambda seconds: None,
        observe_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_producer = open_producer
        self._prefix = topic_prefix
        self._pending_max = pending_max
        self._pending_max_bytes = pending_max_bytes
        self._timeout_s = timeout_s
        self._observe = observe_seconds
        self._observe_failure = observe_failure
        self._producer: AIOKafkaProducer | None = None
        self._create_batch: Callable[[], Any] | None = None
        self._group: _Group | None = None
        self._sending: _Group | None = None
        self._pending = 0
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    @property
    def stuck(self) -> bool:
        """Whether a batch has waited for the broker longer than its callers did."""
        return self._sending is not None and self._sending.overdue

    async def ask(self) -> None:
        """Ask the broker for the cluster's state. Raises LogUnavailable when it gives no answer or no acknowledgement."""
        if self.stuck:
            raise LogUnavailable("does not acknowledge events")
        producer = self._producer
        try:
            answered = producer is not None and await asyncio.wait_for(producer.client.force_metadata_update(), ASKED_S)
        except (KafkaError, TimeoutError, OSError):
            answered = False
        if not answered:
            raise LogUnavailable("does not answer")

    async def start(self) -> None:
        """Open the producer and start to flush."""
        await self._open()
        self._flusher = asyncio.create_task(self._flush_groups(), name="appender")

    async def stop(self) -> None:
        """Flush pending events, then close."""
        if self._flusher:
            if unfinished := [group.outcome for group in (self._sending, self._group) if group]:
                await asyncio.wait(unfinished, timeout=self._timeout_s)
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._close_producer()

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> list[Position]:
        """Append the events, in order per subject; return their positions.

        Raises LogUnavailable when the buffer is full or the broker does not acknowledge within the time limit. The events
        may or may not be on the log; the caller repeats them with the same ids. Raises InvalidEvent or EventTooLarge when
        an event cannot be written; then none is.
        """
        if not envelopes:
            return []
        records = [(TOPIC_OF[envelope.data.TYPE], record_of(envelope)) for envelope in envelopes]
        group = self._join(len(records), sum(len(value) for _, (_, value, _) in records))
        joined: list[tuple[Partition, int]] = []
        for topic, record in records:
            number = partition_of(record[0], topic.partitions)
            parts = self._parts(group, topic)
            joined.append(((topic.name, number), len(parts[number])))
            _add(parts, [record])
        offsets = await self._outcome_of(group)
        return [Position(*partition, offsets[partition][index]) for partition, index in joined]

    def offer(self, topic: Topic, records: Sequence[Record]) -> "asyncio.Future[Offsets]":
        """Put encoded events of one topic into the next group; the future is done when they are on the log.

        Meant for many small events. Raises LogUnavailable when the buffer is full. After the time limit the future raises
        LogUnavailable, or OutcomeUnknown when the events had been sent.
        """
        group = self._join(len(records), sum([len(value) for _, value, _ in records]))
        _add(self._parts(group, topic), records)
        return self._outcome_of(group)

    def _parts(self, group: _Group, topic: Topic) -> list[_Part]:
        """Return the parts of a group for a topic, by partition."""
        parts = group.parts.get(topic.name)
        if parts is None:
            assert self._create_batch is not None, "not started"
            parts = group.parts[topic.name] = [_Part(self._create_batch) for _ in range(topic.partitions)]
        return parts

    def _join(self, count: int, size_bytes: int) -> _Group:
        """Return the group that is forming, and reserve room for the events."""
        if self._pending + count > self._pending_max or self._pending_bytes + size_bytes > self._pending_max_bytes:
            raise LogUnavailable("too many events wait for the log; try again in a moment")
        group = self._group
        if group is None:
            loop = asyncio.get_running_loop()
            group = self._group = _Group(loop)
            group.deadline = loop.call_later(self._timeout_s, self._expire, group)
            self._wake.set()
        group.count += count
        group.size_bytes += size_bytes
        self._pending += count
        self._pending_bytes += size_bytes
        return group

    def _outcome_of(self, group: _Group) -> "asyncio.Future[Offsets]":
        """Return a future for this caller alone: cancelling it affects no other caller."""
        caller: asyncio.Future[Offsets] = asyncio.get_running_loop().create_future()
        group.waiting.append(caller)
        return caller

    def _expire(self, group: _Group) -> None:
        """End the wait for a group, and drop it if it was not sent."""
        if group is self._group:
            self._group = None
            self._forget(group)
            self._observe_failure()
            group.fail("the log does not answer; nothing was accepted, try again")
        elif not group.outcome.done():
            group.overdue = True
            group.dismiss(lambda: OutcomeUnknown(group.outcome))

    def _forget(self, group: _Group) -> None:
        self._pending -= group.count
        self._pending_bytes -= group.size_bytes
        if group.deadline is not None:
            group.deadline.cancel()  # a pending timer would keep the records in memory

    async def _flush_groups(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._gather()
            group, self._group = self._group, None
            if group is None:
                continue  # it expired
            self._sending = group
            started = perf_counter()
            try:
                async with asyncio.timeout(OUTCOME_S):
                    offsets = await self._send(group)
            except Exception as error:  # noqa: BLE001  (a bug, too: its callers get an error, and the next group is sent)
                await self._close_producer()
                self._observe_failure()
                group.fail(f"the log did not acknowledge: {type(error).__name__}")
            else:
                self._observe(perf_counter() - started)
                group.succeed(offsets)
            finally:
                self._forget(group)
                self._sending = None

    async def _gather(self) -> None:
        """Wait while the batch grows. Fewer and larger batches cost the broker half as much, and this process less."""
        until, count = perf_counter() + GATHERING_S, 0
        while self._group is not None and self._group.count > count and perf_counter() < until:
            count = self._group.count
            await asyncio.sleep(0)

    async def _send(self, group: _Group) -> Offsets:
        """Send one batch per partition, more when it is full; return the offsets, in the order of the records."""
        if self._producer is None:
            await asyncio.wait_for(self._open(), self._timeout_s)
        sent: list[tuple[Partition, int, asyncio.Future[Any]]] = []
        for topic, parts in group.parts.items():
            for number, part in enumerate(parts):
                for batch in part.batches:
                    if count := batch.record_count():
                        future = await _queue(self._producer, batch, self._prefix + topic, number)
                        sent.append(((topic, number), count, future))
        offsets: Offsets = defaultdict(list)
        for partition, count, future in sent:
            base = (await future).offset
            offsets[partition].extend(range(base, base + count))
        return offsets

    async def _open(self) -> None:
        self._producer = await self._open_producer()
        self._create_batch = self._producer.create_batch

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), 2)
            except (KafkaError, TimeoutError, OSError):
                return  # the producer was broken; the next append opens a new one


def _add(parts: Sequence[_Part], records: Sequence[Record]) -> None:
    """Add each record to the part of its key's partition."""
    partitions = len(parts)
    for key, value, timestamp_ms in records:
        part = parts[partition_of(key, partitions)]
        if part.append(key=key, value=value, timestamp=timestamp_ms, headers=HEADERS) is None:
            part.turn_over(key, value, timestamp_ms)


async def _queue(producer: Any, batch: Any, topic: str, partition: int) -> "asyncio.Future[Any]":
    """Hand a batch to the producer, whose queue has room for one batch per partition; return the future of its outcome."""
    while True:
        try:
            return await producer.send_batch(batch, topic, partition=partition)  # type: ignore[no-any-return]
        except KafkaTimeoutError:
            continue  # the previous batch still waits for the broker; the caller limits the time


def record_of(envelope: Envelope[Event]) -> Record:
    """Encode an event. Raises InvalidEvent for an event that could not be read back, EventTooLarge."""
    value = encode(envelope)
    if len(value) > EVENT_BYTES_MAX:
        raise EventTooLarge(f"{envelope.data.TYPE} is {len(value)} bytes; at most {EVENT_BYTES_MAX} fit on the log")
    return envelope.subject.encode(), value, int(envelope.time.timestamp() * 1000)
