"""A log in memory that grows while it is read: a `projections.folding.log.Source` for each who opens it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from events.codec import encode
from events.envelope import Envelope, Event
from events.topics import TOPIC_OF, partition_for
from projections.folding.log import Place


class GrowingLog:
    """`opened` counts who opened it, ever. What is before `kept_from` is gone."""

    def __init__(self) -> None:
        self.records: dict[Place, list[bytes]] = {}
        self.kept_from: dict[Place, int] = {}
        self.opened = 0
        self._grown = asyncio.Condition()

    async def append(self, *envelopes: Envelope[Event]) -> None:
        """Put events behind what is there, each into the partition of its subject."""
        for envelope in envelopes:
            topic = TOPIC_OF[envelope.data.TYPE]
            place = topic.name, partition_for(envelope.subject, topic.partitions)
            self.records.setdefault(place, []).append(encode(envelope))
        async with self._grown:
            self._grown.notify_all()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Reader"]:
        """Yield a reader."""
        self.opened += 1
        yield Reader(self)

    async def grown(self, positions: Mapping[Place, int], wait_s: float) -> None:
        """Wait until there is something behind some position, or for `wait_s`."""
        try:
            async with asyncio.timeout(wait_s), self._grown:
                await self._grown.wait_for(lambda: any(self.end(place) > at for place, at in positions.items()))
        except TimeoutError:
            return

    def end(self, place: Place) -> int:
        """Return where the next record of a partition will be."""
        return len(self.records.get(place, ()))


class Reader:
    """One reader of the log; gives at most three records of a partition at a time."""

    def __init__(self, log: GrowingLog) -> None:
        self._log = log
        self._next: dict[Place, int] = {}

    async def starts(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Where what is kept begins."""
        return {place: self._log.kept_from.get(place, 0) for place in places}

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Where the next records will be."""
        return {place: self._log.end(place) for place in places}

    async def after(self, places: Iterable[Place], time: datetime) -> Mapping[Place, int]:
        """Everything is older than any time that is asked for."""
        return await self.ends(places)

    async def assign(self, positions: Mapping[Place, int]) -> None:
        """Go on from there, with these only."""
        self._next = dict(positions)

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Place, Sequence[tuple[int, bytes]]]:
        """Return some records of every partition, as soon as there are any."""
        await self._log.grown(self._next, wait_s)
        found = {}
        for place, position in self._next.items():
            if records := self._log.records.get(place, [])[position : position + min(3, records_max)]:
                found[place] = list(enumerate(records, position))
                self._next[place] = position + len(records)
        return found

    def position(self, place: Place) -> int:
        """Where the next read begins."""
        return self._next[place]

    async def lag(self) -> Mapping[Place, int]:
        """How far the end is away."""
        return {place: self._log.end(place) - position for place, position in self._next.items()}
