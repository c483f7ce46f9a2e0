"""Backup and restore on the real engine: into empty services, position for position, also when it is killed half-way."""

import asyncio
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from events.codec import encode
from events.envelope import Recorded
from events.errors import Conflict
from events.topics import PROGRESS, TOPICS, Partition
from infra.backup.make import Making
from infra.backup.restore import Restoring
from infra.backup.shelf import open_shelf
from infra.history.past import past_of
from infra.reference.schemas import ROOT
from infra.runtime import kafka, postgres
from infra.runtime.clock import new_id
from infra.runtime.fenced_appender import FencedAppender
from infra.runtime.history import open_history
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from infra.runtime.worker_keys import KeyTable
from processors.agents.outbox import SQL as OUTBOX
from processors.agents.outbox import put
from producers.keys import Key
from projections.folding.log import stretches
from projections.folding.positions import Positions
from projections.folding.runner import install
from projections.history.backup import Backup, BackupDamaged
from projections.history.past import fold_to
from projections.history.proof import audit_archive
from projections.registry import PROJECTIONS
from tests.conftest import new_world
from tests.support import clips
from tests.support.archiving import archive
from tests.support.counting import ticks
from tests.support.log import assert_whole
from tests.support.platform import Platform, environment

PARTITIONS = [(topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions)]


def say_nothing(what: str, done: int, total: int) -> None:
    """A progress bar that nobody watches."""


async def back_up(settings: Settings, where: str, scratch: Path) -> Backup:
    """Make a backup."""
    scratch.mkdir(exist_ok=True)
    return await Making(settings, ObjectStore(settings), await open_shelf(settings, where), scratch, say_nothing).run()


async def restore(settings: Settings, where: str, scratch: Path) -> dict[str, dict[str, str]]:
    """Restore a backup."""
    scratch.mkdir(exist_ok=True)
    return await Restoring(settings, ObjectStore(settings), await open_shelf(settings, where), scratch, say_nothing).run()


async def on_the_log(settings: Settings, ends: dict[Partition, int] | None = None) -> dict[Partition, list[tuple[int, bytes]]]:
    """Return every record before `ends`."""
    log = LogConsumer(settings, idle_ms=50)
    found: dict[Partition, list[tuple[int, bytes]]] = {partition: [] for partition in PARTITIONS}
    try:
        ends = ends or await log.ends(PARTITIONS)
        async for partition, records in stretches(log, await log.starts(PARTITIONS), ends, records_max=1000):
            found[partition] += records
    finally:
        await log.close()
    return found


async def with_gaps(settings: Settings, count: int) -> None:
    """Append ticks in a transaction each, some of which are aborted: each partition begins with such a gap."""
    await kafka.ensure_topics(settings)
    await ObjectStore(settings).ensure_bucket()
    appender = FencedAppender(settings, "test")
    await appender.open()
    for number, envelope in enumerate(ticks(count, jobs=9)):
        if number % 7 == 0:
            await appender._run(lambda: abort(appender))
        await appender.append([envelope])
    await appender.close()


def abort(appender: FencedAppender) -> None:
    """Append something to each partition that is taken back."""
    appender._producer.begin_transaction()
    for number in 3 * list(range(PROGRESS.partitions)):
        appender._producer.produce(f"{appender._prefix}progress", b"nothing", partition=number)
    appender._producer.flush(60)
    appender._producer.abort_transaction(60)


@pytest.fixture
async def elsewhere(engine: Settings, tmp_path: Path) -> Settings:
    """Empty services."""
    return new_world(engine, tmp_path / "elsewhere")


async def test_a_platform_is_restored_and_goes_on(platform: Platform, elsewhere: Settings, tmp_path: Path) -> None:
    video_id = await platform.upload(clips.real_clips()["carphone"])
    await platform.ended(video_id)
    where, settings = str(tmp_path / "backup"), platform.settings
    backup = await back_up(settings, where, tmp_path / "a")
    ends = {(topic, number): end for topic, number, end in backup.ends}
    digests = await restore(elsewhere, where, tmp_path / "b")

    assert await on_the_log(elsewhere, ends) == await on_the_log(settings, ends)
    moment = Positions({partition: end for partition, end in ends.items() if end}).header()
    async with past_of(settings).at(moment) as then:
        for projection in PROJECTIONS.values():
            assert await (await install(then, projection)).digest(then) == digests[projection.name], projection.name
    objects = {stat.key: stat.size_bytes for stat in await ObjectStore(elsewhere).under("")}
    assert {one.key: one.size_bytes for one in backup.objects} == {k: v for k, v in objects.items() if not k.startswith("archive/")}

    # the old worker's last question still waits; a job that it is given comes back when the lease is over, and so may others
    # on a busy machine
    often: dict[str, Any] = {"attempts_max": 20, "quarantine_after": 20}
    async with Platform(elsewhere, lease_s=5.0, lease_renew_s=1.0, backoff_base_s=0.1, **often) as restored:
        video = await restored.video(video_id)
        assert (await restored.public.get(video["hls_url"])).status_code == 200
        again = await restored.upload(clips.real_clips()["carphone"])
        assert (await restored.ended(again))["status"] == "ready"
        about_the_old = [r for records in (await on_the_log(restored.settings)).values() for r in records if video_id in str(r)]
        assert len(about_the_old) == sum(video_id in str(r) for records in (await on_the_log(settings)).values() for r in records)
    await assert_whole(elsewhere)


async def test_gaps_and_the_archive_come_back_where_they_were(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    await with_gaps(settings, 60)
    await archive(settings, 60)
    await with_gaps(settings, 20)
    await back_up(settings, str(tmp_path / "backup"), tmp_path / "a")
    await restore(elsewhere, str(tmp_path / "backup"), tmp_path / "b")
    there = await on_the_log(elsewhere)
    assert there == await on_the_log(settings)
    assert sum(len(records) for (topic, _), records in there.items() if topic == "progress") == 80
    async with open_history(elsewhere) as history:
        assert history.segments and await audit_archive(history.log, history.segments, history.fetch) == []
    await archive(elsewhere, 20)  # the archiver goes on after the last file on the log
    async with open_history(elsewhere) as history:
        assert await audit_archive(history.log, history.segments, history.fetch) == []


async def test_what_begins_with_a_gap_is_archived_whole_after_the_restore(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    await with_gaps(settings, 20)
    await back_up(settings, str(tmp_path / "backup"), tmp_path / "a")
    await restore(elsewhere, str(tmp_path / "backup"), tmp_path / "b")
    await with_gaps(elsewhere, 20)  # also in partitions that had no record before
    await archive(elsewhere, 40)
    async with open_history(elsewhere) as history:
        assert history.segments and await audit_archive(history.log, history.segments, history.fetch) == []


async def test_an_effect_that_was_still_to_be_done_is_done_after_the_restore(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    await with_gaps(settings, 10)
    async with postgres.connected(settings) as connection:
        await connection.execute(OUTBOX["create"])
        waiting = [Recorded("videos", 1, 7, ticks(1)[0])]
        await put(connection, "files", waiting)
    await back_up(settings, str(tmp_path / "backup"), tmp_path / "a")
    await restore(elsewhere, str(tmp_path / "backup"), tmp_path / "b")
    query = "SELECT effect, topic, partition, position, record FROM kinolog.outbox"
    async with postgres.connected(elsewhere) as connection:
        assert await (await connection.execute(query)).fetchall() == [("files", "videos", 1, 7, encode(waiting[0].envelope))]


async def test_a_backup_in_a_bucket_and_a_second_one_that_copies_what_is_new(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    await with_gaps(settings, 10)
    store = ObjectStore(settings)
    await store.put_bytes("uploads/one", b"one", "video/mp4")
    where = f"s3://{settings.s3_bucket}-backup/here"
    first = await back_up(settings, where, tmp_path / "a")
    await store.put_bytes("uploads/two", b"two", "video/mp4")
    second = await back_up(settings, where, tmp_path / "a")
    assert [one.key for one in second.objects] == ["uploads/one", "uploads/two"] and second.objects[:1] == first.objects
    await restore(elsewhere, where, tmp_path / "b")
    assert await ObjectStore(elsewhere).get_bytes("uploads/two", 10) == b"two"
    assert (await ObjectStore(elsewhere).stat("uploads/one")).content_type == "video/mp4"


KILLED = """
import os, signal, sys
from infra.cli import main
from infra.runtime.restoring_appender import RestoringAppender

take = RestoringAppender.take

async def take_some(self, topic, steps):
    await take(self, topic, steps)
    if max(step.next for step in steps.values()) > 20:
        os.kill(os.getpid(), signal.SIGKILL)

RestoringAppender.take = take_some
sys.argv = ["kinolog", "restore", *sys.argv[1:]]
main()
"""


async def killed_half_way(settings: Settings, where: str) -> None:
    """Run `kinolog restore`, which is killed in the middle of a topic, however slow or quick whoever looks at it is."""
    env = environment(settings) | {"PYTHONPATH": str(ROOT)}
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, where, env=env)
    assert await running.wait() == -signal.SIGKILL, "it ended before it was killed"


async def test_what_was_killed_half_way_goes_on(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    await with_gaps(settings, 400)
    where = str(tmp_path / "backup")
    await back_up(settings, where, tmp_path / "a")
    await killed_half_way(elsewhere, where)
    other = await back_up(settings, str(tmp_path / "other"), tmp_path / "c")
    assert other
    with pytest.raises(Conflict, match="part of another backup"):
        await restore(elsewhere, str(tmp_path / "other"), tmp_path / "b")
    digests = await restore(elsewhere, where, tmp_path / "b")
    assert await on_the_log(elsewhere) == await on_the_log(settings)
    async with postgres.connected(settings) as connection, open_history(settings) as history:
        runner = await fold_to(PROJECTIONS["progress"], connection, history, await history.ends(PARTITIONS))
        assert await runner.digest(connection) == digests["progress"]


async def test_services_that_are_not_empty_are_refused(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    await with_gaps(settings, 3)
    where = str(tmp_path / "backup")
    await back_up(settings, where, tmp_path / "a")
    with pytest.raises(Conflict, match="something in the topic progress already; a backup is restored into empty services"):
        await restore(settings, where, tmp_path / "b")
    store = ObjectStore(elsewhere)
    await store.ensure_bucket()
    await store.put_bytes("uploads/mine", b"mine", "video/mp4")
    with pytest.raises(Conflict, match="something in the bucket"):
        await restore(elsewhere, where, tmp_path / "b")


@pytest.mark.parametrize("victim", ["objects/uploads/one", "tail/progress", "backup.json"])
async def test_a_damaged_backup_is_refused_by_the_name_of_the_file(
    settings: Settings, elsewhere: Settings, tmp_path: Path, victim: str
) -> None:
    await with_gaps(settings, 30)
    await ObjectStore(settings).put_bytes("uploads/one", b"one", "video/mp4")
    where = tmp_path / "backup"
    await back_up(settings, str(where), tmp_path / "a")
    path = next(path for path in sorted(where.rglob("*")) if path.is_file() and str(path.relative_to(where)).startswith(victim))
    if victim == "backup.json":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(BackupDamaged, match=str(path.relative_to(where))):
        await restore(elsewhere, str(where), tmp_path / "b")
    assert not await ObjectStore(elsewhere).ready(), "something was written"


async def test_the_commands(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    await with_gaps(settings, 12)
    key = Key(key_id=new_id(), worker_id=new_id(), purpose="work", prefix="abcdefgh", issued_at=datetime.now(UTC))
    async with await postgres.open_pool(settings) as pool:
        await KeyTable(pool).ensure()
        await KeyTable(pool).add(key, "$argon2id$a-hash")

    async def kinolog(of: Settings, *words: str) -> subprocess.CompletedProcess[str]:
        command, env = [sys.executable, "-m", "infra.cli", *words], environment(of) | {"PYTHONPATH": str(ROOT)}
        return await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)

    made = await kinolog(settings, "backup", "kept", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["events"] == 12
    restored = await kinolog(elsewhere, "restore", "kept", "--json")
    assert restored.returncode == 0, restored.stderr
    assert set(json.loads(restored.stdout)) > {"catalog.videos", "timeline.entries"}
    async with await postgres.open_pool(elsewhere) as pool:
        assert await KeyTable(pool).with_prefix("abcdefgh") == [(key, "$argon2id$a-hash")]
    again = await kinolog(elsewhere, "restore", "kept")
    assert again.returncode == 5 and "empty services only" in again.stderr
    nowhere = await kinolog(elsewhere, "restore", "nowhere")
    assert nowhere.returncode == 1 and "there is no backup" in nowhere.stderr
