"""Days are closed after their midnight, restated openly by late events, and counted again with the same result."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from events.clock import Context
from events.days import DayClosed
from events.envelope import Envelope, Event
from events.pulse import Pulse
from events.streams import StreamServed
from events.videos import VideoUploaded
from infra.history.past import past_of
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.objects import ObjectStore
from infra.runtime.sampling import Sampler
from infra.runtime.settings import Settings
from infra.runtime.viewers import Viewers
from processors.chores import Chores
from producers.appender import Appender
from projections import catalog
from projections.daily.projection import daily
from projections.folding.runner import install
from projections.streams.projection import streams
from projections.streams.rules import Rules
from tests.support.apps import TOKEN, make
from tests.support.feeding import catch_up
from tests.support.footage import id_of
from tests.support.log import appending, read_topic
from tests.support.week import CLIP, FILM, at, the_week

BERLIN = "Europe/Berlin"
FOLDS = (daily(BERLIN), streams(Rules(zone=BERLIN)), catalog.PROJECTION)
MONDAY = {
    "total_plays": 1,
    "unique_users": 1,
    "total_watch_minutes": 1,
    "total_bytes_served": 5_000_000,
    "transcodes": 0,
    "direct_plays": 1,
    "direct_streams": 0,
    "transcode_failures": 0,
    "new_media_added": 2,
    "library_size_total": 2,
    "storage_used_bytes": 300,
}
"""Figures of Monday, 2026-10-19, in Berlin, by hand."""


@dataclass
class House:
    """An installation whose clock the test moves."""

    settings: Settings
    pool: Any
    appender: Appender
    http: httpx.AsyncClient
    now: list[datetime] = field(default_factory=list)

    async def fold(self, *events: Envelope[Event]) -> None:
        """Append events; fold everything."""
        if events:
            await self.appender.append(events)
        async with self.pool.connection() as connection:
            for projection in FOLDS:
                await catch_up(self.settings, await install(connection, projection), connection)

    async def midnight(self, now: datetime) -> list[str]:
        """Let the timer run at a moment; return the closed days of the whole log."""
        self.now[:] = [now]
        day, sample = timedelta(days=1), Sampler(self.settings.var_dir).sample
        chores = Chores(self.pool, ObjectStore(self.settings), self.appender.append, self.context, day, day, "here", sample)
        await chores.close_days(Pulse("a test"))
        await self.fold()
        return [event.day for event in await self.closed()]

    def context(self) -> Context:
        """Return the time that the test set."""
        return Context(self.now[-1], new_id, "kinolog/chores")

    async def closed(self) -> list[DayClosed]:
        """Return the closings on the log."""
        found = [one.envelope.data for one in await read_topic(self.settings, "days")]
        return [event for event in found if isinstance(event, DayClosed)]

    async def day(self, **parameters: str) -> dict[str, Any]:
        """Return Monday as the admin app shows it."""
        answer = await self.http.get("/trends", params={"from": "2026-10-19", "to": "2026-10-19", **parameters})
        (found,) = answer.raise_for_status().json()["data"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    pool, now = await postgres.open_pool(settings), [at("20 00:04:59")]
    await Viewers(pool).ensure()
    await ObjectStore(settings).ensure_bucket()
    async with appending(settings) as appender:
        clock = lambda: Context(now[-1], new_id, "kinolog/test")  # noqa: E731
        app = make("admin", pool=pool, append=appender.append, past=past_of(settings).at, clock=clock)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        base = "http://admin/api/v1/analytics"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base, headers=headers, timeout=60) as http:
            found = House(settings, pool, appender, http, now)
            await found.fold(*library(), *(one.envelope for one in the_week().events[:5]))
            yield found
    await pool.close()


def library() -> Sequence[Envelope[Event]]:
    """Two videos, uploaded on Monday."""
    sizes = {CLIP: 100, FILM: 200}
    return [
        Envelope(
            id_of(name),
            "kinolog/test",
            name,
            at("19 08:00:00"),
            VideoUploaded(video_id=name, title=name, filename=name, object_key=name, size_bytes=size),
            id_of("all"),
        )
        for name, size in sizes.items()
    ]


def late() -> Envelope[Event]:
    """Bytes of Monday's stream, which another server counted and recorded on Tuesday."""
    event = StreamServed(viewer_id="anna", session_id="a1", server="two", bytes_served=70)
    return Envelope(id_of("late"), "kinolog/test", "anna", at("19 20:02:00"), event, id_of("all"))


async def test_a_day_is_closed_five_minutes_after_its_local_midnight_and_once(house: House) -> None:
    assert await house.midnight(at("20 00:04:59")) == ["2026-10-18"], "Monday is not due yet"
    assert await house.midnight(at("20 00:05:00")) == ["2026-10-18", "2026-10-19"]
    assert await house.midnight(at("20 00:06:00")) == ["2026-10-18", "2026-10-19"]
    assert await house.midnight(at("23 12:00:00")) == [f"2026-10-{day}" for day in range(18, 23)], "the days without a processor"
    monday = (await house.closed())[1]
    assert (monday.zone, monday.why, monday.figures.model_dump()) == (BERLIN, "midnight", MONDAY)
    assert {one.projection: one.position.partition(":")[0] for one in monday.positions} == {"daily": "days", "streams": "streams"}


async def test_a_late_event_restates_a_closed_day_openly(house: House) -> None:
    await house.midnight(at("20 00:05:00"))
    closed = await house.day()
    assert {name: closed[name] for name in MONDAY} == closed["as_closed"] == MONDAY
    assert (closed["restated"], closed["closed_at"]) == (False, "2026-10-19T22:05:00Z")

    await house.fold(late())
    happened = await house.day()
    assert happened["total_bytes_served"] == 5_000_070 and happened["restated"]
    assert happened["as_closed"] == MONDAY and happened["closed_at"] == closed["closed_at"]
    then = ";".join(happened["closed_positions"].values())
    known = await house.day(as_of=then)
    assert {name: known[name] for name in MONDAY} == MONDAY, "as it was known then"
    assert known["closed_at"] is None


async def test_counting_a_day_again_gives_the_same_row(house: House) -> None:
    await house.midnight(at("20 00:05:00"))
    await house.fold(late())
    house.now[:] = [at("21 10:00:00")]
    first = (await house.http.post("/rollup", params={"date": "2026-10-19"})).raise_for_status().json()
    await house.fold()
    again = (await house.http.post("/rollup", params={"date": "2026-10-19"})).raise_for_status().json()
    assert first == again and first["data"] == await house.day()
    assert [event.why for event in await house.closed() if event.day == "2026-10-19"] == ["midnight", "asked"]
    fresh = (await house.http.post("/rollup", params={"date": "2026-10-20"})).raise_for_status().json()["data"]
    assert fresh["as_closed"]["library_size_total"] == 2 and not fresh["restated"]
    for date in ("2026-10-21", "9000-01-01", "tomorrow", "1969-12-31"):
        assert (await house.http.post("/rollup", params={"date": date})).status_code in (400, 422), date
