"""The contents of a backup: the log as Parquet segments, the objects, and the little state that is in neither.

A restore puts every record back at its old offset. Kafka assigns offsets itself, and leaves gaps where a transaction ended
(its marker takes an offset) or was aborted (its records do, too). So a restore recreates each gap the way it arose:
`Steps` lists the transactions that bring a partition's records to their old offsets. All references to positions remain
valid: the facts about the archive and its hash chain, timelines, `?as_of=`, signed reports, positions of processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from events.errors import KinologError
from events.topics import Partition
from projections.history.archive import Segment
from projections.history.parquet import Record

MANIFEST = "backup.json"
OBJECTS = "objects/"
TAIL = "tail/"
RUN_MAX = 5_000
"""Maximum records of one step."""
FILLERS_MAX = 50_000
"""Maximum records of one aborted transaction."""


class BackupDamaged(KinologError):
    """A file of the backup is missing or not the one that was written."""


class Object(BaseModel, frozen=True):
    """An object of the store. `etag` identifies its content there, so the next backup can skip an unchanged object."""

    key: str
    size_bytes: int
    sha256: str
    etag: str
    content_type: str


class Memory(BaseModel, frozen=True):
    """Position up to which an effect was carried out: topic, partition, next offset, count of records, time of the latest event."""

    name: str
    positions: tuple[tuple[str, int, int, int, datetime | None], ...]


class Backup(BaseModel, frozen=True):
    """A backup's manifest.

    `segments` hold everything from `starts` to `ends` (topic, partition, offset), in order within each partition; an
    older backup names no starts. `dispatched` is the position up to which the dispatcher had answered, by partition. `worker_keys`
    is the table of workers' keys (hashes only) and `outbox` the pending effects, both as JSON arrays.
    """

    version: Literal[1] = 1
    kinolog: str
    made_at: datetime
    starts: tuple[tuple[str, int, int], ...] | None = None
    ends: tuple[tuple[str, int, int], ...]
    segments: tuple[Segment, ...]
    objects: tuple[Object, ...]
    processes: tuple[Memory, ...]
    worker_keys: str
    outbox: str = "[]"
    dispatched: dict[int, int]

    def start_of(self, partition: Partition) -> int | None:
        """Return the first offset of a partition, None when the backup does not name it."""
        return next((start for *named, start in self.starts or () if tuple(named) == partition), None)

    def segments_of(self, partition: Partition) -> list[Segment]:
        """Return the files of a partition."""
        return [segment for segment in self.segments if (segment.topic, segment.partition) == partition]

    @property
    def size_bytes(self) -> int:
        """Total size of segments and objects."""
        return sum(segment.size_bytes for segment in self.segments) + sum(one.size_bytes for one in self.objects)


@dataclass(frozen=True)
class Step:
    """One way to move a partition's end forward.

    plain      append the records
    committed  append them in a transaction: its marker takes an offset
    aborted    append `gap` - 1 records in a transaction and abort it: readers never see them
    skipped    append `gap` records and delete them: the log then starts after them

    `following` is the record after an aborted gap, if there is one.
    """

    kind: Literal["plain", "committed", "aborted", "skipped"]
    first: int
    records: Sequence[Record] = ()
    gap: int = 0
    following: Record | None = None

    @property
    def next(self) -> int:
        """The partition's end after the step."""
        return self.first + len(self.records) + (1 if self.kind == "committed" else self.gap)


class Steps:
    """Cuts the incoming records of one partition into steps.

    The log is to start at `start`, or with the first record when that is None. A gap after the start is not skipped: the
    archive would miss it. Only a single offset there must be, since the smallest transaction takes two.
    """

    def __init__(self, start: int | None = None) -> None:
        self._start = start
        self._next = 0
        self._run: list[Record] = []

    def add(self, records: Sequence[Record]) -> Iterator[Step]:
        """Take records; yield the steps that are certain now."""
        for record in records:
            yield from self._close(record[0], record)
            self._run.append(record)
            if len(self._run) > RUN_MAX:  # the last record waits: it may need a transaction
                yield self._taken("plain", self._run[:-1])
                self._run = self._run[-1:]

    def finish(self, end: int) -> Iterator[Step]:
        """Yield the remaining steps up to the partition's end."""
        yield from self._close(end)
        if self._run:
            yield self._taken("plain", self._run)
            self._run = []

    def _close(self, until: int, following: Record | None = None) -> Iterator[Step]:
        """Yield the steps that make the gap between the run and offset `until`, if any."""
        gap = until - self._next - len(self._run)
        if gap == 0:
            return
        run, self._run = self._run, []
        if gap == 1 and run:
            yield self._taken("committed", run)
            return
        if run:
            yield self._taken("plain", run)
        if self._next == 0:
            skipped = gap if self._start is None or gap - self._start == 1 else min(gap, self._start)
            if skipped:
                yield self._made("skipped", skipped)
            gap -= skipped
        while gap > FILLERS_MAX + 1:  # leaves at least 2, the least that an aborted transaction takes
            yield self._made("aborted", FILLERS_MAX, following)
            gap -= FILLERS_MAX
        if gap:
            yield self._made("aborted", gap, following)

    def _taken(self, kind: Literal["plain", "committed"], records: Sequence[Record]) -> Step:
        step = Step(kind, self._next, tuple(records))
        self._next = step.next
        return step

    def _made(self, kind: Literal["aborted", "skipped"], gap: int, following: Record | None = None) -> Step:
        step = Step(kind, self._next, gap=gap, following=following)
        self._next = step.next
        return step


def as_document(value: Any) -> bytes:
    """Return a manifest as indented JSON."""
    return BaseModel.model_dump_json(value, indent=1, exclude_none=True).encode()
