"""A change of the rules of viewing reaches all of history by a rebuild, and no row before."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from events.envelope import Envelope
from events.settings import SettingChanged
from infra.history.past import past_of
from infra.reference.schemas import ROOT
from infra.runtime import postgres
from infra.runtime.log_consumer import open_log
from infra.runtime.settings import Settings
from projections.folding.runner import install
from projections.history.verify import verify
from projections.streams import figures
from projections.streams import projection as streams
from tests.support.archiving import append
from tests.support.commands import kinolog
from tests.support.feeding import catch_up
from tests.support.footage import START, id_of
from tests.support.week import the_week

MINUTE = 60_000
UTC_DAYS = {21: 10 * MINUTE, 22: 61_000}
BERLIN_DAYS = {21: 4 * MINUTE, 22: 6 * MINUTE + 61_000}


async def days(connection: AsyncConnection[Any]) -> dict[int, int]:
    """Return the milliseconds watched on Wednesday and Thursday, as readers see them."""
    return {one.day.day: one.watched_ms for one in await figures.of_days(connection, date(2026, 10, 21), date(2026, 10, 22))}


async def store(settings: Settings, name: str, value: str) -> None:
    """Store a setting."""
    event = SettingChanged(name=name, version=1, value=value)
    await append(settings, [Envelope(id_of(name), "kinolog/test", name, START, event, id_of(name))])


async def rebuilt(settings: Settings, *words: str) -> str:
    """Run `kinolog rebuild streams`, which must succeed."""
    done = await kinolog(settings, "rebuild", "streams", *words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_another_zone_restates_all_of_history_by_a_rebuild_and_no_row_before(settings: Settings, tmp_path: Path) -> None:
    events = [recorded.envelope for recorded in the_week().events]
    async with postgres.connected(settings) as connection, open_log(settings, idle_ms=50) as log:
        await append(settings, events[:150])
        await catch_up(settings, await install(connection, streams.PROJECTION), connection)
        await store(settings, "viewing_zone", "Europe/Berlin")
        await store(settings, "viewing_play_min_s", "1")
        await append(settings, events[150:])
        await catch_up(settings, await install(connection, streams.PROJECTION), connection)
        assert await days(connection) == UTC_DAYS, "rows keep the rules with which they were made"
        listed = await kinolog(settings, "projections", cwd=ROOT)
        assert "streams: its settings have changed" in listed.stderr, listed.stderr

        tried = await rebuilt(settings, "--dry-run")
        assert "restated by other code" in tried and await days(connection) == UTC_DAYS
        assert re.search(r"days: .*\n    sum of plays: 4 -> 5\n", tried), tried
        await rebuilt(settings, "--workers", "2")
        assert await days(connection) == BERLIN_DAYS
        assert (await figures.rules(connection)).zone == "Europe/Berlin"
        await catch_up(settings, await install(connection, streams.PROJECTION), connection)
        assert not [one for one in (await verify(connection, log, [streams.PROJECTION]))["findings"] if "streams" in one]
        async with past_of(settings).at("2026-10-26T00:00:00Z") as then:
            assert await days(then) == BERLIN_DAYS and (await figures.rules(then)).watched_min_ms == 1000
        assert json.loads(await rebuilt(settings, "--json"))["equal"] is True

        report = tmp_path / "streams.json"
        await kinolog(settings, "report", "streams", "--signed", "-o", str(report), cwd=ROOT)
        checked = await kinolog(settings, "verify", str(report), cwd=ROOT)
        assert checked.returncode == 0, checked.stdout


async def test_flip_back_returns_to_the_rules_of_the_version_before(settings: Settings) -> None:
    events = [recorded.envelope for recorded in the_week().events]
    async with postgres.connected(settings) as connection:
        await append(settings, events[:150])
        await catch_up(settings, await install(connection, streams.PROJECTION), connection)
        await store(settings, "viewing_zone", "Europe/Berlin")
        await rebuilt(settings)
        await append(settings, events[150:])
        back = await kinolog(settings, "projection", "flip-back", "streams", cwd=ROOT)
        assert back.returncode == 0, back.stderr
        await catch_up(settings, await install(connection, streams.PROJECTION), connection)
        assert await days(connection) == UTC_DAYS and (await figures.rules(connection)).zone == "UTC"
