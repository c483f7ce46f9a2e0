"""The archive on the real Kafka and the real object store: each position once, whatever is killed when."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from events.errors import StoreUnavailable
from events.media import ObjectRef
from events.objects import ARCHIVED
from events.topics import PROGRESS, partition_for
from infra.runtime import kafka
from infra.runtime.clock import new_id
from infra.runtime.history import archived, open_history
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors.archiver import Archiver
from projections.history.archive import MANIFEST, Files, Segment
from projections.history.parquet import NO_LINK, next_link, read_segment, write_segment
from projections.history.proof import audit_archive
from tests.support.archiving import Records, archiver, in_the_archive, on_the_log, rewrite
from tests.support.counting import START, ticks
from tests.support.log import appending, read_topic
from tests.support.waiting import eventually

FILE_RECORDS = 40
PATIENCE_S = 60.0
"""On a busy machine; an archiver that stumbles begins again after a second, then after two, after four."""


@asynccontextmanager
async def started(service: Archiver) -> AsyncIterator[Archiver]:
    """Run the archiver."""
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def until_archived(settings: Settings, store: ObjectStore, expected: Records) -> None:
    """Wait until the archive has these records and its manifest, which is written last, names the files that the log names."""
    await eventually(lambda: in_the_archive(settings, store), lambda archived: archived == expected)
    await eventually(lambda: manifest_is_whole(settings, store))


async def manifest_is_whole(settings: Settings, store: ObjectStore) -> bool:
    """Return whether the manifest names the files that the log names."""
    named = {segment.key for segment in await archived(store)}
    return named == {segment.key for segment in Files(await read_topic(settings, "archive"))}


async def test_what_is_archived_is_the_log_byte_for_byte(settings: Settings) -> None:
    store = ObjectStore(settings)
    await store.ensure_bucket()
    async with appending(settings) as appender:
        await appender.append(ticks(300, jobs=9))
    producer = await kafka.open_producer(settings)
    await producer.send_and_wait(kafka.topic_name(settings, PROGRESS), b"\xffnot an event", partition=1)
    await producer.stop()
    expected = await on_the_log(settings)
    assert sum(map(len, expected.values())) == 301
    async with started(archiver(settings, store, FILE_RECORDS)):
        await until_archived(settings, store, expected)
    segments: list[Any] = [recorded.envelope.data for recorded in await read_topic(settings, "archive")]
    chains = {segment.partition: segment.chain for segment in segments}
    for number, records in expected.items():
        link = NO_LINK
        for offset, value in records:
            link = next_link(link, offset, value)
        assert chains.get(number, NO_LINK.hex()) == link.hex()
    manifest = json.loads(await store.get_bytes(MANIFEST, 1 << 20))
    assert sorted(entry["key"] for entry in manifest) == sorted(segment.key for segment in segments)


async def test_small_files_of_a_day_that_is_over_are_joined(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(settings)
    await store.ensure_bucket()
    events = ticks(20, jobs=1)
    async with appending(settings) as appender:
        for day in range(3):
            for _ in range(2):  # a file each, at least
                later = timedelta(days=day)
                await appender.append([event._replace(id=new_id(), time=event.time + later) for event in events])
                expected = await on_the_log(settings)
                async with started(archiver(settings, store, FILE_RECORDS)):
                    await until_archived(settings, store, expected)
    first, *_ = files = await progress_files(settings, 40)
    assert [file.records for file in files][:2] == [40, 40] and "day=2100-01-01" in first.key
    assert await complaints(settings) == []
    small = {str(r.envelope.data.key) for r in await read_topic(settings, "archive")} - {file.key for file in files}  # type: ignore[attr-defined]
    assert len(small) >= 4 and small <= {stat.key for stat in await store.under(ARCHIVED)}
    monkeypatch.setattr("processors.archiver.KEPT", timedelta())
    async with started(archiver(settings, store, FILE_RECORDS)):
        await eventually(lambda: store.under(ARCHIVED), lambda stats: not small & {stat.key for stat in stats})
    assert await in_the_archive(settings, store) == expected
    async with open_history(settings) as history:
        assert history.segments[first.topic, first.partition] == files


async def progress_files(settings: Settings, records: int) -> list[Segment]:
    """Return the files of topic progress, once the first has so many records."""

    async def named() -> list[Segment]:
        return [file for file in Files(await read_topic(settings, "archive")) if file.topic == PROGRESS.name]

    return await eventually(named, lambda files: files[0].records == records)


class FaultyStore:
    """Refuses to write now and then: before, or after it has stored."""

    def __init__(self, store: ObjectStore, rng: random.Random) -> None:
        self.store = store
        self.rng = rng
        self.refusals = 0
        self.get_bytes, self.under, self.delete = store.get_bytes, store.under, store.delete

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Store, and perhaps fail."""
        fate = self.rng.random()
        if fate < 0.2:
            self.refusals += 1
            raise StoreUnavailable("before")
        stored = await self.store.put_bytes(key, data, content_type)
        if fate > 0.8:
            self.refusals += 1
            raise StoreUnavailable("after")
        return stored


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_position_once_through_failures_and_a_second_archiver(
    settings: Settings, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.agents.standing.BEGUN_AGAIN_S", (0.01, 0.05))
    rng = random.Random(seed)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    faulty = FaultyStore(store, rng)
    async with appending(settings) as appender, started(archiver(settings, faulty, FILE_RECORDS)), asyncio.timeout(4 * PATIENCE_S):
        for day in range(5):
            await appender.append(ticks(80, jobs=9, start=START + timedelta(days=day)))
            async with started(archiver(settings, faulty, FILE_RECORDS)):  # it fences the first one, which fences it in turn
                await asyncio.sleep(rng.random())
        expected = await on_the_log(settings)
        await eventually(lambda: in_the_archive(settings, store), lambda archived: archived == expected)
    assert faulty.refusals > 0


@pytest.mark.parametrize("at_fault", ["the store", "the code"])
async def test_a_partition_that_cannot_be_archived_stops_no_other(
    settings: Settings, at_fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.agents.standing.BEGUN_AGAIN_S", (0.01, 0.05))
    store, broken, bad = ObjectStore(settings), True, partition_for(ticks(1)[0].subject, PROGRESS.partitions)
    await store.ensure_bucket()

    class Refusing(FaultyStore):
        """Refuses the files of one partition."""

        async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef:
            """Store, or refuse."""
            if broken and at_fault == "the store" and f"topic={PROGRESS.name}/" in key and f"/{bad}-" in key:
                raise StoreUnavailable("no room for this one")
            return await self.store.put_bytes(key, data, content_type)

    def write_or_fail(topic: str, partition: int, *rest: Any) -> tuple[bytes, bytes]:
        if broken and at_fault == "the code" and (topic, partition) == (PROGRESS.name, bad):
            raise ZeroDivisionError("a bug about this one")
        return write_segment(topic, partition, *rest)

    monkeypatch.setattr("processors.archiver.write_segment", write_or_fail)
    service = archiver(settings, Refusing(store, random.Random(0)), FILE_RECORDS)
    async with appending(settings) as appender:
        await appender.append(ticks(300, jobs=30))
        expected = await on_the_log(settings)
        assert expected[bad]
        others = {**expected, bad: []}
        async with started(service):
            await eventually(lambda: in_the_archive(settings, store), lambda archived: archived == others)
            await eventually(lambda: service.fault)
            await appender.append(ticks(300, jobs=30))
            expected = await on_the_log(settings)
            await eventually(lambda: in_the_archive(settings, store), lambda archived: archived == {**expected, bad: []})
            broken = False
            await eventually(lambda: in_the_archive(settings, store), lambda archived: archived == expected)
            await eventually(lambda: service.fault is None)


async def a_history(settings: Settings, store: ObjectStore) -> Sequence[Segment]:
    """Archive 200 events in files of 40; return the files of a partition that has several."""
    await store.ensure_bucket()
    async with appending(settings) as appender:
        await appender.append(ticks(200, jobs=1))
    expected = await on_the_log(settings)
    async with started(archiver(settings, store, FILE_RECORDS)):
        await until_archived(settings, store, expected)
    async with open_history(settings) as history:
        return next(files for files in history.segments.values() if len(files) > 2 and files[0].topic == PROGRESS.name)


async def complaints(settings: Settings) -> list[str]:
    """Return what an audit finds, files taken as they are: as if whoever changed them had changed their digests, too."""
    store = ObjectStore(settings)
    async with open_history(settings) as history:
        return await audit_archive(history.log, history.segments, lambda file: store.get_bytes(file.key, 1 << 24))


def altered(table: pa.Table) -> pa.Table:
    """Change one value of the sixth row."""
    records = table["record"].to_pylist()
    records[5] = records[5].replace(b'"epoch":1', b'"epoch":2')
    return table.set_column(table.column_names.index("record"), "record", pa.array(records))


def reordered(table: pa.Table) -> pa.Table:
    """Let the sixth and the seventh swap, offsets staying where they were."""
    order = list(range(table.num_rows))
    order[5], order[6] = order[6], order[5]
    return table.take(order).set_column(1, "offset", table["offset"])


@pytest.mark.parametrize(
    "tamper",
    [
        altered,
        reordered,
        lambda table: pa.concat_tables([table.slice(0, 5), table.slice(6)]),
        lambda table: pa.concat_tables([table.slice(0, 6), table.slice(5)]),
    ],
    ids=["altered", "reordered", "dropped", "repeated"],
)
async def test_the_event_that_was_tampered_with_is_named(settings: Settings, tamper: Callable[[pa.Table], pa.Table]) -> None:
    store = ObjectStore(settings)
    segment = (await a_history(settings, store))[1]
    assert await complaints(settings) == []
    offsets = [offset for offset, _ in read_segment(await store.get_bytes(segment.key, 1 << 24))]
    await rewrite(store, segment, tamper)
    (complaint,) = await complaints(settings)
    assert re.match(rf"archive: progress/\d/({offsets[5]}|{offsets[6]}):", complaint)


async def test_a_file_that_is_gone_or_another_is_named(settings: Settings) -> None:
    store = ObjectStore(settings)
    first, second, *_ = await a_history(settings, store)
    bytes_of_first = await store.get_bytes(first.key, 1 << 24)
    await store.put_bytes(second.key, bytes_of_first, "application/octet-stream")
    async with open_history(settings) as history:
        (other,) = await audit_archive(history.log, history.segments, history.fetch)
        assert second.key in other and "SHA-256" in other
        await store.delete([second.key])
        (gone,) = await audit_archive(history.log, history.segments, history.fetch)
        assert second.key in gone and "missing" in gone


async def test_a_manifest_that_says_what_was_never_recorded_is_named(settings: Settings) -> None:
    store = ObjectStore(settings)
    _first, second, *_ = await a_history(settings, store)
    manifest = (await store.get_bytes(MANIFEST, 1 << 24)).replace(second.sha256.encode(), b"0" * 64)
    await store.put_bytes(MANIFEST, manifest, "application/json")
    forged, *_ = await complaints(settings)
    assert second.key in forged and "manifest" in forged
