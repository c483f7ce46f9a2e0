"""A week of viewing against sums made by hand; and the lies of a client, which cannot make its time longer."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.streams import StreamFailed, StreamServed, StreamTicked
from projections.streams.projection import streams
from projections.streams.rules import Rules, by_day, midnight
from tests.support.folding import Tables, folded, history
from tests.support.week import CLIP, FILM, Log, at, the_week

IN_BERLIN = Rules(zone="Europe/Berlin")
MINUTE = 60_000


def tables(log: Log, rules: Rules = IN_BERLIN) -> Tables:
    return folded(streams(rules), history(log.events))


def day_row(found: Tables, day: str) -> Any:
    return found["days"].get((date.fromisoformat(f"2026-10-{day}"), 0))


def test_a_week_of_viewing_adds_up_as_by_hand() -> None:
    found = tables(the_week())
    sums = {
        day: (row.plays, row.viewers, row.completed, row.watched_ms, row.bytes_served) if (row := day_row(found, day)) else None
        for day in ("19", "20", "21", "22", "23", "24", "25")
    }
    assert sums == {
        "19": (1, 1, 1, 60_000, 5_000_000),
        "20": (0, 0, 0, 1000, 0),  # a second is time, and no play
        "21": (1, 1, 0, 4 * MINUTE, 0),
        "22": (0, 0, 0, 6 * MINUTE + 61_000, 0),  # the rest of the film goes on with Wednesday's play; double speed is watched time
        "23": (1, 1, 0, 30_000, 0),  # the ghost's 30 s; the late event counts for nothing
        "24": (1, 1, 1, 60_000 + 30_000, 0),  # completed on Sunday, at 6,600 of 7,200 s
        "25": (0, 0, 0, 60 * MINUTE, 0),  # Saturday's play goes on
    }
    assert found["sessions"][("c1",)].end == "expired"
    assert found["sessions"][("c1",)].ended_at == at("23 10:00:30")
    film = found["video_totals"][(FILM, 0)]
    assert (film.plays, film.viewers) == (3, 3)
    assert film.watched_ms == sum(row.watched_ms for (video, *_), row in found["video_days"].items() if video == FILM)


def test_another_zone_and_another_rule_restate_the_same_week() -> None:
    in_utc = tables(the_week(), Rules())
    assert [day_row(in_utc, day).watched_ms for day in ("21", "22")] == [10 * MINUTE, 61_000], "23:56 in Berlin is 21:56 in UTC"
    strict = tables(the_week(), IN_BERLIN._replace(watched_min_ms=1000, back_max_ms=0))
    assert [day_row(strict, day).plays for day in ("20", "21", "22")] == [1, 1, 1], (
        "a second is a play; ten seconds back is a new one"
    )


def test_a_session_is_no_longer_than_the_wall_says_whatever_its_client_says() -> None:
    log = Log()
    log.watched(
        "eve", "e", FILM, at("19 12:00:00"), *[(10, "playing", 7_000_000), (10, "playing", 0)] * 30, (10, "playing", 7_199_000)
    )
    session = tables(log)["sessions"][("e",)]
    assert 0 < session.watched_ms <= 610_000


@given(
    st.lists(
        st.tuples(st.floats(0.001, 200), st.sampled_from(["playing", "paused", "seeking", "stalled"]), st.integers(0, 7_200_000)),
        max_size=20,
    )
)
def test_time_watched_is_at_most_the_time_that_passed_and_its_days_add_up(legs: list[tuple[float, str, int]]) -> None:
    log = Log()
    log.watched("eve", "e", FILM, at("24 23:50:00"), *legs)
    found = tables(log)
    session = found["sessions"][("e",)]
    assert 0 <= session.watched_ms <= (session.seen_at - session.started_at) / timedelta(milliseconds=1)
    assert sum(session.watched.values()) == session.watched_ms
    assert sum(row.watched_ms for row in found["days"].values()) == session.watched_ms


def test_a_failed_session_counts_as_failed_and_never_revives() -> None:
    log = Log()
    log.watched("anna", "a", CLIP, at("19 12:00:00"), (6, "playing", 6000))
    log.add(at("19 12:00:07"), StreamFailed(viewer_id="anna", session_id="a", fault="no decoder"))
    log.add(at("19 12:00:30"), StreamTicked(viewer_id="anna", session_id="a", position_ms=30_000))
    found = tables(log)
    assert found["sessions"][("a",)].end == "failed"
    assert (day_row(found, "19").failed, day_row(found, "19").watched_ms) == (1, 6000)


def test_two_hundred_sessions_of_one_video_keep_a_bounded_row_and_every_sum() -> None:
    log = Log()
    for number in range(200):
        log.watched(
            "kiosk",
            f"k{number}",
            CLIP,
            at("19 00:00:00") + timedelta(minutes=2 * number),
            (30, "playing", 30_000),
            (30, "playing", 60_000),
        )
        log.add(
            log.events[-1].envelope.time, StreamServed(viewer_id="kiosk", session_id=f"k{number}", server="one", bytes_served=10)
        )
    found = tables(log)
    assert len(found["watching"][("kiosk", CLIP)].stints) == 20
    total = found["video_totals"][(CLIP, 0)]
    assert (total.plays, total.completed, total.watched_ms, total.bytes_served, total.viewers) == (
        200,
        200,
        12_000_000,
        2000,
        1,
    )


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Santiago", "Pacific/Apia", "Asia/Kathmandu"])
@given(
    st.integers(0, 10**9),
    st.integers(946_684_800, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.timedeltas(timedelta(0), timedelta(days=9)),
)
def test_days_of_any_zone_add_up(zone: str, amount: int, start: datetime, length: timedelta) -> None:
    parts = list(by_day(amount, start, start + length, zone))
    assert sum(part for _, part in parts) == amount and all(part >= 0 for _, part in parts)
    found = [day for day, _ in parts]
    assert found == sorted(set(found))
    assert all(midnight(day, zone) <= start + length for day in found)
