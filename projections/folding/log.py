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
from events.topics import FOR_EVER, TOPIC_OF, TOPICS
from projections.folding.fold import DecodeAll, Gathered, Projection
from projections.folding.pace import Pace
from projections.folding.runner import Batch, Slice

Place = tuple[str, int]
"""A topic and a partition."""
_CARRIED: Mapping[str, AbstractSet[type]] = {topic.name: frozenset(topic.events) for topic in TOPICS.values()}
FETCHED_RECORDS = 1000
"""So many are fetched at once where they are summed up at once."""
AGAIN_S = 60.0
"""So long at most a batch is read again: its partitions may have gone to another reader meanwhile."""
TURN_RECORDS = 250
"""So many are decoded in one turn of the event loop: a batch is read while another is written, which has answers to take."""


class Source(Protocol):
    """Where records come from; `infra.runtime.log_consumer` has the one for Kafka."""

    async def starts(self, places: Iterable[Place]) -> Mapping[Place, int]: ...

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]: ...

    async def after(self, places: Iterable[Place], time: datetime) -> Mapping[Place, int]: ...

    async def assign(self, positions: Mapping[Place, int]) -> None: ...

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Place, Sequence[tuple[int, bytes]]]: ...

    def position(self, place: Place) -> int: ...

    async def lag(self) -> Mapping[Place, int]: ...


class DeadLetter(NamedTuple):
    """A record that its `reader` could not decode or act on, and why."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes
    reader: str = ""


def decoded(topic: str, partition: int, records: Sequence[tuple[int, bytes]]) -> tuple[list[Recorded[Event]], list[DeadLetter]]:
    """Return the events of some records, and what could not be decoded."""
    offsets, envelopes, dead = _readable(topic, partition, records, decode_all)
    return _placed(topic, partition, offsets, envelopes), dead


def _placed(topic: str, partition: int, offsets: Sequence[int], envelopes: Sequence[Envelope[Any]]) -> list[Recorded[Any]]:
    places = zip(repeat(topic), repeat(partition), offsets, envelopes, strict=False)
    return list(map(new_tuple, repeat(Recorded), places))


def _readable(
    topic: str, partition: int, records: Sequence[tuple[int, bytes]], decode_all: DecodeAll
) -> tuple[list[int], list[Envelope[Any]], list[DeadLetter]]:
    """Return offsets and envelopes of what can be decoded and belongs on the topic, and what does not."""
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
    """Raise InvalidEvent for an event that its topic does not carry: folds are written for the events of their topics alone."""
    for found in {type(envelope.data) for envelope in envelopes} - _CARRIED[topic]:
        if issubclass(found, Event) and found.TYPE in TOPIC_OF:  # a projection's own `decode_all` may read into something else
            raise InvalidEvent(f"{found.TYPE} does not belong on topic {topic}")


async def stretches(
    source: Source, positions: Mapping[Place, int], ends: Mapping[Place, int], *, records_max: int
) -> AsyncIterator[tuple[Place, list[tuple[int, bytes]]]]:
    """Yield (place, records) of what lies between, each partition in order, about `records_max` records at a time."""
    held: dict[Place, list[tuple[int, bytes]]] = {place: [] for place in positions}
    await source.assign(positions)
    while any(source.position(place) < ends[place] for place in positions):
        for place, found in (await source.read(records_max=10_000, wait_s=0.5)).items():
            held[place] += [record for record in found if record[0] < ends[place]]
            if len(held[place]) >= records_max:
                yield place, held[place]
                held[place] = []
    for place, records in held.items():
        if records:
            yield place, records


class _Building:
    """A batch that is being read. With `gathered`, events are summed up there instead of being kept, all but those `left_out`."""

    def __init__(self, decode_all: DecodeAll, gathered: Gathered | None = None, left_out: AbstractSet[str] = frozenset()) -> None:
        self._decode_all = decode_all
        self._left_out = left_out
        self._records: list[Recorded[Event]] = []
        self.gathered = gathered
        self.slices: dict[Place, Slice] = {}
        self.dead: list[DeadLetter] = []

    def add(self, place: Place, start: int, records: Sequence[tuple[int, bytes]]) -> int:
        """Take records that begin at offset `start`; return where they end."""
        offsets, envelopes, dead = _readable(*place, records, self._decode_all)
        newest = max([envelope.time for envelope in envelopes], default=None)
        if self.gathered is None:
            self._records += _placed(*place, offsets, envelopes)
        else:
            if self._left_out:
                envelopes = [envelope for envelope in envelopes if envelope.id not in self._left_out]
            self.gathered.add(envelopes)
        self.dead += dead
        end = records[-1][0] + 1
        part = Slice(*place, start, end, len(records), newest)
        before = self.slices.get(place)
        self.slices[place] = part if before is None else before.joined(part)
        return end

    def batch(self) -> Batch | None:
        """Return what came; None when nothing did."""
        return Batch(tuple(self.slices.values()), self._records, self.gathered) if self.slices else None


class LogReader:
    """Turns what a source has into batches that start where the last one ended."""

    def __init__(self, source: Source, projection: Projection | None = None, pace: Pace | None = None) -> None:
        """Where the `projection` gathers, batches are what it has gathered; it also says how records are decoded."""
        self._source = source
        self._pace = pace or Pace()
        self._decode_all = projection.decode_all if projection else decode_all
        self._gathering = projection.gathering if projection else None
        self._begun: asyncio.Task[tuple[Batch | None, list[DeadLetter]]] | None = None
        self._next: dict[Place, int] = {}
        self._starts: Mapping[Place, int] = {}
        self._stopped: dict[Place, int] = {}
        self.truncated = False
        """Whether the start of a topic that is kept for some time only was gone: what is folded is not all there was."""

    async def seek(self, positions: Mapping[Place, int]) -> None:
        """Go on from these positions. Raises LogTruncated when the log starts after one of them.

        Reading from zero is not refused on a topic that is kept for some time only: it means all that there is.
        """
        await self.forget()
        starts = await self._source.starts(positions)
        for place, position in positions.items():
            topic, number = place
            if starts[place] > position:
                if position or TOPICS[topic].retention_ms == FOR_EVER:
                    raise LogTruncated(f"{topic}/{number} starts at {starts[place]}; events from {position} on are needed")
                self.truncated = True
        self._next, self._starts, self._stopped = dict(positions), starts, {}
        await self._assign()

    async def _assign(self) -> None:
        """Tell the source where to go on, with the partitions that are not stopped."""
        wanted = {place: position for place, position in self._next.items() if place not in self._stopped}
        await self._source.assign({place: max(position, self._starts[place]) for place, position in wanted.items()})

    async def ends(self) -> Mapping[Place, int]:
        """Return the present ends of what is read."""
        return await self._source.ends(self._next)

    @property
    def positions(self) -> dict[Place, int]:
        """The offsets that are read next."""
        return dict(self._next)

    def missing(self, target: Mapping[Place, int]) -> int:
        """Return how many offsets lie between what was read and `target`; none where only transaction markers do."""
        return sum(position - self._next[place] for place, position in target.items() if position > self._reached(place))

    def _reached(self, place: Place) -> int:
        """Return the offset before which nothing is left to read; past markers, where they were seen."""
        seen = self._stopped[place] if place in self._stopped else self._source.position(place)
        return max(self._next[place], seen)

    async def read(
        self, *, records_max: int, wait_s: float, until: Mapping[Place, int] | None = None
    ) -> tuple[Batch | None, list[DeadLetter]]:
        """Return the next batch, None when there was nothing for `wait_s`, and what in it could not be decoded.

        With `until`, nothing at or past these positions is read: where one is reached, the source is told to leave the
        partition alone until there is a later one.
        """
        if self._begun is not None:
            begun, self._begun = self._begun, None
            return await begun
        return await self._read(records_max, wait_s, until)

    def begin(self, *, records_max: int, wait_s: float) -> None:
        """Begin what the next `read` will return, while the caller writes what it got last; `seek` throws it away."""
        self._begun = asyncio.create_task(self._read(records_max, wait_s, None))

    async def forget(self) -> None:
        """Throw away what was begun."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)

    async def _read(
        self, records_max: int, wait_s: float, until: Mapping[Place, int] | None
    ) -> tuple[Batch | None, list[DeadLetter]]:
        building = self._building()
        await self._fill(building, records_max, wait_s, until)
        return building.batch(), building.dead

    def _building(self, left_out: AbstractSet[str] = frozenset()) -> _Building:
        """Return what the next batch is put into."""
        if self._gathering is None:
            return _Building(self._decode_all)
        start = dict(self._next)

        async def without(ids: AbstractSet[str]) -> Gathered:
            """Read the batch again; the next one begins behind it. What was begun is thrown away. Raises TimeoutError."""
            end = start | {place: part.next for place, part in building.slices.items()}
            await self.seek(start)
            again = self._building(left_out | ids)
            async with asyncio.timeout(AGAIN_S):
                while self.missing(end):
                    await self._fill(again, FETCHED_RECORDS, 0.5, end)
            assert again.gathered is not None
            return again.gathered

        building = _Building(self._decode_all, Gathered(self._gathering(), without), left_out)
        return building

    async def _fill(self, building: _Building, records_max: int, wait_s: float, until: Mapping[Place, int] | None) -> None:
        """Read a batch into `building`: what one fetch brings or, where it is summed up, one small fetch after another."""
        stopped = {place: limit for place, limit in self._stopped.items() if until is not None and until[place] <= limit}
        if stopped != self._stopped:
            self._stopped = stopped
            await self._assign()
        at_once, read = records_max if building.gathered is None else min(records_max, FETCHED_RECORDS), 0
        while fetched := await self._source.read(records_max=at_once, wait_s=0 if read else wait_s):
            for place, found in fetched.items():
                read += len(found)
                if place not in self._next:
                    continue  # it was taken from us while the fetch was under way
                if until is not None and found[-1][0] >= until[place]:
                    found = [record for record in found if record[0] < until[place]]
                    self._stopped[place] = until[place]
                for at in range(0, len(found), TURN_RECORDS):
                    if at:
                        await self._pace.rest()
                    with self._pace.turn():
                        self._next[place] = building.add(place, self._next[place], found[at : at + TURN_RECORDS])
            if building.gathered is None or read >= records_max:
                break
        if self._stopped != stopped:
            await self._assign()

    async def to_end(self, *, records_max: int = 20_000) -> AsyncIterator[tuple[Sequence[Recorded[Event]], list[DeadLetter]]]:
        """Yield all events from here to the present end, and what could not be decoded."""
        ends = await self._source.ends(self._next)
        while self.missing(ends):
            batch, dead = await self.read(records_max=records_max, wait_s=0.5)
            yield batch.records if batch else (), dead

    async def lag(self) -> Mapping[Place, int]:
        """Return, per partition, how many offsets lie between what was read and the last stable end."""
        return await self._source.lag()
