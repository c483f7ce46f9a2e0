"""Restores a backup into empty services. An interrupted restore resumes when it is run again."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from events.errors import Conflict, KinologError, ObjectMissing
from events.objects import ARCHIVED
from events.topics import JOB_REQUESTS, TOPICS, Partition
from infra.backup.make import OnProgress
from infra.backup.memory import remember
from infra.backup.shelf import Shelf
from infra.runtime import kafka, postgres, worker_keys
from infra.runtime.history import open_history
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.restoring_appender import RestoringAppender, store_group
from infra.runtime.settings import Settings
from processors.agents import outbox
from processors.archiver import PARQUET_TYPE, manifest_of
from processors.dispatch.owner import group_of
from processors.registry import FOLDS
from projections.folding.log import stretches
from projections.folding.store import SQL
from projections.history.archive import MANIFEST as ARCHIVE_MANIFEST
from projections.history.backup import MANIFEST, OBJECTS, Backup, BackupDamaged, Step, Steps
from projections.history.parquet import NO_LINK, READ_RECORDS, BrokenChain, check_segment, next_link, read_batches
from projections.history.past import fold_to

UNFINISHED = "restoring.json"
"""An object that exists during a restore; it names the backup."""


class RestoredDiffers(KinologError):
    """The restored services differ from the backup."""


@dataclass
class Restoring:
    """One restoration under way."""

    settings: Settings
    store: ObjectStore
    shelf: Shelf
    scratch: Path
    on_progress: OnProgress

    async def run(self) -> dict[str, dict[str, str]]:
        """Restore everything; return the digests of the projections' tables.

        Raises BackupDamaged, before anything is written, when a file of the backup has changed; Conflict when the
        services are not empty.
        """
        path = self.scratch / MANIFEST
        try:
            sha256 = await self.shelf.get(MANIFEST, path)
        except ObjectMissing as error:
            raise BackupDamaged(f"there is no backup: {error}") from error
        backup = Backup.model_validate_json(path.read_bytes())
        await self._check(backup)
        await self.store.ensure_bucket()
        await self._claim(sha256)
        await self._objects(backup)
        await self._log(backup)
        offsets = {(JOB_REQUESTS.name, number): offset for number, offset in backup.dispatched.items()}
        if offsets:
            await asyncio.to_thread(store_group, self.settings, group_of(self.settings.topic_prefix), offsets)
        digests = await self._fold(backup)
        await self.store.delete([UNFINISHED])
        return digests

    async def _check(self, backup: Backup) -> None:
        """Read every file. Raises BackupDamaged with the first that has changed."""
        links: dict[Partition, bytes] = {}
        files = [(segment.key, segment.sha256) for segment in backup.segments]
        files += [(OBJECTS + one.key, one.sha256) for one in backup.objects]
        for done, (name, sha256) in enumerate(files):
            self.on_progress("check", done, len(files))
            path = await self._get(name, sha256)
            if done < len(backup.segments):
                segment = backup.segments[done]
                partition = segment.topic, segment.partition
                try:
                    links[partition] = check_segment(path.read_bytes(), links.get(partition, NO_LINK), segment.key)
                except BrokenChain as error:
                    raise BackupDamaged(str(error)) from error
                if links[partition].hex() != segment.chain:
                    raise BackupDamaged(f"{segment.key} does not fit to the files before it: the hash chain breaks")
            path.unlink()

    async def _get(self, name: str, sha256: str) -> Path:
        path = self.scratch / hashlib.sha256(name.encode()).hexdigest()
        try:
            found = await self.shelf.get(name, path)
        except ObjectMissing as error:
            raise BackupDamaged(f"the backup is damaged: {error}") from error
        if found != sha256:
            raise BackupDamaged(f"the backup is damaged: {name} is not the file that was written, its SHA-256 differs")
        return path

    async def _claim(self, sha256: str) -> None:
        """Mark the services as being restored. Raises Conflict when they hold something else than a part of this backup."""
        try:
            if orjson.loads(await self.store.get_bytes(UNFINISHED, 1 << 16)) == {"backup": sha256}:
                return
        except ObjectMissing:
            holding = await self._holding()
        else:
            holding = "a part of another backup"
        if holding:
            raise Conflict(f"there is {holding} already; a backup is restored into empty services only")
        await self.store.put_bytes(UNFINISHED, orjson.dumps({"backup": sha256}), "application/json")

    async def _holding(self) -> str:
        """Return the contents of the services; nothing when they are empty."""
        if await self.store.under(""):
            return f"something in the bucket {self.settings.s3_bucket}"
        await kafka.ensure_topics(self.settings)
        log = LogConsumer(self.settings, idle_ms=50)
        try:
            ends = await log.ends([(topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions)])
        finally:
            await log.close()
        for (topic, _), end in ends.items():
            if end:
                return f"something in the topic {topic}"
        async with postgres.connected(self.settings) as connection:
            await connection.execute(SQL["create"])
            if await (await connection.execute(SQL["any_projection"])).fetchone() is not None:
                return "a projection in PostgreSQL"
        return ""

    # --- objects ----------------------------------------------------------------------------------------------------

    async def _objects(self, backup: Backup) -> None:
        """Put objects and the archive's files under their keys; existing ones are from an earlier attempt."""
        there = {stat.key: stat.size_bytes for stat in await self.store.under("")}
        archived = [segment for segment in backup.segments if segment.key.startswith(ARCHIVED)]
        wanted = [(OBJECTS + one.key, one.key, one.sha256, one.size_bytes, one.content_type) for one in backup.objects]
        wanted += [(file.key, file.key, file.sha256, file.size_bytes, PARQUET_TYPE) for file in archived]
        running, done = asyncio.Semaphore(self.settings.backup_copies), 0

        async def copy(name: str, key: str, sha256: str, size: int, content_type: str) -> None:
            nonlocal done
            async with running:
                if there.get(key) != size:
                    path = await self._get(name, sha256)
                    await self.store.put_file(key, path, content_type)
                    path.unlink()
                done += 1
                self.on_progress("objects", done, len(wanted))

        await asyncio.gather(*(copy(*one) for one in wanted))
        if archived:
            await self.store.put_bytes(ARCHIVE_MANIFEST, manifest_of(archived), "application/json")

    # --- the log ----------------------------------------------------------------------------------------------------

    async def _log(self, backup: Backup) -> None:
        """Append every record where it was. A topic that was broken off in the middle is begun again."""
        appender = RestoringAppender(self.settings)
        await appender.open()
        log = LogConsumer(self.settings, idle_ms=50)
        try:
            await kafka.ensure_topics(self.settings)
            for topic in TOPICS.values():
                ends = {(name, number): end for name, number, end in backup.ends if name == topic.name}
                present = await log.ends(ends)
                if any(present.values()):
                    if await self._is_whole(log, backup, ends):
                        continue
                    await appender.begin_again(topic.name)
                    await kafka.ensure_topics(self.settings)
                await self._append(appender, backup, ends)
                if not await self._is_whole(log, backup, ends):
                    raise RestoredDiffers(f"{topic.name}: the log differs from the backup")
        finally:
            await log.close()

    async def _append(self, appender: RestoringAppender, backup: Backup, ends: dict[Partition, int]) -> None:
        """Take the steps of all partitions of a topic side by side, so that they share transactions."""
        topic = next(iter(ends))[0]
        going = {number: self._steps(backup, (topic, number), end) for (_, number), end in ends.items()}
        reached = dict.fromkeys(going, 0)
        while going:
            steps: dict[int, Step] = {}
            for number, coming in list(going.items()):
                step = await anext(coming, None)
                if step is None:
                    del going[number]
                else:
                    steps[number] = step
                    reached[number] = step.next
            if steps:
                await appender.take(topic, steps)
                self.on_progress(topic, sum(reached.values()), sum(ends.values()))
        await appender.settle(topic, reached)

    async def _steps(self, backup: Backup, partition: Partition, end: int) -> AsyncIterator[Step]:
        steps = Steps(backup.start_of(partition))
        for segment in backup.segments_of(partition):
            path = await self._get(segment.key, segment.sha256)
            for records in read_batches(path.read_bytes(), READ_RECORDS):
                for step in steps.add(records):
                    yield step
            path.unlink()
        for step in steps.finish(end):
            yield step

    async def _is_whole(self, log: LogConsumer, backup: Backup, ends: dict[Partition, int]) -> bool:
        """Return whether a topic has its former end and its former records, by the hash chain."""
        if await log.ends(ends) != ends:
            return False
        links = dict.fromkeys(ends, NO_LINK)
        async for partition, records in stretches(log, await log.starts(ends), ends, records_max=10_000):
            for offset, value in records:
                links[partition] = next_link(links[partition], offset, value)
        chains = {(segment.topic, segment.partition): segment.chain for segment in backup.segments}
        return all(link.hex() == chains.get(partition, NO_LINK.hex()) for partition, link in links.items())

    # --- PostgreSQL -------------------------------------------------------------------------------------------------

    async def _fold(self, backup: Backup) -> dict[str, dict[str, str]]:
        ends = {(topic, number): end for topic, number, end in backup.ends}
        digests = {}
        async with postgres.connected(self.settings) as connection, open_history(self.settings) as history:
            await remember(connection, backup.processes)
            await worker_keys.load_dump(connection, backup.worker_keys)
            await outbox.load_dump(connection, backup.outbox)
            for done, projection in enumerate(FOLDS.values()):
                self.on_progress("projections", done, len(FOLDS))
                runner = await fold_to(projection, connection, history, ends)
                digests[projection.name] = await runner.digest(connection)
        return digests
