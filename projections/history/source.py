"""Archive and live log as one stream: archived records come from files, later ones from Kafka.

Implements `projections.folding.log.Source`, so rebuilds and replays read all of history even if Kafka keeps only a few days.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from events.errors import KinologError
from projections.folding.log import Place, Source
from projections.history.archive import Segment
from projections.history.parquet import Record, first_after, milliseconds, read_batches


class ArchiveDamaged(KinologError):
    """A file of the archive is missing or not the one that was archived; `kinolog verify` tells more."""


class History(Source):
    """All of history. `segments` are in offset order; `fetch` returns the verified bytes of a segment."""

    def __init__(self, log: Source, segments: Iterable[Segment], fetch: Callable[[Segment], Awaitable[bytes]]) -> None:
        self.log = log
        self.fetch = fetch
        self.segments: dict[Place, list[Segment]] = defaultdict(list)
        for segment in segments:
            self.segments[segment.topic, segment.partition].append(segment)
        self._in_files: dict[Place, int] = {}
        self._tail: dict[Place, int] = {}
        self._joined = False
        self._open: tuple[Segment, int, Iterator[list[Record]]] | None = None

    async def starts(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Return each partition's first offset in a file or on the log."""
        starts = dict(await self.log.starts(places))
        for place in starts:
            if files := self.segments.get(place):
                starts[place] = min(starts[place], files[0].first)
        return starts

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Return the ends of the log."""
        return await self.log.ends(places)

    async def after(self, places: Iterable[Place], time: datetime) -> Mapping[Place, int]:
        """Return the offset of each partition's first record later than `time`, or the partition's end."""
        found = dict(await self.log.after(places, time))
        for place in found:
            for segment in self.segments.get(place, ()):
                if segment.time_last is not None and milliseconds(segment.time_last) > milliseconds(time):
                    found[place] = first_after(await self.fetch(segment), time)
                    break
        return found

    async def assign(self, positions: Mapping[Place, int]) -> None:
        """Start reading at these positions: from files first, then from the log."""
        self._joined, self._open = False, None
        self._in_files = {place: position for place, position in positions.items() if self._is_in_files(place, position)}
        self._tail = {place: position for place, position in positions.items() if place not in self._in_files}

    def _is_in_files(self, place: Place, position: int) -> bool:
        files = self.segments.get(place)
        return files is not None and position < files[-1].next

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Place, Sequence[Record]]:
        """Return the next records of one partition's files, or of the log once all files are read."""
        if self._in_files:
            place = min(self._in_files)
            records = await self._from_files(place, records_max)
            return {place: records} if records else {}
        if not self._joined:
            await self.log.assign(self._tail)
            self._joined = True
        return await self.log.read(records_max=records_max, wait_s=wait_s)

    async def _from_files(self, place: Place, records_max: int) -> Sequence[Record]:
        files, position = self.segments[place], self._in_files[place]
        segment = files[max(0, bisect_right(files, position, key=lambda file: file.first) - 1)]
        if self._open is None or self._open[0] is not segment or self._open[1] != records_max:
            self._open = segment, records_max, read_batches(await self.fetch(segment), records_max)
        found = next((batch for batch in self._open[2] if batch[-1][0] >= position), [])
        if found and found[0][0] < position:
            found = [record for record in found if record[0] >= position]
        self._in_files[place] = found[-1][0] + 1 if found else segment.next
        if not self._is_in_files(place, self._in_files[place]):
            self._tail[place] = self._in_files.pop(place)
        return found

    def position(self, place: Place) -> int:
        """Return the next offset to read."""
        if place in self._in_files:
            return self._in_files[place]
        return self.log.position(place) if self._joined else self._tail[place]

    async def lag(self) -> Mapping[Place, int]:
        """Return the distance to the log's end by partition; empty until all files are read."""
        return await self.log.lag() if self._joined else {}
