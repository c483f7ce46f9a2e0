"""A viewer is forgotten: the key is gone, an event says so, totals stay, and a signed certificate has the events."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.callers import signing
from events.topics import STREAMS, partition_for
from events.viewers import ViewerForgotten
from infra.reference.schemas import ROOT
from infra.runtime import postgres
from infra.runtime.settings import Settings
from infra.runtime.viewers import Viewers
from projections import audit
from projections.folding.runner import install
from projections.history.forgotten import runs_of
from projections.streams import projection as streams
from tests.support.apps import TOKEN, make
from tests.support.archiving import append, archive
from tests.support.commands import kinolog
from tests.support.feeding import catch_up
from tests.support.log import appending, read_topic
from tests.support.serving import served
from tests.support.week import the_week

PERSON = "019cf0f2-1b38-7d0e-9c11-02c5f4a7e0ff"


@dataclass
class House:
    """An admin app over the week, half of it in the archive. `forgotten` watched what Bert watches, `other` the rest."""

    settings: Settings
    base: str
    pool: Any
    viewers: Viewers
    forgotten: str
    other: str

    async def run(self, *words: str) -> Any:
        """Run the command line against the app."""
        return await kinolog(self.settings, *words, cwd=ROOT, KINOLOG_ADMIN_URL=self.base, KINOLOG_ADMIN_TOKEN=TOKEN)

    async def figures(self) -> list[Any]:
        """Fold all of the log; return the days and the viewers' sums."""
        async with self.pool.connection() as connection:
            await catch_up(self.settings, await install(connection, streams.PROJECTION), connection)
            days = await (await connection.execute("SELECT * FROM streams.days ORDER BY day, shard")).fetchall()
            viewers = await (await connection.execute("SELECT * FROM streams.viewer_days ORDER BY viewer_id, day")).fetchall()
        return [*days, *viewers]


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    pool = await postgres.open_pool(settings)
    viewers = Viewers(pool)
    await viewers.ensure()
    bert, other = await viewers.of_person(PERSON), await viewers.of_browser("a cookie")
    week = [
        recorded.envelope._replace(subject=who, data=recorded.envelope.data.model_copy(update={"viewer_id": who}))
        for recorded in the_week().events
        for who in [bert if recorded.envelope.subject == "bert" else other]
    ]
    await append(settings, week[:100])
    await archive(settings, 100)
    await append(settings, week[100:])
    try:
        async with appending(settings) as appender:
            app = make("admin", pool=pool, append=signing(appender.append, "admin"))
            async with served(app) as server:
                yield House(settings, f"http://127.0.0.1:{server.port}", pool, viewers, bert, other)
    finally:
        await pool.close()


async def test_a_forgotten_viewer_has_no_key_and_all_figures_stay(house: House, tmp_path: Path) -> None:
    before, file = await house.figures(), tmp_path / "certificate.json"
    done = await house.run("viewers", "forget", PERSON, "--reason", "by letter", "-o", str(file), "--json")
    assert done.returncode == 0, done.stderr
    certificate = json.loads(file.read_bytes())
    assert json.loads(done.stdout) == certificate

    assert not await house.viewers.has_key(house.forgotten) and await house.viewers.has_key(house.other)
    assert await house.viewers.viewer_of(PERSON) is None
    assert await house.viewers.of_person(PERSON) != house.forgotten, "who comes again is another viewer"
    assert await house.figures() == before

    (said,) = await read_topic(house.settings, "viewers")
    assert said.envelope.data == ViewerForgotten(viewer_id=house.forgotten, reason="by letter")
    assert PERSON not in str(said)
    async with house.pool.connection() as connection:
        await catch_up(house.settings, await install(connection, audit.PROJECTION), connection)
        (entry,) = await audit.page(connection, limit=10)
    assert (entry.action, entry.object_id, entry.reason) == ("viewer.forgotten", house.forgotten, "by letter")

    partition = partition_for(house.forgotten, STREAMS.partitions)
    mine = [one for one in await read_topic(house.settings, "streams") if one.envelope.subject == house.forgotten]
    assert certificate["events"] == {
        "kinolog.stream.ended.v1": 1,
        "kinolog.stream.started.v1": 3,
        "kinolog.stream.ticked.v1": len(mine) - 4,
        "kinolog.viewer.forgotten.v1": 1,
    }
    assert certificate["offsets"] == {
        f"streams/{partition}": [list(run) for run in runs_of([one.offset for one in mine])],
        "viewers/0": [[0, 0]],
    }
    assert PERSON not in file.read_text()


async def test_a_certificate_is_checked_against_the_log(house: House, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    await house.run("viewers", "forget", house.forgotten, "-o", str(file))
    checked = await house.run("verify", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    certificate = json.loads(file.read_bytes())
    for changed, finding in (
        ({"events": {"kinolog.viewer.forgotten.v1": 1}}, "events: the log has"),
        ({"chains": {}}, "chains: the log has"),
        ({"viewer_id": house.other}, "there is a key behind this id"),
        ({"positions": {**certificate["positions"], "viewers/0": 9}}, "the log ends at 1"),
    ):
        file.write_text(json.dumps(certificate | changed))
        checked = await house.run("verify", str(file))
        assert checked.returncode == 1 and finding in checked.stdout and "signature: it does not fit" in checked.stdout


async def test_forgetting_is_repeated_after_a_crash_and_refused_for_a_stranger(house: House) -> None:
    await house.figures()
    assert await house.viewers.forget(house.forgotten), "a crash before the event"
    again = await house.run("viewers", "forget", house.forgotten)
    assert again.returncode == 0 and "kinolog.stream.ticked.v1" in again.stdout, again.stderr
    stranger = await house.run("viewers", "forget", "nobody")
    assert stranger.returncode == 4 and "there is no viewer nobody" in stranger.stderr, (stranger.returncode, stranger.stderr)
    assert len(await read_topic(house.settings, "viewers")) == 1
