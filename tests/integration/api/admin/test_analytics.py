"""The predecessor's routes about viewing, against a week whose sums were made by hand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest

from infra.runtime import postgres
from infra.runtime.settings import Settings
from infra.runtime.viewers import Viewers
from projections import catalog
from projections.daily import projection as daily
from projections.hosts import projection as hosts
from projections.streams import projection as streams
from tests.support.apps import TOKEN, make
from tests.support.feeding import write
from tests.support.folding import history
from tests.support.week import CLIP, FILM, the_week

DAYS = {"from": "2026-10-19", "to": "2026-10-25"}


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The admin app over the week."""
    pool = await postgres.open_pool(settings)
    try:
        await Viewers(pool).ensure()
        async with pool.connection() as connection:
            await write(connection, catalog.PROJECTION, [])
            await write(connection, daily.PROJECTION, [])
            await write(connection, hosts.PROJECTION, [])
            await write(connection, streams.PROJECTION, history(the_week().events))
        transport = httpx.ASGITransport(app=make("admin", pool=pool))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://admin/api/v1/analytics", headers=headers) as http:
            yield http
    finally:
        await pool.close()


async def test_the_days_of_the_week_in_utc(admin: httpx.AsyncClient) -> None:
    answer = (await admin.get("/trends", params=DAYS)).json()
    assert answer["success"]
    found = {day["stat_date"][-2:]: day for day in answer["data"]}
    sums = {
        day: (one["total_plays"], one["unique_users"], one["completed_plays"], one["total_watch_minutes"])
        for day, one in found.items()
    }
    assert sums == {
        "19": (1, 1, 1, 1),
        "20": (0, 0, 0, 0),  # a second is no play, and no whole minute
        "21": (1, 1, 0, 10),
        "22": (0, 0, 0, 1),
        "23": (1, 1, 0, 0),
        "24": (1, 1, 1, 1),
        "25": (0, 0, 0, 60),
    }
    assert found["19"]["total_bytes_served"] == 5_000_000


async def test_the_overview_adds_up_the_same_days(admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.admin.analytics.moment", partial(moment_of, datetime(2026, 10, 25, 20, tzinfo=UTC)))
    found = (await admin.get("/overview")).raise_for_status().json()["data"]
    week = (await admin.get("/trends", params={"from": "2026-10-18", "to": "2026-10-25"})).json()["data"]
    assert found["total_plays_week"] == sum(day["total_plays"] for day in week) == 4
    today = week[-1]
    for name, of_the_day in (
        ("total_plays_today", "total_plays"),
        ("unique_users_today", "unique_users"),
        ("bandwidth_today_bytes", "total_bytes_served"),
        ("direct_plays_today", "direct_plays"),
        ("failures_today", "transcode_failures"),
    ):
        assert found[name] == today[of_the_day]
    assert (found["active_streams"], found["library_size"], found["cpu_percent"]) == (0, 0, None)


async def moment_of(now: datetime, *_: object) -> datetime:
    """Return the evening of the last day."""
    return now


async def test_sessions_viewers_and_kinds_say_the_same(admin: httpx.AsyncClient) -> None:
    feed = (await admin.get("/watch-activity", params=DAYS)).json()["data"]
    assert [(one["viewer_id"], one["media_item_id"], one["completed"]) for one in feed] == [
        ("anna", FILM, True),
        ("anna", FILM, False),
        ("carl", FILM, False),
        ("bert", FILM, False),
        ("bert", FILM, False),
        ("bert", CLIP, False),
        ("anna", CLIP, True),
    ]
    shown = (await admin.get("/streams")).json()["data"]
    assert (shown["active"], len(shown["recent"])) == ([], 7)
    viewers = (await admin.get("/users/activity")).json()["data"]
    assert [(one["viewer_id"], one["total_plays"], one["total_watch_minutes"]) for one in viewers] == [
        ("anna", 2, 62),
        ("bert", 1, 11),
        ("carl", 1, 0),
    ]
    kinds = (await admin.get("/streams/breakdown", params={"days": 3660})).json()["data"]
    assert kinds == {"direct_plays": 4, "direct_streams": 0, "transcodes": 0, "total": 4}
    past = (await admin.get("/watch-activity", params={"user_id": "nobody"})).json()
    assert past == {"success": True, "data": []}


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/trends", {"from": "2026-10-25", "to": "2026-10-19"}),
        ("/trends", {"from": "yesterday"}),
        ("/trends", {"from": "0001-01-01"}),
        ("/trends", {"from": "9999-12-31", "to": "9999-12-31"}),
        ("/watch-activity", {"limit": "501"}),
        ("/streams/breakdown", {"days": "0"}),
    ],
)
async def test_bad_parameters_are_refused_with_a_sentence(admin: httpx.AsyncClient, path: str, params: dict[str, str]) -> None:
    answer = await admin.get(path, params=params)
    assert answer.status_code == 400 and answer.json()["success"] is False and answer.json()["error"]


async def test_a_silent_session_has_ended_at_its_last_sign_of_life(admin: httpx.AsyncClient) -> None:
    recent = {one["id"]: one for one in (await admin.get("/streams")).json()["data"]["recent"]}
    ends = {session: (one["is_active"], one["end"], one["ended_at"]) for session, one in recent.items()}
    assert ends["a1"] == (False, "client", "2026-10-19T18:01:00Z")
    assert ends["c1"] == (False, "expired", "2026-10-23T08:00:30Z"), "a late event said so"
    assert ends["b2"] == (False, "expired", "2026-10-21T22:06:00Z"), "no event said so"
