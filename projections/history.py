"""Archive and live log as one stream: what is in files is read from them, what is not yet from Kafka.

A `projections.log.Source`, so rebuilds and replays read all of history even when Kafka keeps a few days of it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from events.errors import KinologError
from projections.archive import Segment
from projections.log import Place, Source
from projections.parquet import Record, read_segment


class ArchiveDamaged(KinologError):
    """A file of the archive is missing or not the one that was archived; `kinolog verify` tells more."""


class History(Source):
    """`segments` in the order of their offsets; `fetch` returns the checked bytes of one."""

    def __init__(self, log: Source, segments: Iterable[Segment], fetch: Callable[[Segment], Awaitable[bytes]]) -> None:
        self._log = log
        self._fetch = fetch
        self._segments: dict[Place, list[Segment]] = defaultdict(list)
        for segment in segments:
            self._segments[segment.topic, segment.partition].append(segment)
        self._in_files: dict[Place, int] = {}
        self._tail: dict[Place, int] = {}
        self._joined = False
        self._paused: set[Place] = set()
        self._open: dict[Place, tuple[Segment, list[Record]]] = {}

    async def starts(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Return the first offset that is in a file or on the log."""
        starts = dict(await self._log.starts(places))
        for place in starts:
            if files := self._segments.get(place):
                starts[place] = min(starts[place], files[0].first)
        return starts

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Return the ends of the log."""
        return await self._log.ends(places)

    async def assign(self, positions: Mapping[Place, int]) -> None:
        """Read from these positions on: from files as far as they go, from there on from the log."""
        self._joined, self._paused, self._open = False, set(), {}
        self._in_files = {place: position for place, position in positions.items() if self._is_in_files(place, position)}
        self._tail = {place: position for place, position in positions.items() if place not in self._in_files}

    def _is_in_files(self, place: Place, position: int) -> bool:
        files = self._segments.get(place)
        return files is not None and position < files[-1].next

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Place, Sequence[Record]]:
        """Return the next records of one partition's files; when no file is left to read, those of the log."""
        if readable := self._in_files.keys() - self._paused:
            place = min(readable)
            records = await self._from_files(place, records_max)
            return {place: records} if records else {}
        if not self._joined:
            await self._log.assign(self._tail)
            self._joined = True
        return await self._log.read(records_max=records_max, wait_s=wait_s)

    async def _from_files(self, place: Place, records_max: int) -> Sequence[Record]:
        files, position = self._segments[place], self._in_files[place]
        segment = files[max(0, bisect_right(files, position, key=lambda file: file.first) - 1)]
        if place not in self._open or self._open[place][0] is not segment:
            self._open = {place: (segment, list(read_segment(await self._fetch(segment))))}
        records = self._open[place][1]
        start = bisect_right(records, position - 1, key=lambda record: record[0])
        found = records[start : start + records_max]
        self._in_files[place] = found[-1][0] + 1 if start + records_max < len(records) else segment.next
        if not self._is_in_files(place, self._in_files[place]):
            self._leave_files(place)
        return found

    def _leave_files(self, place: Place) -> None:
        """Go on with the log, which must be told so."""
        if self._joined:
            self._tail = {other: self._log.position(other) for other in self._tail}
        self._tail[place] = self._in_files.pop(place)
        self._joined = False

    def position(self, place: Place) -> int:
        """Return the offset that is read next."""
        if place in self._in_files:
            return self._in_files[place]
        return self._log.position(place) if self._joined else self._tail[place]

    async def pause(self, place: Place, position: int) -> None:
        """Stop reading a partition; `resume` goes on from `position`."""
        if self._is_in_files(place, position):
            self._tail.pop(place, None)
            self._in_files[place] = position
            self._paused.add(place)
        elif self._joined:
            await self._log.pause(place, position)
        else:
            self._tail[place] = position

    async def resume(self, place: Place) -> None:
        """Read a paused partition again."""
        if place in self._paused:
            self._paused.remove(place)
        elif self._joined:
            await self._log.resume(place)

    async def lag(self) -> Mapping[Place, int]:
        """Return how far the log's end is away; of nothing before the files are read."""
        return await self._log.lag() if self._joined else {}
