"""An archiver inside the test's own process, which writes at once."""

import io
from collections.abc import Callable, Sequence
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from events.envelope import Envelope, Event
from events.topics import ARCHIVE, PROGRESS
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.fenced_appender import FencedAppender
from infra.runtime.history import archived as archived_files
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors.archiver import Archiver, Clients, Store
from projections.history.archive import Files, Segment
from projections.history.parquet import NO_LINK, check_segment, read_segment
from tests.support.log import appending, read_topic
from tests.support.waiting import eventually


def archiver(
    settings: Settings,
    store: Store,
    records_max: int,
    archived: Callable[[str, int], None] = lambda topic, records: None,
) -> Archiver:
    """Return it; files have at most `records_max` records."""
    clients = Clients(
        source=lambda: LogConsumer(settings, idle_ms=50),
        appender=lambda: FencedAppender(settings, "kinolog.archiver"),
        store=store,
        context=lambda: system_context("test/archiver"),
    )
    return Archiver(
        clients, SystemClock(), timedelta(milliseconds=1), records_max, settings.archive_memory_bytes, archived=archived
    )


async def append(settings: Settings, events: Sequence[Envelope[Event]]) -> None:
    """Put events on the log of a new installation."""
    await ObjectStore(settings).ensure_bucket()
    async with appending(settings) as appender:
        await appender.append(events)


async def archive(settings: Settings, records: int) -> None:
    """Archive until that many records more are in files that the manifest names, besides those that say so."""
    store, done = ObjectStore(settings), 0

    async def named() -> int:
        return sum(segment.records for segment in await archived_files(store) if segment.topic != ARCHIVE.name)

    before = await named()

    def archived(topic: str, count: int) -> None:
        nonlocal done
        done += count * (topic != ARCHIVE.name)

    service = archiver(settings, store, 70, archived)
    await service.start()
    await eventually(lambda: done >= records and not any(head.pending for head in service._heads.values()))
    await eventually(named, lambda count: count >= before + done)  # readers see files by the manifest, which comes last
    await service.stop()


Records = dict[int, list[tuple[int, bytes]]]


async def on_the_log(settings: Settings) -> Records:
    """Return the raw records of the topic progress."""
    source = LogConsumer(settings, idle_ms=50)
    partitions = [(PROGRESS.name, number) for number in range(PROGRESS.partitions)]
    found: Records = {number: [] for _, number in partitions}
    try:
        ends = await source.ends(partitions)
        await source.assign(dict.fromkeys(partitions, 0))
        while any(source.position(partition) < ends[partition] for partition in partitions):
            for (_, number), records in (await source.read(records_max=1000, wait_s=0.5)).items():
                found[number] += records
    finally:
        await source.close()
    return found


async def in_the_archive(settings: Settings, store: ObjectStore) -> Records:
    """Return the records of the topic progress from the files that the archive names, after checking files and chain."""
    found: Records = {number: [] for number in range(PROGRESS.partitions)}
    heads = dict.fromkeys(found, (0, NO_LINK))
    for segment in Files(await read_topic(settings, "archive")):
        if segment.topic != PROGRESS.name:
            continue
        first, link = heads[segment.partition]
        assert segment.first == first
        file = await store.get_bytes(segment.key, segment.size_bytes + 1)
        assert len(file) == segment.size_bytes
        assert check_segment(file, link, segment.key).hex() == segment.chain
        heads[segment.partition] = segment.next, bytes.fromhex(segment.chain)
        found[segment.partition] += read_segment(file)
    return found


async def rewrite(store: ObjectStore, segment: Segment, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put another table under the key of a file."""
    table = pq.read_table(io.BytesIO(await store.get_bytes(segment.key, 1 << 24)))
    file = io.BytesIO()
    pq.write_table(change(table), file)
    await store.put_bytes(segment.key, file.getvalue(), "application/octet-stream")
