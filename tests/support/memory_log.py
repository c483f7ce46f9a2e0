"""A log in memory that grows while it is read; tests/contract/test_sources.py holds it to what the real one does."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from events.codec import encode
from events.envelope import Envelope, Event, Recorded
from events.errors import LogTruncated
from events.topics import TOPIC_OF, partition_for
from projections.folding.log import Place
from tests.support.footage import START


class Placed(NamedTuple):
    """A record on the log."""

    offset: int
    time: datetime
    value: bytes


class MemoryLog:
    """Partitions of records. Offsets may have gaps, where Kafka has the markers of transactions. `opened` counts readers, ever."""

    def __init__(self) -> None:
        self.records: dict[Place, list[Placed]] = {}
        self.opened = 0
        self._starts: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._grown = asyncio.Condition()

    @classmethod
    def of(cls, recorded: Iterable[Recorded[Event]]) -> "MemoryLog":
        """Return a log with these events at their offsets."""
        log = cls()
        for one in recorded:
            log.put((one.topic, one.partition), encode(one.envelope), offset=one.offset, time=one.envelope.time)
        return log

    def put(self, place: Place, value: bytes, *, offset: int | None = None, time: datetime = START) -> None:
        """Put a record behind what is there, at an offset that may be later."""
        offset = self.end(place) if offset is None else offset
        assert offset >= self.end(place), "the log only grows"
        self.records.setdefault(place, []).append(Placed(offset, time, value))
        self._ends[place] = offset + 1

    def mark(self, place: Place) -> None:
        """Put the marker of a transaction behind what is there."""
        self._ends[place] = self.end(place) + 1

    def forget(self, place: Place, start: int) -> None:
        """Let the log begin at `start`."""
        self._starts[place] = start
        self.records[place] = [record for record in self.records.get(place, ()) if record.offset >= start]

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

    async def grown(self, positions: Mapping[Place, int], wait_s: float) -> None:
        """Wait until there is something behind some position, or for `wait_s`."""
        try:
            async with asyncio.timeout(wait_s), self._grown:
                await self._grown.wait_for(lambda: any(self.end(place) > at for place, at in positions.items()))
        except TimeoutError:
            return

    def start(self, place: Place) -> int:
        """Return where the first record that is still there may be."""
        return self._starts.get(place, 0)

    def end(self, place: Place) -> int:
        """Return where the next record of a partition will be."""
        return max(self._ends.get(place, 0), self.start(place))


class Reader:
    """A `projections.folding.log.Source`. It brings few records at a time, and sees an end only when it reads there."""

    AT_ONCE = 3
    """Records of a partition that come together."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next: dict[Place, int] = {}

    async def starts(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Return the offset of the first record that is still there."""
        return {place: self._log.start(place) for place in places}

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Return the offset after the last record and its marker."""
        return {place: self._log.end(place) for place in places}

    async def after(self, places: Iterable[Place], time: datetime) -> Mapping[Place, int]:
        """Return the offset of each partition's first record that is later than `time`, or its end."""
        return {
            place: next((record.offset for record in self._log.records.get(place, ()) if record.time > time), self._log.end(place))
            for place in places
        }

    async def assign(self, positions: Mapping[Place, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._next = dict(positions)

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Place, Sequence[tuple[int, bytes]]]:
        """Return some new records as soon as there are any; none after `wait_s`. Raises LogTruncated."""
        await self._log.grown(self._next, wait_s)
        found: dict[Place, Sequence[tuple[int, bytes]]] = {}
        for place, position in self._next.items():
            if position < self._log.start(place):
                raise LogTruncated(f"{place[0]}/{place[1]} starts at {self._log.start(place)}, after {position}")
            count = min(self.AT_ONCE, records_max - sum(map(len, found.values())))
            if count <= 0:
                break
            records = [(offset, value) for offset, _, value in self._log.records.get(place, ()) if offset >= position][:count]
            if records:
                found[place] = records
            self._next[place] = records[-1][0] + 1 if records else max(position, self._log.end(place))
        return found

    def position(self, place: Place) -> int:
        """Return the offset that is read next; past markers once the end was seen."""
        return self._next[place]

    async def lag(self) -> Mapping[Place, int]:
        """Return how far the end is from what was read."""
        return {place: max(0, self._log.end(place) - position) for place, position in self._next.items()}
