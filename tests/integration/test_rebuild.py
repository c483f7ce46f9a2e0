"""However a projection was folded, its tables are the same, byte for byte: live in small batches, anew from the log, anew from
archive and log, with rows let go in between, by several processes."""

import asyncio
import json
import random
import re
from collections.abc import Sequence
from itertools import chain, zip_longest

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from psycopg import AsyncConnection

from events.envelope import Envelope, Event, Recorded
from infra.history.shares import shares_of
from infra.reference.schemas import ROOT
from infra.runtime import postgres
from infra.runtime.history import open_history
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.settings import Settings
from projections.folding import bulk
from projections.folding import pace as pacing
from projections.folding.log import LogReader
from projections.folding.rebuild import rebuild
from projections.folding.runner import install
from projections.history.versions import list_versions
from projections.registry import PROJECTIONS
from tests.integration.test_insights import some_log
from tests.integration.test_replay import append, archive, kinolog
from tests.support.histories import logs

BATCH = 37


def happenings() -> list[Envelope[Event]]:
    """Return what some dozens of histories have, one after the other; ids come again, as they do when a sender retries."""
    found: list[Recorded[Event]] = []

    @examples(max_examples=30, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(logs())
    def collect(log: list[Recorded[Event]]) -> None:
        found.extend(log)

    collect()
    found += some_log(random.Random(5), 300)
    random.Random(6).shuffle(told := [recorded.envelope for recorded in found if recorded.topic == "telemetry"])
    others = [recorded.envelope for recorded in found if recorded.topic != "telemetry"]
    return [event for event in chain.from_iterable(zip_longest(others, told)) if event is not None]


async def fold_live(settings: Settings, connection: AsyncConnection[object]) -> None:
    """Fold all that is on the log into every projection, batch by batch, as the processors do."""
    source = LogConsumer(settings, idle_ms=50)
    for projection in PROJECTIONS.values():
        runner = await install(connection, projection)
        reader = LogReader(source, projection)
        await reader.seek(await runner.positions(connection))
        ends = await reader.ends()
        while reader.missing(ends):
            batch, _dead = await reader.read(records_max=BATCH, wait_s=0.2)
            if batch is not None:
                await runner.apply(connection, batch)
    await source.close()


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


async def test_a_projection_that_is_not_there_is_told(settings: Settings) -> None:
    done = await kinolog(settings, "rebuild", "nonsense", "--workers", "2", cwd=ROOT)
    assert done.returncode != 0 and "there is no projection nonsense" in done.stderr


def test_shares_are_about_equal_and_lose_nothing() -> None:
    until = {("a", number): number * 100 for number in range(8)}
    shares = shares_of(until, 3)
    assert sorted(place for share in shares for place in share) == sorted(until)
    loads = [sum(share.values()) for share in shares]
    assert max(loads) - min(loads) <= 100 and {place: end for share in shares for place, end in share.items()} == until
    assert shares_of({("a", 0): 5}, 3) == [{("a", 0): 5}]
