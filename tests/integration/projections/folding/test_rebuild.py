"""However a projection was folded, its tables are the same, byte for byte: live in small batches, anew from the log, anew from
archive and log, with rows let go in between, by several processes."""

import asyncio
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, zip_longest
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from psycopg import AsyncConnection

from events.envelope import Envelope, Event, Recorded
from events.topics import VIDEOS
from events.videos import VideoUploaded
from infra.history.shares import shares_of
from infra.reference.schemas import ROOT
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.history import open_history
from infra.runtime.log_consumer import open_log
from infra.runtime.settings import Settings
from processors.agents.app import App, Services, add_projection
from processors.agents.feed import Feed
from projections import catalog
from projections.folding import bulk
from projections.folding import pace as pacing
from projections.folding.changes import SAMPLES_MAX
from projections.folding.code import code_of
from projections.folding.fold import Projection
from projections.folding.rebuild import RebuildDiffers, flip_back, rebuild
from projections.folding.runner import install
from projections.history.verify import verify
from projections.history.versions import list_versions
from projections.registry import PROJECTIONS
from tests.support.archiving import append, archive
from tests.support.commands import kinolog
from tests.support.feeding import catch_up, fold_live, processing
from tests.support.footage import START
from tests.support.histories import logs
from tests.support.shelf import some_log
from tests.support.waiting import eventually


@cache
def happenings() -> list[Envelope[Event]]:
    """Return what some dozens of histories have, one after the other; ids come again, as they do when a sender retries."""
    found: list[Recorded[Event]] = []

    @examples(max_examples=30, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(logs())
    def collect(log: list[Recorded[Event]]) -> None:
        found.extend(log)

    collect()
    found += some_log(random.Random(5), 300)
    random.Random(6).shuffle(reports := [recorded.envelope for recorded in found if recorded.topic == "telemetry"])
    others = [recorded.envelope for recorded in found if recorded.topic != "telemetry"]
    return [event for event in chain.from_iterable(zip_longest(others, reports)) if event is not None]


async def half_archived(settings: Settings, connection: AsyncConnection[object]) -> Sequence[Envelope[Event]]:
    """Put a history on the log, its first half into files, and fold all of it live."""
    events = happenings()
    half = len(events) // 2
    assert half > 200
    await append(settings, events[:half])
    await archive(settings, half)
    await append(settings, events[half:])
    await fold_live(settings, connection)
    return events


async def test_live_log_archive_and_rows_let_go_all_give_the_same(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "WRITTEN", 20)
    async with postgres.connected(settings) as connection:
        await half_archived(settings, connection)
        async with open_history(settings) as history:
            assert history.segments
            for rows_max in (bulk.ROWS_MAX, 3):
                monkeypatch.setattr(bulk, "ROWS_MAX", rows_max)
                monkeypatch.setattr(bulk, "GATHERED_RECORDS", rows_max)
                for projection in PROJECTIONS.values():
                    from_all = await rebuild(projection, connection, history)
                    from_log = await rebuild(projection, connection, history.log, keep=False)
                    assert (projection.name, from_all.equal, from_log.equal) == (projection.name, True, True)
                    assert from_all.digests == from_log.digests


async def test_a_rebuild_rests_while_others_wait_for_a_processor(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []

    async def sleep(delay_s: float) -> None:
        rested.append(delay_s)
        await asyncio.sleep(0)

    monkeypatch.setattr(pacing, "sleep", sleep)
    monkeypatch.setattr(bulk, "WRITTEN", 10)
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        await append(settings, [recorded.envelope for recorded in some_log(random.Random(5), 300)])
        await fold_live(settings, connection)
        for crowded, rests in ((1.0, False), (-1.0, True)):
            monkeypatch.setattr(pacing, "CROWDED", crowded)
            rested.clear()
            assert (await rebuild(PROJECTIONS["telemetry"], connection, log)).equal
            assert len(rested) > 300 / 10 and any(rested) is rests


async def test_several_processes_give_the_same(settings: Settings) -> None:
    async with postgres.connected(settings) as connection:
        await half_archived(settings, connection)
    for projection in PROJECTIONS.values():
        done = await kinolog(settings, "rebuild", projection.name, "--workers", "2", "--json", cwd=ROOT)
        if projection.partitioned:
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["equal"] is True
        else:
            assert done.returncode == 2 and "several partitions" in done.stderr


async def test_versions_are_listed_with_what_proves_them(settings: Settings) -> None:
    async with postgres.connected(settings) as connection:
        await half_archived(settings, connection)
        catalog = PROJECTIONS["catalog"]
        async with open_history(settings) as history:
            live = await list_versions(PROJECTIONS.values(), connection, history)
            assert [(one.projection, one.version) for one in live] == [(name, 1) for name in PROJECTIONS]
            assert all(one.serves and one.serves_from and one.contiguous and one.lag_events == 0 for one in live)
            await rebuild(catalog, connection, history)
            await append(settings, happenings()[:50])
            first, second = await list_versions([catalog], connection, history)
            assert (first.serves, second.serves) == (False, True)
            assert first.serves_from and second.serves_from and first.serves_from < second.serves_from
            assert (first.digest, first.positions, first.events) == (second.digest, second.positions, second.events)
            assert first.contiguous is second.contiguous is True and second.lag_events > 0
            await connection.execute("UPDATE kinolog.positions SET folded = folded - 1 WHERE name = 'catalog' AND folded > 0")
            await connection.execute("DELETE FROM catalog_v2.videos")
            first, second = await list_versions([catalog], connection, history)
            assert first.contiguous is second.contiguous is False and first.digest != second.digest
    listed = await kinolog(settings, "projections", cwd=ROOT)
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"catalog +2 +2.* NO ", listed.stdout) and re.search(r"timeline +1 +2.* yes ", listed.stdout)


def corrected(projection: Projection) -> Projection:
    """Return the catalog as other code folds it: titles in capitals."""
    videos, *others = projection.tables

    def evolve(row: catalog.Video | None, recorded: Recorded[Event]) -> catalog.Video | None:
        after = videos.evolve(row, recorded)
        return None if after is None else replace(after, title=after.title.upper())

    return replace(projection, tables=(replace(videos, evolve=evolve), *others))


async def titles(connection: AsyncConnection[Any]) -> dict[str, str]:
    """Return what readers see."""
    cursor = await connection.execute("SELECT video_id, title FROM catalog.videos")
    return dict(await cursor.fetchall())


async def test_a_corrected_fold_is_deployed_and_taken_back(settings: Settings) -> None:
    projection = PROJECTIONS["catalog"]
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        await append(settings, happenings())
        await fold_live(settings, connection)
        before = await titles(connection)
        shouted = {video_id: title.upper() for video_id, title in before.items()}
        assert before != shouted

        tried = await rebuild(corrected(projection), connection, log, keep=False)
        assert (tried.equal, tried.is_restatement, tried.flipped) == (False, True, False)
        assert await titles(connection) == before
        restated = await rebuild(corrected(projection), connection, log)
        assert restated.changes == tried.changes and restated.flipped
        assert await titles(connection) == shouted
        (videos,) = [change for change in restated.changes if change.table == "videos"]
        assert videos.changed == sum(before[key] != shouted[key] for key in before) and videos.added == 0
        assert videos.samples[0].table == "videos" and len(videos.samples) <= SAMPLES_MAX
        for _, key, was, now in videos.samples:
            assert was and now and now["title"] == was["title"].upper() and key == (was["video_id"],)

        later = VideoUploaded(video_id=new_id(), title="Later", filename="f", object_key="k", size_bytes=1)
        await append(settings, [Envelope(new_id(), "test", later.video_id, START, later, "c")])
        runner = await install(connection, corrected(projection))
        await catch_up(settings, runner, connection)
        assert await flip_back(projection, connection, log) == 1
        assert await titles(connection) == before | {later.video_id: "Later"}, "it has caught up before it serves"
        assert (await rebuild(projection, connection, log)).equal


async def test_rows_that_differ_by_the_same_code_are_an_alarm_until_they_are_accepted(settings: Settings) -> None:
    projection = PROJECTIONS["catalog"]
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        await append(settings, happenings())
        await fold_live(settings, connection)
        right = await titles(connection)

        async def about_the_catalog() -> str:
            return "".join(
                found for found in (await verify(connection, log, [projection]))["findings"] if found.startswith("catalog")
            )

        await connection.execute("UPDATE catalog_v1.videos SET title = 'by hand' WHERE video_id = %s", [min(right)])
        await connection.execute("DELETE FROM catalog_v1.videos WHERE video_id = %s", [max(right)])
        with pytest.raises(RebuildDiffers, match="2 rows of videos"):
            await rebuild(projection, connection, log)
        assert (await titles(connection))[min(right)] == "by hand"
        assert "lost, doubled or changed by hand" in await about_the_catalog()

        refused = await kinolog(settings, "rebuild", "catalog", cwd=ROOT)
        assert refused.returncode == 1 and "title: 'by hand' -> " in refused.stdout and "--accept" in refused.stderr
        await connection.execute("UPDATE kinolog.versions SET codes = ARRAY['another']")
        assert "restate it by: kinolog rebuild catalog" in await about_the_catalog()
        shown = await kinolog(settings, "rebuild", "catalog", "--dry-run", cwd=ROOT)
        assert shown.returncode == 0 and "1 rows added, 0 gone, 1 changed" in shown.stdout and "nothing was changed" in shown.stderr
        listed = json.loads((await kinolog(settings, "projections", "--json", cwd=ROOT)).stdout)
        assert all(one["other_code"] and one["codes"] == ["another"] for one in listed)
        restated = await kinolog(settings, "rebuild", "catalog", "--json", cwd=ROOT)
        assert restated.returncode == 0 and json.loads(restated.stdout)["changes"][0]["changed"] == 1, restated.stderr
        assert await titles(connection) == right
        assert await about_the_catalog() == ""


async def test_a_version_that_two_codes_have_folded_is_of_neither(settings: Settings) -> None:
    """The processors were rolled forward and back: what the code between has folded is no damage."""
    projection = PROJECTIONS["catalog"]
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        await append(settings, (events := happenings())[: len(events) // 2])
        await fold_live(settings, connection)
        await append(settings, events[len(events) // 2 :])
        runner = await install(connection, corrected(projection))
        await runner.add_code(connection)
        await runner.add_code(connection)
        await catch_up(settings, runner, connection)
        assert await runner.codes(connection) == [code_of(projection), code_of(corrected(projection))]
        assert (await rebuild(projection, connection, log)).is_restatement


async def test_a_feed_warns_of_a_version_that_other_code_has_made(settings: Settings) -> None:
    projection, found = PROJECTIONS["catalog"], list[Services]()
    async with postgres.connected(settings) as connection:
        await install(connection, corrected(projection))

    def add(app: App, services: Services) -> list[Feed]:
        found.append(services)
        return [add_projection(app, projection, services), add_projection(app, PROJECTIONS["jobs"], services)]

    async with processing(settings, add):
        assert found[0].warnings.keys() == {"catalog"} and "--dry-run" in found[0].warnings["catalog"]
        async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
            await rebuild(projection, connection, log)
            await append(settings, happenings())
            await eventually(lambda: not found[0].warnings)  # the feed meets the flip at its next batch


async def test_a_projection_that_is_not_there_is_named(settings: Settings) -> None:
    done = await kinolog(settings, "rebuild", "nonsense", "--workers", "2", cwd=ROOT)
    assert done.returncode != 0 and "there is no projection nonsense" in done.stderr


def test_shares_are_about_equal_and_lose_nothing() -> None:
    until = {("a", number): number * 100 for number in range(8)}
    shares = shares_of(until, 3)
    assert sorted(partition for share in shares for partition in share) == sorted(until)
    loads = [sum(share.values()) for share in shares]
    assert max(loads) - min(loads) <= 100 and {partition: end for share in shares for partition, end in share.items()} == until
    assert shares_of({("a", 0): 5}, 3) == [{("a", 0): 5}]


async def test_one_more_topic_is_read_from_its_start(settings: Settings) -> None:
    projection = PROJECTIONS["audit"]
    earlier = replace(projection, topics=tuple(topic for topic in projection.topics if topic is not VIDEOS))
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        await append(settings, happenings())
        await catch_up(settings, await install(connection, earlier), connection)
        before = await (await connection.execute("SELECT count(*) FROM audit.entries")).fetchone()
        await catch_up(settings, await install(connection, projection), connection)
        after = await (await connection.execute("SELECT count(*) FROM audit.entries")).fetchone()
        assert before and after and before[0] < after[0]
        assert (await rebuild(projection, connection, log)).equal is True
