"""Reads the log in whole batches, from stored positions on."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import repeat
from typing import Any, NamedTuple, Protocol

from events.codec import decode, decode_all
from events.envelope import Envelope, Event, Recorded, new_tuple
from events.errors import InvalidEvent, LogTruncated
from events.topics import FOR_EVER, TOPIC_OF, TOPICS, Partition
from projections.folding.fold import DecodeAll, Gathered, Projection
from projections.folding.pace import Pace
from projections.folding.runner import Batch, Slice

_CARRIED: Mapping[str, AbstractSet[type]] = {topic.name: frozenset(topic.events) for topic in TOPICS.values()}
FETCHED_RECORDS = 1000
"""Records per fetch where a projection gathers."""
AGAIN_S = 60.0
"""Maximum time to read a batch again: its partitions may have gone to another reader."""
TURN_RECORDS = 250
"""Records decoded per turn of the event loop: a batch is read while another is written, whose answers need turns, too."""


class Source(Protocol):
    """A source of records; `infra.runtime.log_consumer` has the one for Kafka."""

    async def starts(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]: ...

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]: ...

    async def after(self, partitions: Iterable[Partition], time: datetime) -> Mapping[Partition, int]: ...

    async def assign(self, positions: Mapping[Partition, int]) -> None: ...

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Partition, Sequence[tuple[int, bytes]]]: ...

    def position(self, partition: Partition) -> int: ...

    async def lag(self) -> Mapping[Partition, int]: ...


class DeadLetter(NamedTuple):
    """A record that its `reader` could not decode or act on, and the reason."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes
    reader: str = ""


def decoded(topic: str, partition: int, records: Sequence[tuple[int, bytes]]) -> tuple[list[Recorded[Event]], list[DeadLetter]]:
    """Return the events of records, and dead letters for those that cannot be decoded."""
    offsets, envelopes, dead = _readable(topic, partition, records, decode_all)
    return _recorded(topic, partition, offsets, envelopes), dead


def _recorded(topic: str, partition: int, offsets: Sequence[int], envelopes: Sequence[Envelope[Any]]) -> list[Recorded[Any]]:
    fields = zip(repeat(topic), repeat(partition), offsets, envelopes, strict=False)
    return list(map(new_tuple, repeat(Recorded), fields))


def _readable(
    topic: str, partition: int, records: Sequence[tuple[int, bytes]], decode_all: DecodeAll
) -> tuple[list[int], list[Envelope[Any]], list[DeadLetter]]:
    """Return offsets and envelopes of records that can be decoded and belong on the topic, and dead letters for the others."""
    try:
        envelopes = decode_all([value for _, value in records])
        _refuse_strangers(topic, envelopes)
    except InvalidEvent:
        return _readable_singly(topic, partition, records)
    return [offset for offset, _ in records], envelopes, []


def _readable_singly(
    topic: str, partition: int, records: Iterable[tuple[int, bytes]]
) -> tuple[list[int], list[Envelope[Any]], list[DeadLetter]]:
    offsets: list[int] = []
    envelopes: list[Envelope[Any]] = []
    dead: list[DeadLetter] = []
    for offset, value in records:
        try:
            envelope = decode(value)
            _refuse_strangers(topic, [envelope])
            envelopes.append(envelope)
            offsets.append(offset)
        except InvalidEvent as error:
            dead.append(DeadLetter(topic, partition, offset, str(error), value))
    return offsets, envelopes, dead


def _refuse_strangers(topic: str, envelopes: Sequence[Envelope[Any]]) -> None:
    """Raise InvalidEvent for an event that its topic does not carry: folds handle only the events of their topics."""
    for found in {type(envelope.data) for envelope in envelopes} - _CARRIED[topic]:
        if issubclass(found, Event) and found.TYPE in TOPIC_OF:  # a projection's own `decode_all` may read into something else
            raise InvalidEvent(f"{found.TYPE} does not belong on topic {topic}")


async def stretches(
    source: Source, positions: Mapping[Partition, int], ends: Mapping[Partition, int], *, records_max: int
) -> AsyncIterator[tuple[Partition, list[tuple[int, bytes]]]]:
    """Yield (partition, records) from `positions` to `ends`: each partition in order, about `records_max` records at a time."""
    held: dict[Partition, list[tuple[int, bytes]]] = {partition: [] for partition in positions}
    await source.assign(positions)
    while any(source.position(partition) < ends[partition] for partition in positions):
        for partition, found in (await source.read(records_max=10_000, wait_s=0.5)).items():
            held[partition] += [record for record in found if record[0] < ends[partition]]
            if len(held[partition]) >= records_max:
                yield partition, held[partition]
                held[partition] = []
    for partition, records in held.items():
        if records:
            yield partition, records


class _Building:
    """A batch under construction. With `gathered`, events are summed up there instead of being kept, except those `left_out`."""

    def __init__(self, decode_all: DecodeAll, gathered: Gathered | None = None, left_out: AbstractSet[str] = frozenset()) -> None:
        self._decode_all = decode_all
        self._left_out = left_out
        self._records: list[Recorded[Event]] = []
        self.gathered = gathered
        self.slices: dict[Partition, Slice] = {}
        self.dead: list[DeadLetter] = []

    def add(self, partition: Partition, start: int, records: Sequence[tuple[int, bytes]]) -> int:
        """Take records from offset `start` on; return the offset after them."""
        offsets, envelopes, dead = _readable(*partition, records, self._decode_all)
        newest = max([envelope.time for envelope in envelopes], default=None)
        if self.gathered is None:
            self._records += _recorded(*partition, offsets, envelopes)
        else:
            if self._left_out:
                envelopes = [envelope for envelope in envelopes if envelope.id not in self._left_out]
            self.gathered.add(envelopes)
        self.dead += dead
        end = records[-1][0] + 1
        part = Slice(*partition, start, end, len(records), newest)
        before = self.slices.get(partition)
        self.slices[partition] = part if before is None else before.joined(part)
        return end

    def batch(self) -> Batch | None:
        """Return the batch; None when it is empty."""
        return Batch(tuple(self.slices.values()), self._records, self.gathered) if self.slices else None


class LogReader:
    """Reads batches from a source, each from the end of the last one."""

    def __init__(self, source: Source, projection: Projection | None = None, pace: Pace | None = None) -> None:
        """The `projection` decides how records are decoded, and whether batches have gathered sums."""
        self._source = source
        self._pace = pace or Pace()
        self._decode_all = projection.decode_all if projection else decode_all
        self._gathering = projection.gathering if projection else None
        self._begun: asyncio.Task[tuple[Batch | None, list[DeadLetter]]] | None = None
        self._next: dict[Partition, int] = {}
        self._starts: Mapping[Partition, int] = {}
        self._stopped: dict[Partition, int] = {}
        self.truncated = False
        """Whether the log has lost the start of a topic with limited retention: the fold is not of all events."""

    async def seek(self, positions: Mapping[Partition, int]) -> None:
        """Read from these positions on. Raises LogTruncated when the log starts after one of them.

        On a topic with limited retention, position zero means the start of the log and is not refused.
        """
        await self.forget()
        starts = await self._source.starts(positions)
        for partition, position in positions.items():
            topic, number = partition
            if starts[partition] > position:
                if position or TOPICS[topic].retention_ms == FOR_EVER:
                    raise LogTruncated(f"{topic}/{number} starts at {starts[partition]}; events from {position} on are needed")
                self.truncated = True
        self._next, self._starts, self._stopped = dict(positions), starts, {}
        await self._assign()

    async def _assign(self) -> None:
        """Assign the partitions that are not stopped, each at its next position."""
        wanted = {partition: position for partition, position in self._next.items() if partition not in self._stopped}
        await self._source.assign({partition: max(position, self._starts[partition]) for partition, position in wanted.items()})

    async def ends(self) -> Mapping[Partition, int]:
        """Return the present ends of the read partitions."""
        return await self._source.ends(self._next)

    @property
    def positions(self) -> dict[Partition, int]:
        """The next offset of each partition."""
        return dict(self._next)

    def missing(self, target: Mapping[Partition, int]) -> int:
        """Return the number of offsets left before `target`; transaction markers alone do not count."""
        return sum(
            position - self._next[partition] for partition, position in target.items() if position > self._reached(partition)
        )

    def _reached(self, partition: Partition) -> int:
        """Return the offset before which everything is read, also past markers that were seen."""
        seen = self._stopped[partition] if partition in self._stopped else self._source.position(partition)
        return max(self._next[partition], seen)

    async def read(
        self, *, records_max: int, wait_s: float, until: Mapping[Partition, int] | None = None
    ) -> tuple[Batch | None, list[DeadLetter]]:
        """Return the next batch, None when nothing came for `wait_s`, and its dead letters.

        With `until`, nothing at or past these positions is read: the source leaves a partition alone once its position is
        reached, until there is a later one.
        """
        if self._begun is not None:
            begun, self._begun = self._begun, None
            return await begun
        return await self._read(records_max, wait_s, until)

    def begin(self, *, records_max: int, wait_s: float) -> None:
        """Begin the next `read` while the caller writes the last batch; `seek` drops it."""
        self._begun = asyncio.create_task(self._read(records_max, wait_s, None))

    async def forget(self) -> None:
        """Drop the begun read."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)

    async def _read(
        self, records_max: int, wait_s: float, until: Mapping[Partition, int] | None
    ) -> tuple[Batch | None, list[DeadLetter]]:
        building = self._building()
        await self._fill(building, records_max, wait_s, until)
        return building.batch(), building.dead

    def _building(self, left_out: AbstractSet[str] = frozenset()) -> _Building:
        """Return an empty batch to read into."""
        if self._gathering is None:
            return _Building(self._decode_all)
        start = dict(self._next)

        async def without(ids: AbstractSet[str]) -> Gathered:
            """Read a batch again; the next one begins behind it. A begun read is dropped. Raises TimeoutError."""
            end = start | {partition: part.next for partition, part in building.slices.items()}
            await self.seek(start)
            again = self._building(left_out | ids)
            async with asyncio.timeout(AGAIN_S):
                while self.missing(end):
                    await self._fill(again, FETCHED_RECORDS, 0.5, end)
            assert again.gathered is not None
            return again.gathered

        building = _Building(self._decode_all, Gathered(self._gathering(), without), left_out)
        return building

    async def _fill(self, building: _Building, records_max: int, wait_s: float, until: Mapping[Partition, int] | None) -> None:
        """Read a batch into `building`: by one fetch or, where a projection gathers, by many small ones."""
        stopped = {
            partition: limit for partition, limit in self._stopped.items() if until is not None and until[partition] <= limit
        }
        if stopped != self._stopped:
            self._stopped = stopped
            await self._assign()
        at_once, read = records_max if building.gathered is None else min(records_max, FETCHED_RECORDS), 0
        while fetched := await self._source.read(records_max=at_once, wait_s=0 if read else wait_s):
            for partition, found in fetched.items():
                read += len(found)
                if partition not in self._next:
                    continue  # revoked during the fetch
                if until is not None and found[-1][0] >= until[partition]:
                    found = [record for record in found if record[0] < until[partition]]
                    self._stopped[partition] = until[partition]
                for at in range(0, len(found), TURN_RECORDS):
                    if at:
                        await self._pace.rest()
                    with self._pace.turn():
                        self._next[partition] = building.add(partition, self._next[partition], found[at : at + TURN_RECORDS])
            if building.gathered is None or read >= records_max:
                break
        if self._stopped != stopped:
            await self._assign()

    async def to_end(self, *, records_max: int = 20_000) -> AsyncIterator[tuple[Sequence[Recorded[Event]], list[DeadLetter]]]:
        """Yield (events, dead letters) from here to the present end."""
        ends = await self._source.ends(self._next)
        while self.missing(ends):
            batch, dead = await self.read(records_max=records_max, wait_s=0.5)
            yield batch.records if batch else (), dead

    async def lag(self) -> Mapping[Partition, int]:
        """Return the lag of each partition: offsets between its position and its last stable end."""
        return await self._source.lag()
