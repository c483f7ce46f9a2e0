"""A log in memory that grows while it is read; tests/contract/test_sources.py holds it to what the real one does."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from events.codec import encode
from events.envelope import Envelope, Event, Recorded
from events.errors import LogTruncated
from events.topics import TOPIC_OF, Partition, partition_for
from tests.support.footage import START


class Stored(NamedTuple):
    """A record on the log."""

    offset: int
    time: datetime
    value: bytes


class MemoryLog:
    """Partitions of records. Offsets may have gaps, where Kafka has the markers of transactions. `opened` counts readers, ever."""

    def __init__(self) -> None:
        self.records: dict[Partition, list[Stored]] = {}
        self.opened = 0
        self._starts: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._grown = asyncio.Condition()

    @classmethod
    def of(cls, recorded: Iterable[Recorded[Event]]) -> "MemoryLog":
        """Return a log with these events at their offsets."""
        log = cls()
        for one in recorded:
            log.put((one.topic, one.partition), encode(one.envelope), offset=one.offset, time=one.envelope.time)
        return log

    def put(self, partition: Partition, value: bytes, *, offset: int | None = None, time: datetime = START) -> None:
        """Put a record behind what is there, at an offset that may be later."""
        offset = self.end(partition) if offset is None else offset
        assert offset >= self.end(partition), "the log only grows"
        self.records.setdefault(partition, []).append(Stored(offset, time, value))
        self._ends[partition] = offset + 1

    def mark(self, partition: Partition) -> None:
        """Put the marker of a transaction behind what is there."""
        self._ends[partition] = self.end(partition) + 1

    def forget(self, partition: Partition, start: int) -> None:
        """Let the log begin at `start`."""
        self._starts[partition] = start
        self.records[partition] = [record for record in self.records.get(partition, ()) if record.offset >= start]

    async def append(self, *envelopes: Envelope[Event]) -> None:
        """Put events behind what is there, each into the partition of its subject."""
        for envelope in envelopes:
            topic = TOPIC_OF[envelope.data.TYPE]
            self.put((topic.name, partition_for(envelope.subject, topic.partitions)), encode(envelope), time=envelope.time)
        async with self._grown:
            self._grown.notify_all()

    def reader(self) -> "Reader":
        """Return a reader."""
        self.opened += 1
        return Reader(self)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Reader"]:
        """Yield a reader."""
        yield self.reader()

    async def grown(self, positions: Mapping[Partition, int], wait_s: float) -> None:
        """Wait until there is something behind some position, or for `wait_s`."""
        try:
            async with asyncio.timeout(wait_s), self._grown:
                await self._grown.wait_for(lambda: any(self.end(partition) > at for partition, at in positions.items()))
        except TimeoutError:
            return

    def start(self, partition: Partition) -> int:
        """Return where the first record that is still there may be."""
        return self._starts.get(partition, 0)

    def end(self, partition: Partition) -> int:
        """Return where the next record of a partition will be."""
        return max(self._ends.get(partition, 0), self.start(partition))


class Reader:
    """A `projections.folding.log.Source`. It brings few records at a time, and sees an end only when it reads there."""

    AT_ONCE = 3
    """Records of a partition that come together."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next: dict[Partition, int] = {}

    async def starts(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset of the first record that is still there."""
        return {partition: self._log.start(partition) for partition in partitions}

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset after the last record and its marker."""
        return {partition: self._log.end(partition) for partition in partitions}

    async def after(self, partitions: Iterable[Partition], time: datetime) -> Mapping[Partition, int]:
        """Return the offset of each partition's first record that is later than `time`, or its end."""
        return {
            one: next((record.offset for record in self._log.records.get(one, ()) if record.time > time), self._log.end(one))
            for one in partitions
        }

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._next = dict(positions)

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Partition, Sequence[tuple[int, bytes]]]:
        """Return some new records as soon as there are any; none after `wait_s`. Raises LogTruncated."""
        await self._log.grown(self._next, wait_s)
        found: dict[Partition, Sequence[tuple[int, bytes]]] = {}
        for partition, position in self._next.items():
            if position < self._log.start(partition):
                raise LogTruncated(f"{partition[0]}/{partition[1]} starts at {self._log.start(partition)}, after {position}")
            count = min(self.AT_ONCE, records_max - sum(map(len, found.values())))
            if count <= 0:
                break
            records = [(offset, value) for offset, _, value in self._log.records.get(partition, ()) if offset >= position][:count]
            if records:
                found[partition] = records
            self._next[partition] = records[-1][0] + 1 if records else max(position, self._log.end(partition))
        return found

    def position(self, partition: Partition) -> int:
        """Return the offset that is read next; past markers once the end was seen."""
        return self._next[partition]

    async def lag(self) -> Mapping[Partition, int]:
        """Return how far the end is from what was read."""
        return {partition: max(0, self._log.end(partition) - position) for partition, position in self._next.items()}
