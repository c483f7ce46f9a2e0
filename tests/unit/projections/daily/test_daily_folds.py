"""The library by day, failed transcodes, and days as they were closed."""

from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.days import Covered, DayClosed, DayFigures
from events.envelope import Envelope, Event, Recorded
from events.jobs import JobFailed
from events.media import Failure
from events.videos import VideoArchived, VideoPurged, VideoUploaded
from projections.daily.figures import AT_ONCE_MAX, unclosed
from projections.daily.projection import daily
from tests.support.folding import Tables, folded, history
from tests.support.footage import id_of
from tests.support.week import at

BERLIN = daily("Europe/Berlin")
FAILURE = Failure(stage="encoding", category="timeout", code="TIMEOUT", message="It took too long.")
NOTHING = dict.fromkeys(DayFigures.model_fields, 0)


def happened(topic: str, time: datetime, subject: str, event: Any) -> Recorded[Event]:
    known = Envelope(id_of(f"{time} {event}"), "kinolog/test", subject, time, event, id_of("all"))
    return Recorded(topic, 0, 0, known)


def uploaded(name: str, time: datetime, size_bytes: int) -> Recorded[Event]:
    event = VideoUploaded(video_id=name, title=name, filename=name, object_key=name, size_bytes=size_bytes)
    return happened("videos", time, name, event)


def purged(name: str, time: datetime) -> Recorded[Event]:
    return happened("videos", time, name, VideoPurged(video_id=name))


def failed(job: str, epoch: int, time: datetime, kind: Any = "encode") -> Recorded[Event]:
    event = JobFailed(job_id=job, video_id="v", pool="p", epoch=epoch, attempt=3, failure=FAILURE, kind=kind)
    return happened("jobs", time, "p", event)


def closed(time: datetime, plays: int, zone: str = "Europe/Berlin") -> Recorded[Event]:
    figures = DayFigures(**NOTHING | {"total_plays": plays})
    event = DayClosed(
        day="2026-10-19", zone=zone, figures=figures, positions=(Covered(projection="streams", position=f"streams:0={plays}"),)
    )
    return happened("days", time, "2026-10-19", event)


def rows(found: Tables, table: str, *columns: str) -> dict[int, tuple[int, ...]]:
    return {row.day.day: tuple(getattr(row, column) for column in columns) for row in found[table].values()}


def test_videos_come_and_go_on_local_days() -> None:
    log = [
        uploaded("a", at("19 23:59:59"), 10),
        uploaded("b", at("20 00:00:00"), 20),
        uploaded("b", at("21 00:00:00"), 20),  # a repetition
        happened("videos", at("21 10:00:00"), "a", VideoArchived(video_id="a")),  # it still takes room
        purged("a", at("22 00:30:00")),
        purged("a", at("23 00:30:00")),
        purged("nobody", at("23 00:30:00")),
        uploaded("c", at("23 01:00:00"), 5),
        purged("c", at("23 02:00:00")),
    ]
    found = folded(BERLIN, history(log))
    assert rows(found, "library_days", "added", "removed", "bytes_added", "bytes_removed") == {
        19: (1, 0, 10, 0),
        20: (1, 0, 20, 0),
        22: (0, 1, 0, 10),
        23: (1, 1, 5, 5),
    }


def test_a_transcode_that_fails_again_after_a_retry_counts_again_and_other_kinds_do_not() -> None:
    log = [failed("j", 3, at("19 10:00:00")), failed("j", 3, at("19 10:00:00")), failed("j", 6, at("20 10:00:00"))]
    log += [failed("old", 1, at("20 11:00:00"), None), failed("k", 3, at("20 10:00:00"), "analyse")]
    assert rows(folded(BERLIN, history(log)), "failed_days", "failures") == {19: (1,), 20: (2,)}


def test_the_first_closing_stays_and_the_last_is_beside_it() -> None:
    log = [closed(at("20 00:05:10"), 3), closed(at("20 00:06:10"), 3), closed(at("21 09:00:00"), 4), closed(at("20 00:05:10"), 3)]
    (row,) = folded(BERLIN, history(log))["closings"].values()
    assert (row.closed_at, row.figures.total_plays, row.positions) == (at("20 00:05:10"), 3, {"streams": "streams:0=3"})
    assert (row.last_closed_at, row.last_figures.total_plays) == (at("21 09:00:00"), 4)


def test_a_day_of_another_zone_is_another_day() -> None:
    log = [closed(at("20 00:05:10"), 3, "UTC"), closed(at("22 09:00:00"), 4), closed(at("20 00:05:10"), 3, "UTC")]
    (row,) = folded(BERLIN, history(log))["closings"].values()
    assert (row.zone, row.figures.total_plays) == ("Europe/Berlin", 4)


def test_a_day_that_no_calendar_has_is_left_out() -> None:
    event = DayClosed(day="2026-02-30", zone="UTC", figures=DayFigures(**NOTHING), positions=())
    assert folded(BERLIN, history([happened("days", at("19 10:00:00"), "2026-02-30", event)]))["closings"] == {}


def test_days_are_closed_in_order_and_in_bounded_numbers() -> None:
    over = date(2026, 10, 25)
    assert unclosed(over, None) == [over]
    assert unclosed(over, over) == []
    assert unclosed(over, date(2026, 10, 22)) == [date(2026, 10, 23), date(2026, 10, 24), over]
    assert unclosed(over, date(2020, 1, 1))[-1] == date(2020, 1, 1) + timedelta(days=AT_ONCE_MAX)


TIMES = st.integers(0, 10**6).map(lambda second: at("19 00:00:00") + timedelta(seconds=second))
EVENTS = st.one_of(
    st.builds(uploaded, st.sampled_from("abc"), TIMES, st.just(7)),
    st.builds(purged, st.sampled_from("abc"), TIMES),
    st.builds(failed, st.sampled_from("jk"), st.integers(1, 3), TIMES),
    st.builds(closed, TIMES, st.integers(0, 2)),
)


@given(st.lists(EVENTS, max_size=20), st.data())
def test_repetitions_change_nothing_and_the_library_adds_up(log: list[Recorded[Event]], data: st.DataObject) -> None:
    once = folded(BERLIN, history(log))
    repeated = [one for event in log for one in [event] * data.draw(st.integers(1, 2))]
    assert folded(BERLIN, history(repeated)) == once
    here = [item for item in once["items"].values() if item.gone_on is None]
    assert sum(day.added - day.removed for day in once["library_days"].values()) == len(here)
    assert sum(day.bytes_added - day.bytes_removed for day in once["library_days"].values()) == 7 * len(here)
