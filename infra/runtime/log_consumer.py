"""Reads the log in whole batches: confluent-kafka on a thread of its own.

aiokafka makes a record object of each record in Python (3.3 µs); here librdkafka fetches beside the event loop and a
record costs 1 µs. All folds read through this; code that needs transactions or single answers uses
`infra.runtime.kafka`.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic
from typing import TypeVar

import stamina
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from events.errors import LogTruncated, LogUnavailable, ReaderLost
from events.topics import Partition
from infra.runtime.kafka import LOGGER, NO_GROUP, librdkafka
from infra.runtime.settings import Settings

T = TypeVar("T")
REQUEST_TIMEOUT_S = 10.0
SLICE_S = 0.1
FETCH_RECORDS = 1_000
"""Messages taken from librdkafka at once: with 10,000 each costs a quarter more, because they have left the cache."""
FETCH_BYTES = 32 << 20
"""A batch is hardly longer than this: a record may have nearly a megabyte, and takes several times that when it is decoded."""
GATHERED_BYTES = 256 << 10
"""More than this is not few: the broker answers at once."""
EARLIEST, LATEST = -2, -1
"""Placeholder for a time in a request for offsets."""


class LogConsumer:
    """One consumer; sees only committed events and never commits. A `projections.folding.log.Source`.

    `idle_ms` bounds how long the broker holds a fetch that finds nothing; data is answered at once. With `gather_ms` the broker
    holds a small batch that long, so that more records join it. `member` is its name in the group
    (`infra.runtime.kafka.member_name`).
    """

    def __init__(
        self, settings: Settings, *, group: str | None = None, member: str | None = None, idle_ms: int = 1000, gather_ms: int = 0
    ) -> None:
        self._prefix = settings.topic_prefix
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-consumer")
        self._next: dict[Partition, int] = {}
        self._held: dict[Partition, list[tuple[int, bytes]]] = {}
        self._ended: dict[Partition, int] = {}
        self._closing = False
        self.assigned: frozenset[Partition] = frozenset()
        self.generation = 0
        self._consumer = Consumer(
            {
                **librdkafka(settings),
                "group.id": group or NO_GROUP,
                **({"group.instance.id": member} if member else {}),
                "session.timeout.ms": 10_000,  # the partitions of a killed reader wait this long for another member
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": gather_ms or idle_ms,
                "fetch.min.bytes": GATHERED_BYTES if gather_ms else 1,
                "fetch.max.bytes": 8 << 20,
                "queued.max.messages.kbytes": 32 << 10,
                "fetch.queue.backoff.ms": 5,  # at its default of 1000 a reader that is faster than the queue is long waits
                "socket.timeout.ms": 20_000,
                "reconnect.backoff.max.ms": 1000,
                "topic.metadata.refresh.interval.ms": 60_000,
                "allow.auto.create.topics": False,
            },
            logger=LOGGER,
        )

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        wanted = [TopicPartition(self._prefix + topic, number, position) for (topic, number), position in positions.items()]
        await self._run(lambda: self._consumer.assign(wanted))
        self._next, self._held, self._ended = dict(positions), {}, {}

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, which sets `assigned`. Call `assign` again whenever `generation` changes."""

        def given(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            consumer.assign([])  # read nothing before the reader has set its positions
            self._given(partitions)

        def taken(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            consumer.unassign()
            self._given([])

        names = [self._prefix + topic for topic in topics]
        await self._run(lambda: self._consumer.subscribe(names, on_assign=given, on_revoke=taken))

    def _given(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned = frozenset((p.topic[len(self._prefix) :], p.partition) for p in partitions)
        self.generation += 1

    async def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offset of the first record that is still there."""
        return await self._offsets(partitions, EARLIEST)

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offset after the last committed record and its marker."""
        return await self._offsets(partitions, LATEST)

    async def after(self, partitions: Iterable[Partition], time: datetime) -> dict[Partition, int]:
        """Return the offset of each partition's first record that is later than `time`, or its end."""
        found = await self._offsets(partitions, int(time.timestamp() * 1000) + 1)
        ends = await self.ends([partition for partition, offset in found.items() if offset < 0])
        return found | ends

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Partition, Sequence[tuple[int, bytes]]]:
        """Return new records, per partition in order, as (offset, value); empty after `wait_s` without any.

        A fetch may bring more than the limit: the next calls return the rest. Raises LogTruncated when a position is no
        longer on the log, ReaderLost when a member of the same name has joined. (This reader may be that member itself:
        librdkafka was seen to join twice after a restart of the broker.)
        """
        if not self._held:
            await self._fetch(max(records_max, FETCH_RECORDS), wait_s)
        found: dict[Partition, Sequence[tuple[int, bytes]]] = {}
        while self._held and records_max > 0:
            partition, records = next(iter(self._held.items()))
            found[partition] = records[:records_max]
            if len(records) > records_max:
                self._held[partition] = records[records_max:]
            else:
                del self._held[partition]
            records_max -= len(found[partition])
            if partition in self._next:
                self._next[partition] = found[partition][-1][0] + 1
        for partition in [partition for partition in self._ended if partition not in self._held]:
            self._next[partition] = max(self._next[partition], self._ended.pop(partition))
        return found

    async def _fetch(self, records_max: int, wait_s: float) -> None:
        """Buffer fetched records."""
        held, others = await self._run(lambda: self._take(records_max, wait_s))
        for message in others:
            if await self._begins_again(message):
                return
        self._held = held

    def _take(self, records_max: int, wait_s: float) -> tuple[dict[Partition, list[tuple[int, bytes]]], list[Message]]:
        """Wait for a message, then take all available ones; return records, and messages that are no records.

        Takes a few at a time, so that a message is read while it is in the processor's cache.
        """
        size_bytes = 0
        held: dict[tuple[str | None, int | None], list[tuple[int, bytes]]] = defaultdict(list)
        others: list[Message] = []
        messages = self._first(wait_s)
        while messages:
            for message in messages:
                if message.error() is None:
                    held[message.topic(), message.partition()].append((message.offset(), message.value() or b""))  # type: ignore[arg-type]
                else:
                    others.append(message)
            records_max -= len(messages)
            size_bytes += sum([len(message) for message in messages])
            room = records_max and size_bytes < FETCH_BYTES
            messages = self._consumer.consume(min(records_max, FETCH_RECORDS), 0) if room else []
        skip = len(self._prefix)
        return {(topic[skip:], number): records for (topic, number), records in held.items()}, others  # type: ignore[index,misc]

    def _first(self, wait_s: float) -> list[Message]:
        """Wait for a message, in slices: a long wait would hold up `close`."""
        until = monotonic() + wait_s
        while not self._closing:
            left = until - monotonic()
            if (first := self._consumer.poll(max(0.0, min(left, SLICE_S)))) is not None:
                return [first]
            if left <= SLICE_S:
                break
        return []

    async def _begins_again(self, message: Message) -> bool:
        """Count the end of a partition as progress, because transaction markers there are no records; raise errors.

        Return whether all partitions were assigned again, which makes earlier fetches void.
        """
        error, topic = message.error(), message.topic() or ""
        assert error is not None
        partition = (topic[len(self._prefix) :], message.partition() or 0)
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            if partition in self._next:
                self._ended[partition] = message.offset() or 0
            return False
        if code == KafkaError._FATAL:
            raise ReaderLost(f"the log: {error.str()}")
        if code not in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise LogUnavailable(f"{topic or 'the log'}: {error.str()}")
        start, position = (await self.starts([partition]))[partition], self._next.get(partition, 0)
        if start > position:
            raise LogTruncated(f"{topic}/{partition[1]} starts at {start}; events from {position} on are no longer there")
        await self.assign(self._next)  # the broker reported this for a valid offset: seen once, on a new topic
        return True

    def position(self, partition: Partition) -> int:
        """Return the offset that is read next; past markers once the end was seen."""
        return self._next[partition]

    async def lag(self) -> dict[Partition, int]:
        """Return the lag of each assigned partition in offsets, by the last committed end that the broker reported."""

        def of(partition: Partition) -> int:
            asked = TopicPartition(self._prefix + partition[0], partition[1])
            _, end = self._consumer.get_watermark_offsets(asked, cached=True)
            return max(0, end - self._next[partition])

        return await self._run(lambda: {partition: of(partition) for partition in self._next})

    async def close(self) -> None:
        """Leave the group and close; a read in progress returns nothing."""
        self._closing = True
        await self._run(self._consumer.close)
        self._thread.shutdown(wait=False)
        del self._consumer  # only freeing returns its slot in thread-local storage, of which there are 1,024

    async def _offsets(self, partitions: Iterable[Partition], time_ms: int) -> dict[Partition, int]:
        """Look up offsets by time in one request: single requests would each wait for the fetch in progress."""
        asked = [TopicPartition(self._prefix + topic, number, time_ms) for topic, number in partitions]
        if not asked:
            return {}
        answers: list[TopicPartition] = []
        async for attempt in stamina.retry_context(on=LogUnavailable, timeout=REQUEST_TIMEOUT_S, wait_initial=0.05, wait_max=1.0):
            with attempt:  # a topic that was just made has no leader yet
                answers = await self._run(lambda: self._consumer.offsets_for_times(asked, timeout=REQUEST_TIMEOUT_S))
                for answer in answers:
                    if answer.error is not None:
                        raise LogUnavailable(f"{answer.topic}/{answer.partition}: {answer.error.str()}")
        return {(answer.topic[len(self._prefix) :], answer.partition): answer.offset for answer in answers}

    async def _run(self, call: Callable[[], T]) -> T:
        """Run a call on the thread: the consumer is used by one at a time. Raises LogUnavailable for Kafka's errors."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except KafkaException as error:
            raise LogUnavailable(f"the log does not answer: {error.args[0].str()}") from error


@asynccontextmanager
async def open_log(settings: Settings, *, idle_ms: int = 1000, gather_ms: int = 0) -> AsyncIterator[LogConsumer]:
    """Yield a consumer without a group, and close it."""
    consumer = LogConsumer(settings, idle_ms=idle_ms, gather_ms=gather_ms)
    try:
        yield consumer
    finally:
        await consumer.close()
