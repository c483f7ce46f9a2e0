"""Archive and live log as one stream: archived records come from files, later ones from Kafka.

Implements `projections.folding.log.Source`, so rebuilds and replays read all of history even if Kafka keeps only a few days.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from events.errors import KinologError
from events.topics import Partition
from projections.folding.log import Source
from projections.history.archive import Segment
from projections.history.parquet import Record, first_after, milliseconds, read_batches


class ArchiveDamaged(KinologError):
    """A file of the archive is missing or not the one that was archived; `kinolog verify` says more."""


class History(Source):
    """All of history. `segments` are in offset order; `fetch` returns the verified bytes of a segment."""

    def __init__(self, log: Source, segments: Iterable[Segment], fetch: Callable[[Segment], Awaitable[bytes]]) -> None:
        self.log = log
        self.fetch = fetch
        self.segments: dict[Partition, list[Segment]] = defaultdict(list)
        for segment in segments:
            self.segments[segment.topic, segment.partition].append(segment)
        self._in_files: dict[Partition, int] = {}
        self._tail: dict[Partition, int] = {}
        self._joined = False
        self._open: tuple[Segment, int, Iterator[list[Record]]] | None = None

    async def starts(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return each partition's first offset in a file or on the log."""
        starts = dict(await self.log.starts(partitions))
        for partition in starts:
            if files := self.segments.get(partition):
                starts[partition] = min(starts[partition], files[0].first)
        return starts

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the ends of the log."""
        return await self.log.ends(partitions)

    async def after(self, partitions: Iterable[Partition], time: datetime) -> Mapping[Partition, int]:
        """Return the offset of each partition's first record later than `time`, or the partition's end."""
        found = dict(await self.log.after(partitions, time))
        for partition in found:
            for segment in self.segments.get(partition, ()):
                if segment.time_last is not None and milliseconds(segment.time_last) > milliseconds(time):
                    found[partition] = first_after(await self.fetch(segment), time)
                    break
        return found

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        """Start reading at these positions: from files first, then from the log."""
        self._joined, self._open = False, None
        self._in_files = {
            partition: position for partition, position in positions.items() if self._is_in_files(partition, position)
        }
        self._tail = {partition: at for partition, at in positions.items() if partition not in self._in_files}

    def _is_in_files(self, partition: Partition, position: int) -> bool:
        files = self.segments.get(partition)
        return files is not None and position < files[-1].next

    async def read(self, *, records_max: int, wait_s: float) -> Mapping[Partition, Sequence[Record]]:
        """Return the next records of one partition's files, or of the log once all files are read."""
        if self._in_files:
            partition = min(self._in_files)
            records = await self._from_files(partition, records_max)
            return {partition: records} if records else {}
        if not self._joined:
            await self.log.assign(self._tail)
            self._joined = True
        return await self.log.read(records_max=records_max, wait_s=wait_s)

    async def _from_files(self, partition: Partition, records_max: int) -> Sequence[Record]:
        files, position = self.segments[partition], self._in_files[partition]
        segment = files[max(0, bisect_right(files, position, key=lambda file: file.first) - 1)]
        if self._open is None or self._open[0] is not segment or self._open[1] != records_max:
            self._open = segment, records_max, read_batches(await self.fetch(segment), records_max)
        found = next((batch for batch in self._open[2] if batch[-1][0] >= position), [])
        if found and found[0][0] < position:
            found = [record for record in found if record[0] >= position]
        self._in_files[partition] = found[-1][0] + 1 if found else segment.next
        if not self._is_in_files(partition, self._in_files[partition]):
            self._tail[partition] = self._in_files.pop(partition)
        return found

    def position(self, partition: Partition) -> int:
        """Return the next offset to read."""
        if partition in self._in_files:
            return self._in_files[partition]
        return self.log.position(partition) if self._joined else self._tail[partition]

    async def lag(self) -> Mapping[Partition, int]:
        """Return the distance to the log's end by partition; empty until all files are read."""
        return await self.log.lag() if self._joined else {}
