"""Writes every topic to the object store as Parquet, each position exactly once.

The archive's own topic is its truth: an archiver reads it to the end, goes on from there, stores a file, and then tells
in one Kafka transaction that it did. What was stored and not told is written again, over or beside it. A second archiver
fences the first (one transactional id), so no stretch is told twice; killed at any point, nothing is missing.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

import msgspec
import orjson
import structlog
from mode import Service

from events.archive import SegmentArchived
from events.clock import Clock, Context
from events.codec import read_wire
from events.envelope import Envelope, Event
from events.errors import KinologError
from events.media import ObjectRef
from events.topics import ARCHIVE, TOPICS
from projections.archive import MANIFEST, PREFIX, Segment
from projections.log import LogReader, Place, Source
from projections.parquet import NO_LINK, Record, write_segment

PARQUET_TYPE = "application/vnd.apache.parquet"
PENDING_BYTES_MAX = 64 << 20
RETRY_S = (1.0, 60.0)
log = structlog.get_logger(__name__)


class ClosableSource(Source, Protocol):
    """A source of its own."""

    async def close(self) -> None: ...


class Appender(Protocol):
    """Appends as long as nobody else has opened one."""

    async def open(self) -> None: ...
    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None: ...
    async def close(self) -> None: ...


class Store(Protocol):
    """The part of the object store that this needs."""

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef: ...


@dataclass(frozen=True)
class Clients:
    """What the archiver reaches, opened by the composition root."""

    source: Callable[[], ClosableSource]
    appender: Callable[[], Appender]
    store: Store
    context: Callable[[], Context]


@dataclass
class _Head:
    """How far a partition is archived, and what was read since. `chain` is the hash chain at `next`."""

    next: int = 0
    chain: bytes = NO_LINK
    since: datetime | None = None
    size_bytes: int = 0
    pending: list[Record] = field(default_factory=list)


class Archiver(Service):
    """Archives what is `every` old, or `records_max` records, whichever comes first."""

    def __init__(
        self,
        clients: Clients,
        clock: Clock,
        every: timedelta,
        records_max: int,
        *,
        archived: Callable[[str, int], None] = lambda topic, records: None,
    ) -> None:
        super().__init__()
        self._clients = clients
        self._clock = clock
        self._every = every
        self._records_max = records_max
        self._archived = archived
        self._segments: list[SegmentArchived] = []
        self._heads: dict[Place, _Head] = {}

    @property
    def unwritten(self) -> int:
        """How many records were read and stand in no file yet."""
        return sum(len(head.pending) for head in self._heads.values())

    @Service.task
    async def _archive(self) -> None:
        wait_s = RETRY_S[0]
        while not self.should_stop:
            try:
                await self._archive_from_the_log()
            except (KinologError, OSError) as error:
                log.warning("archiver_begins_again", error=str(error), wait_s=wait_s)
                await self.sleep(wait_s)
                wait_s = min(RETRY_S[1], 2 * wait_s)

    async def _archive_from_the_log(self) -> None:
        """Own the archive until something fails; nothing is kept that is not on the log."""
        appender, source = self._clients.appender(), self._clients.source()
        try:
            await appender.open()
            await self._read_own(source)
            await self._seek(source)
            while not self.should_stop:
                for place, records in (await source.read(records_max=10_000, wait_s=1.0)).items():
                    self._hold(place, records)
                if due := [place for place, head in self._heads.items() if self._is_due(head)]:
                    for place in due:
                        await self._write(appender, place)
                    await self._write_manifest()
        finally:
            await source.close()
            await appender.close()

    async def _read_own(self, source: Source) -> None:
        self._segments, self._heads = [], {}
        for topic in TOPICS.values():
            if topic is not ARCHIVE:
                self._heads |= {(topic.name, number): _Head() for number in range(topic.partitions)}
        reader = LogReader(source)
        await reader.seek({(ARCHIVE.name, 0): 0})
        async for records, _dead in reader.to_end():
            for recorded in records:
                if isinstance(recorded.envelope.data, SegmentArchived):
                    self._note(recorded.envelope.data)

    def _note(self, segment: SegmentArchived) -> None:
        self._segments.append(segment)
        head = self._heads.setdefault((segment.topic, segment.partition), _Head())
        head.next, head.chain = segment.next, bytes.fromhex(segment.chain)

    async def _seek(self, source: Source) -> None:
        starts = await source.starts(self._heads)
        for place, head in self._heads.items():
            if starts[place] > head.next:
                log.warning("not_archived_in_time", topic=place[0], partition=place[1], first=head.next, next=starts[place])
                head.next = starts[place]
        await source.assign({place: head.next for place, head in self._heads.items()})

    def _hold(self, place: Place, records: Sequence[Record]) -> None:
        head = self._heads[place]
        head.since = head.since or self._clock.now()
        head.pending += records
        head.size_bytes += sum(len(value) for _, value in records)

    def _is_due(self, head: _Head) -> bool:
        if not head.pending or head.since is None:
            return False
        full = len(head.pending) >= self._records_max or sum(h.size_bytes for h in self._heads.values()) > PENDING_BYTES_MAX
        return full or self._clock.now() - head.since >= self._every

    async def _write(self, appender: Appender, place: Place) -> None:
        """Store what is pending of a partition, a file per day, and tell it."""
        head = self._heads[place]
        pending, head.pending, head.size_bytes, head.since = head.pending, [], 0, None
        for at in range(0, len(pending), self._records_max):
            for records, times in by_day(pending[at : at + self._records_max]):
                segment = await self._store(place, head, records, times)
                await self._tell(appender, segment)
                self._note(segment)
                self._archived(place[0], len(records))

    async def _store(self, place: Place, head: _Head, records: Sequence[Record], times: Sequence[datetime]) -> SegmentArchived:
        topic, partition = place
        file, chain = await asyncio.to_thread(write_segment, topic, partition, records, head.chain)
        day = min(times).date() if times else self._clock.now().date()
        following = records[-1][0] + 1
        key = f"{PREFIX}topic={topic}/day={day}/{partition}-{head.next:020}-{following:020}.parquet"
        stored = await self._clients.store.put_bytes(key, file, PARQUET_TYPE)
        return SegmentArchived(
            topic=topic,
            partition=partition,
            first=head.next,
            next=following,
            records=len(records),
            key=key,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            chain=chain.hex(),
            time_first=min(times, default=None),
            time_last=max(times, default=None),
        )

    async def _tell(self, appender: Appender, segment: SegmentArchived) -> None:
        context = self._clients.context()
        id_ = context.new_id()
        await appender.append([Envelope(id_, context.source, segment.topic, context.now, segment, id_)])

    async def _write_manifest(self) -> None:
        """Store what the topic says beside the files, for those who have only the store."""
        segments = [Segment(**dict(segment)) for segment in self._segments]
        await self._clients.store.put_bytes(MANIFEST, manifest_of(segments), "application/json")


def manifest_of(segments: Sequence[Segment]) -> bytes:
    """Return the list of files as JSON."""
    return orjson.dumps([{name: value for name, value in asdict(segment).items() if value is not None} for segment in segments])


def by_day(records: Sequence[Record]) -> Iterator[tuple[list[Record], list[datetime]]]:
    """Cut records where a later day begins; yield each run with the times of its events."""
    run: list[Record] = []
    times: list[datetime] = []
    day: date | None = None
    for record in records:
        time = _time_of(record[1])
        if time is not None and day is not None and time.date() > day:
            yield run, times
            run, times = [], []
        if time is not None:
            day = max(day, time.date()) if day else time.date()
            times.append(time)
        run.append(record)
    if run:
        yield run, times


def _time_of(value: bytes) -> datetime | None:
    try:
        return read_wire(value).time
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
