"""Writes every topic to the object store as Parquet, each position exactly once.

The archive's own topic is its truth. An archiver reads it to the end and goes on from there: it stores a file, then records it in
one Kafka transaction. A file that was stored and not recorded is written again, over or beside it. A second archiver fences the
first (one transactional id), so no stretch is recorded twice; after a kill at any point nothing is missing.

When a partition's day is over, its small files are joined into one: stored, then recorded, which replaces them. The chain covers
records and not files, so it must come out the same. Replaced files are deleted later.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Protocol

import orjson
import structlog
from mode import Service

from events.archive import SegmentArchived
from events.clock import Clock, Context
from events.envelope import Envelope, Event, program
from events.errors import KinologError, ObjectMissing
from events.media import ObjectRef
from events.objects import ARCHIVED, archive_key
from events.pulse import Pulse
from events.topics import ARCHIVE, TOPICS, Partition
from processors.agents.standing import Restarts, words_of
from projections.folding.log import LogReader, Source
from projections.history.archive import MANIFEST, Files, Segment, joinable
from projections.history.parquet import NO_LINK, Parsed, Record, parsed, read_segment, write_segment

PARQUET_TYPE = "application/vnd.apache.parquet"
JOINED_BYTES_MAX = 16 << 20
"""Maximum compressed size of a joined file."""
KEPT = timedelta(days=1)
"""Time for which a replaced file stays, for readers of an older manifest."""
log = structlog.get_logger(__name__)


class ClosableSource(Source, Protocol):
    """A source of its own."""

    async def close(self) -> None: ...


class Appender(Protocol):
    """Appends until another one is opened, which fences it."""

    async def open(self) -> None: ...
    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None: ...
    async def close(self) -> None: ...


class Stored(Protocol):
    """An object's metadata in the store."""

    @property
    def key(self) -> str: ...


class Store(Protocol):
    """The part of the object store that the archiver needs."""

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef: ...
    async def get_bytes(self, key: str, max_bytes: int) -> bytes: ...
    async def under(self, prefix: str) -> Sequence[Stored]: ...
    async def delete(self, keys: Iterable[str]) -> None: ...


@dataclass(frozen=True)
class Clients:
    """Clients of the archiver, opened by the composition root."""

    source: Callable[[], ClosableSource]
    appender: Callable[[], Appender]
    store: Store
    context: Callable[[], Context]


@dataclass
class _Head:
    """The archived end of a partition, and the records read since. `chain` is the hash chain at `next`."""

    next: int = 0
    chain: bytes = NO_LINK
    since: datetime | None = None
    size_bytes: int = 0
    pending: list[Record] = field(default_factory=list)


class Archiver(Service):
    """Writes a partition's records after the time `every`, at `records_max` records, or when all together take `memory_bytes`.

    `memory_bytes` also bounds the unpacked records of files to be joined.
    """

    def use(self, every: timedelta) -> None:
        """Archive events at another age from now on."""
        self._every = every

    def __init__(
        self,
        clients: Clients,
        clock: Clock,
        every: timedelta,
        records_max: int,
        memory_bytes: int,
        *,
        archived: Callable[[str, int], None] = lambda topic, records: None,
        pulse: Pulse | None = None,
    ) -> None:
        super().__init__()
        self._pulse = pulse or Pulse("the archiver")
        self._clients = clients
        self._clock = clock
        self._every = every
        self._records_max = records_max
        self._memory_bytes = memory_bytes
        self._archived = archived
        self._files = Files()
        self._heads: dict[Partition, _Head] = {}
        self._restarts = Restarts()

    @property
    def fault(self) -> str | None:
        """Reason why nothing is archived, after several failures in a row."""
        return self._restarts.fault

    @Service.task
    async def _archive(self) -> None:
        while not self.should_stop:
            try:
                async with self._pulse.limited():
                    await self._archive_from_the_log()
            except Exception as error:  # also a bug: the feeds of the same process go on
                known = isinstance(error, KinologError | OSError)
                wait_s = self._restarts.failed(error)
                log.warning("archiver_begins_again", error=words_of(error), wait_s=wait_s, exc_info=not known)
                await self.sleep(wait_s)

    async def _archive_from_the_log(self) -> None:
        """Own the archive until something fails; keep no state that is not on the log."""
        appender, source = self._clients.appender(), self._clients.source()
        try:
            await appender.open()
            await self._read_own(source)
            await self._seek(source)
            await self._tidy(appender, self._heads)
            while not self.should_stop:
                self._pulse.beat()
                for partition, records in (await source.read(records_max=10_000, wait_s=1.0)).items():
                    self._hold(partition, records)
                if due := [partition for partition, head in self._heads.items() if self._is_due(head)]:
                    await self._write_all(appender, due)
                    await self._tidy(appender, due)
                    self._restarts.worked()
        finally:
            await source.close()
            await appender.close()

    async def _read_own(self, source: Source) -> None:
        self._files, self._heads = Files(), {}
        reader = LogReader(source)
        await reader.seek({(ARCHIVE.name, 0): 0})
        async for records, _dead in reader.to_end():
            self._pulse.beat()
            for recorded in records:
                self._files.see(recorded.envelope.data, recorded.envelope.time)
        for topic in TOPICS.values():
            for partition in ((topic.name, number) for number in range(topic.partitions) if topic is not ARCHIVE):
                files = self._files.of(*partition)
                self._heads[partition] = _Head(files[-1].next, bytes.fromhex(files[-1].chain)) if files else _Head()
        there = {stored.key for stored in await self._clients.store.under(ARCHIVED)}
        self._files.replaced = {key: since for key, since in self._files.replaced.items() if key in there}

    async def _seek(self, source: Source) -> None:
        starts = await source.starts(self._heads)
        for partition, head in self._heads.items():
            if starts[partition] > head.next:
                log.warning(
                    "not_archived_in_time", topic=partition[0], partition=partition[1], first=head.next, next=starts[partition]
                )
                head.next = starts[partition]
        await source.assign({partition: head.next for partition, head in self._heads.items()})

    def _hold(self, partition: Partition, records: Sequence[Record]) -> None:
        head = self._heads[partition]
        head.since = head.since or self._clock.now()
        head.pending += records
        head.size_bytes += sum(len(value) for _, value in records)

    def _is_due(self, head: _Head) -> bool:
        if not head.pending or head.since is None:
            return False
        held_bytes = sum(head.size_bytes for head in self._heads.values())
        full = len(head.pending) >= self._records_max or held_bytes > self._memory_bytes
        return full or self._clock.now() - head.since >= self._every

    async def _write_all(self, appender: Appender, partitions: Sequence[Partition]) -> None:
        """Write each partition, even after another failed; then raise the first failure."""
        failed: Exception | None = None
        for partition in partitions:
            try:
                await self._write(appender, partition)
            except Exception as error:  # noqa: BLE001  (logged here, raised when the others are written)
                log.warning(
                    "not_archived",
                    topic=partition[0],
                    partition=partition[1],
                    offset=self._heads[partition].next,
                    error=words_of(error),
                )
                failed = failed or error
        if failed is not None:
            raise failed

    async def _write(self, appender: Appender, partition: Partition) -> None:
        """Store a partition's pending records, a file per day, and record each file."""
        head = self._heads[partition]
        pending, head.pending, head.size_bytes, head.since = head.pending, [], 0, None
        for at in range(0, len(pending), self._records_max):
            for records in by_day(await asyncio.to_thread(parsed, pending[at : at + self._records_max])):
                segment = await self._store(partition, head.next, records[-1].offset + 1, records, head.chain)
                await self._record(appender, segment)
                head.next, head.chain = segment.next, bytes.fromhex(segment.chain)
                self._archived(partition[0], len(records))

    async def _store(
        self, partition: Partition, first: int, following: int, records: Sequence[Parsed], link: bytes
    ) -> SegmentArchived:
        topic, number = partition
        self._pulse.beat()
        file, chain = await asyncio.to_thread(write_segment, topic, number, records, link)
        times = [record.envelope.time for record in records if record.envelope is not None]
        day = min(times).date() if times else self._clock.now().date()
        key = archive_key(topic, day, number, first, following)
        stored = await self._clients.store.put_bytes(key, file, PARQUET_TYPE)
        return SegmentArchived(
            topic=topic,
            partition=number,
            first=first,
            next=following,
            records=len(records),
            key=key,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            chain=chain.hex(),
            time_first=min(times, default=None),
            time_last=max(times, default=None),
            unpacked_bytes=sum(len(record.value) for record in records),
        )

    async def _record(self, appender: Appender, segment: SegmentArchived) -> None:
        context = self._clients.context()
        id_ = context.new_id()
        await appender.append(
            [Envelope(id_, context.source, segment.topic, context.now, segment, id_, actor=program(context.source))]
        )
        self._files.see(segment, context.now)

    # --- small files ------------------------------------------------------------------------------------------------

    async def _tidy(self, appender: Appender, partitions: Iterable[Partition]) -> None:
        """Join small files, store the manifest, delete files replaced long ago."""
        for partition in partitions:
            for run in joinable(self._files.of(*partition), self._records_max, JOINED_BYTES_MAX, self._memory_bytes):
                if self.should_stop:
                    return
                try:
                    await self._join(appender, partition, run)
                except (KinologError, OSError):
                    raise
                except Exception as error:  # the files stay as they are; new records are archived all the same
                    where = {"topic": partition[0], "partition": partition[1], "offset": run[0].first}
                    log.exception("archive_not_joined", error=words_of(error), **where)
                    break
        await self._write_manifest()
        now = self._clock.now()
        if old := [key for key, since in self._files.replaced.items() if now - since >= KEPT]:
            await self._clients.store.delete(old)
            for key in old:
                del self._files.replaced[key]

    async def _join(self, appender: Appender, partition: Partition, run: Sequence[Segment]) -> None:
        """Replace a run of files by one. Files that differ from their record stay, for `kinolog verify` to name them."""
        before = [file for file in self._files.of(*partition) if file.next <= run[0].first]
        link = bytes.fromhex(before[-1].chain) if before else NO_LINK
        records: list[Record] = []
        for file in run:
            self._pulse.beat()
            try:
                content = await self._clients.store.get_bytes(file.key, file.size_bytes + 1)
            except ObjectMissing:
                content = b""
            if sha256(content).hexdigest() != file.sha256:
                log.error("archive_damaged", key=file.key)
                return
            records += read_segment(content)
        joined = await self._store(partition, run[0].first, run[-1].next, await asyncio.to_thread(parsed, records), link)
        if joined.chain != run[-1].chain:
            log.error("archive_damaged", key=run[-1].key)
            return
        await self._record(appender, joined)
        log.info("archive_joined", topic=partition[0], partition=partition[1], files=len(run), records=joined.records)

    async def _write_manifest(self) -> None:
        await self._clients.store.put_bytes(MANIFEST, manifest_of(list(self._files)), "application/json")


def manifest_of(segments: Sequence[Segment]) -> bytes:
    """Return the list of files as JSON."""
    return orjson.dumps([{name: value for name, value in asdict(segment).items() if value is not None} for segment in segments])


def by_day(records: Sequence[Parsed]) -> Iterator[list[Parsed]]:
    """Cut records at the beginnings of days."""
    run: list[Parsed] = []
    day: date | None = None
    for record in records:
        if record.envelope is not None:
            today = record.envelope.time.date()
            if day is not None and today > day:
                yield run
                run = []
            day = max(day, today) if day else today
        run.append(record)
    if run:
        yield run
