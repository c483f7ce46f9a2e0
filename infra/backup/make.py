"""Makes a backup of a running installation.

Order matters: first the state of processes, then the ends of the log, then everything before those ends, objects last.
So every position lies on the log, and every object that the log names was stored before it was named.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from events.codec import decode
from events.envelope import Recorded
from events.errors import ObjectMissing
from events.objects import ARCHIVED
from events.topics import ARCHIVE, JOB_REQUESTS, TOPICS, Partition
from infra.backup.memory import remembered
from infra.backup.shelf import Shelf
from infra.runtime import postgres, worker_keys
from infra.runtime.history import fetch
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.restoring_appender import fetch_group
from infra.runtime.settings import Settings
from processors.agents import outbox
from processors.dispatch.owner import group_of
from projections.folding.log import stretches
from projections.history.archive import Files, Segment
from projections.history.backup import MANIFEST, OBJECTS, TAIL, Backup, Object, as_document
from projections.history.parquet import NO_LINK, Record, parsed, write_segment

FILE_RECORDS = 100_000
OnProgress = Callable[[str, int, int], None]
"""Description, amount done, total amount."""


@dataclass
class Making:
    """One backup under way. `scratch` is a directory for files that are on their way."""

    settings: Settings
    store: ObjectStore
    shelf: Shelf
    scratch: Path
    on_progress: OnProgress

    async def run(self) -> Backup:
        """Write everything, the manifest last. Raises ArchiveDamaged when a file of the archive has changed."""
        before = await self._before()
        async with postgres.connected(self.settings) as connection:
            processes, keys = await remembered(connection), await worker_keys.dump(connection)
            waiting = await outbox.dump(connection)  # after the positions: nothing that they are past is missing
        requests = [(JOB_REQUESTS.name, number) for number in range(JOB_REQUESTS.partitions)]
        group = group_of(self.settings.topic_prefix)
        dispatched = await asyncio.to_thread(fetch_group, self.settings, group, requests)
        starts, ends, segments = await self._log()
        objects = await self._objects({known.key: known for known in before.objects} if before else {})
        backup = Backup(
            kinolog=version("kinolog"),
            made_at=datetime.now(UTC),
            starts=tuple((*partition, start) for partition, start in sorted(starts.items())),
            ends=tuple((*partition, end) for partition, end in sorted(ends.items())),
            segments=tuple(segments),
            objects=tuple(objects),
            processes=tuple(processes),
            worker_keys=keys,
            outbox=waiting,
            dispatched={number: offset for (_, number), offset in dispatched.items()},
        )
        await self._put(MANIFEST, as_document(backup))
        return backup

    async def _before(self) -> Backup | None:
        """Return the backup that lies there already, if one does."""
        path = self.scratch / "before"
        try:
            await self.shelf.get(MANIFEST, path)
        except ObjectMissing:
            return None
        return Backup.model_validate_json(path.read_bytes())

    # --- the log ----------------------------------------------------------------------------------------------------

    async def _log(self) -> tuple[dict[Partition, int], dict[Partition, int], list[Segment]]:
        log = LogConsumer(self.settings, idle_ms=50)
        own: Partition = (ARCHIVE.name, 0)
        try:
            until = await log.ends([own])
            facts = [records async for _, records in stretches(log, {own: 0}, until, records_max=FILE_RECORDS)]
            archived = archived_files(own, [record for records in facts for record in records])
            for done, segment in enumerate(archived):
                self.on_progress("archive", done, len(archived))
                if not await self._has(segment.key, segment.sha256):
                    await self._put(segment.key, await fetch(self.store, segment))
            partitions = [(topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions)]
            ends = {**await log.ends(partitions), **until}
            starts = await log.starts(partitions)
            tail = await self._tail(log, archived, starts, ends)
            for segment in archived:  # the archive keeps what the log has let go
                partition = segment.topic, segment.partition
                starts[partition] = min(starts[partition], segment.first)
            return starts, ends, archived + tail
        finally:
            await log.close()

    async def _tail(
        self, log: LogConsumer, archived: Sequence[Segment], starts: dict[Partition, int], ends: dict[Partition, int]
    ) -> list[Segment]:
        """Write events that the archive lacks into files of the same kind; the chain continues."""
        heads: dict[Partition, tuple[int, bytes]] = dict.fromkeys(ends, (0, NO_LINK))
        for segment in archived:
            heads[segment.topic, segment.partition] = segment.next, bytes.fromhex(segment.chain)
        begins = {partition: max(head, starts[partition]) for partition, (head, _) in heads.items()}
        found: list[Segment] = []
        missing = sum(max(0, end - begins[partition]) for partition, end in ends.items())
        async for partition, records in stretches(log, begins, ends, records_max=FILE_RECORDS):
            self.on_progress("log", sum(part.records for part in found), missing)
            topic, number = partition
            _, link = heads[partition]
            file, chain = await asyncio.to_thread(write_segment, topic, number, parsed(records), link)
            first, following = records[0][0], records[-1][0] + 1
            heads[partition] = following, chain
            key = f"{TAIL}{topic}/{number}-{first:020}-{following:020}.parquet"
            sha256 = hashlib.sha256(file).hexdigest()
            await self._put(key, file)
            found.append(Segment(topic, number, first, following, len(records), key, len(file), sha256, chain.hex()))
        return found

    # --- objects ----------------------------------------------------------------------------------------------------

    async def _objects(self, before: dict[str, Object]) -> list[Object]:
        """Copy everything in the bucket but the archive."""
        stats = [stat for stat in await self.store.under("") if not stat.key.startswith(ARCHIVED)]
        running, found = asyncio.Semaphore(self.settings.backup_copies), list[Object]()

        async def copy(number: int) -> None:
            key, etag = stats[number].key, stats[number].etag
            async with running:
                known = before.get(key)
                if known is None or known.etag != etag or not await self._has(OBJECTS + key, known.sha256):
                    path = self.scratch / f"object-{number}"
                    try:
                        content_type = (await self.store.stat(key)).content_type
                        sha256 = await self.store.get_file(key, path)
                    except ObjectMissing:
                        return  # purged meanwhile
                    size = path.stat().st_size
                    await self.shelf.put(OBJECTS + key, path)
                    path.unlink(missing_ok=True)
                    known = Object(key=key, size_bytes=size, sha256=sha256, etag=etag, content_type=content_type or "")
                found.append(known)
                self.on_progress("objects", len(found), len(stats))

        await asyncio.gather(*map(copy, range(len(stats))))
        return sorted(found, key=lambda one: one.key)

    async def _has(self, name: str, sha256: str) -> bool:
        path = self.scratch / hashlib.sha256(name.encode()).hexdigest()
        try:
            return await self.shelf.get(name, path) == sha256
        except ObjectMissing:
            return False
        finally:
            path.unlink(missing_ok=True)

    async def _put(self, name: str, data: bytes) -> None:
        path = self.scratch / hashlib.sha256(name.encode()).hexdigest()
        path.write_bytes(data)
        await self.shelf.put(name, path)
        path.unlink(missing_ok=True)


def archived_files(partition: Partition, records: Sequence[Record]) -> list[Segment]:
    """Return the files recorded on the archive's own topic, in the order of their offsets."""
    return list(Files(Recorded(*partition, offset, decode(value)) for offset, value in records))
