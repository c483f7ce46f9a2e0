"""Folds of telemetry: what counts where, and that nothing depends on how the log is cut."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Event, Recorded
from projections.telemetry.projection import LENGTHS_MAX, PROJECTION, REDUCTION_MIN, reduction
from tests.support.folding import Tables, folded, history, in_batches
from tests.support.footage import START
from tests.support.histories import reordered, repeated
from tests.support.shelf import FINISHED, Shelf, reported

reports = st.fixed_dictionaries(
    {"event_type": st.sampled_from(("job_started", "job_finished", "job_paused"))},
    optional={
        "status": st.sampled_from((None, "success", "failure", "maybe")),
        "failure_reason": st.sampled_from((None, "", "cancelled")),
        "hardware_model": st.sampled_from((None, "", "Intel", "AMD")),
        "encoder": st.sampled_from((None, "", "av1_qsv")),
        "speed_factor": st.none() | st.floats(-1, 1e9),
        "input_size_bytes": st.none() | st.integers(0, 2**63 - 1),
        "output_size_bytes": st.none() | st.integers(0, 2**63 - 1),
    },
)


@st.composite
def logs(draw: st.DrawFn) -> list[Recorded[Event]]:
    """Return reports over a few days."""
    said = draw(st.lists(st.tuples(reports, st.integers(0, 3)), max_size=25))
    return history(reported(n, START + timedelta(days=day), **report) for n, (report, day) in enumerate(said))


@given(st.data())
def test_any_split_of_the_same_events_with_repetitions_gives_the_same_insights(data: st.DataObject) -> None:
    log = data.draw(logs())
    again = data.draw(reordered(data.draw(repeated(log))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(again)), max_size=6)))
    tables = in_batches(PROJECTION, again, [0, *cuts, len(again)])
    assert tables == folded(PROJECTION, log)
    assert Shelf(tables).insights() == Shelf.of(*log).insights()


def fold(*log: Recorded[Event]) -> Tables:
    return folded(PROJECTION, history(log))


def test_the_leaderboard_counts_ended_jobs_of_which_all_four_are_known() -> None:
    missing: list[dict[str, Any]] = [{name: None} for name in ("hardware_model", "encoder", "video_codec", "resolution")]
    tables = fold(
        reported(1, speed_factor=2.0, input_size_bytes=10, output_size_bytes=4),
        reported(2, status="failure", failure_reason="cancelled"),
        reported(3, status=None, speed_factor=4.0, input_size_bytes=0, output_size_bytes=4),
        reported(4, event_type="job_started", speed_factor=9.0),
        *(reported(5 + n, **change) for n, change in enumerate(missing)),
    )
    (line,) = tables["leaderboard"].values()
    assert (line.samples, line.speed_count, line.speed_sum) == (3, 2, 6_000_000)
    assert (line.reduction_count, line.reduction_sum) == (1, 600_000)


def test_stability_counts_failures_of_any_event() -> None:
    tables = fold(
        reported(1, event_type="job_started", status="failure", failure_reason="x"),
        reported(2, status="failure", failure_reason="x"),
        reported(3, status="failure", failure_reason=""),
        reported(4, status="failure"),
        reported(5, status="failure", failure_reason="x", encoder=None),
        reported(6, status="success", failure_reason="x"),
    )
    assert {key: row.count for key, row in tables["stability"].items()} == {("av1_qsv", "x"): 2, ("av1_qsv", ""): 1}


def test_words_count_every_event_and_know_the_empty_name_from_none() -> None:
    tables = fold(
        reported(1), reported(2, hardware_model=""), reported(3, hardware_model=None), reported(4, event_type="job_started")
    )
    counts = {key: row.events for key, row in tables["words"].items()}
    assert {key[1:]: count for key, count in counts.items() if key[0] == "hardware"} == {
        (True, "Intel"): 2,
        (True, ""): 1,
        (False, ""): 1,
    }
    assert counts["encoder", True, "av1_qsv"] == counts["app_version", True, "1.0.0"] == counts["reason", False, ""] == 4


def test_outcomes_distinguish_started_ended_and_other_events() -> None:
    tables = fold(
        reported(1, event_type="job_started"),
        reported(2, speed_factor=2.0),
        reported(3, status="failure", failure_reason="cancelled"),
        reported(4, status="maybe"),
        reported(5, event_type="job_paused", status="failure", speed_factor=9.0),
        reported(6, START + timedelta(days=1), hardware_model=None),
    )
    known = tuple(FINISHED[name] for name in ("app_version", "hardware_model", "encoder", "video_codec", "resolution"))
    row = tables["outcomes"][START.date(), *known]
    assert (row.events, row.started, row.finished, row.succeeded, row.failed) == (5, 1, 3, 1, 1)
    assert (row.speed_count, row.speed_squares, sum(row.speed_bins.values())) == (1, Decimal(2_000_000**2), 1)
    assert (START.date() + timedelta(days=1), "1.0.0", "", "av1_qsv", "av1", "1080p") in tables["outcomes"]
    assert {(key[0], key[-1], row.count) for key, row in tables["failures"].items()} == {(START.date(), "cancelled", 1)}
    assert isinstance(row.day, date)


def test_a_reduction_is_rounded_and_held() -> None:
    assert [reduction(*sizes) for sizes in ((3, 2), (3, 1), (10, 20), (10, 0))] == [333_333, 666_667, -1_000_000, 1_000_000]
    assert reduction(1, 2**63 - 1) == REDUCTION_MIN * 1_000_000


def test_texts_are_cut_to_what_an_index_can_keep() -> None:
    tables = fold(reported(1, hardware_model="x" * 5000, failure_reason="😀" * 5000, status="failure", app_version="v" * 5000))
    (key,) = tables["failures"]
    assert (len(key[1]), len(key[2]), len(key[-1])) == tuple(LENGTHS_MAX[name] for name in ("app_version", "hardware", "reason"))
    assert sum(len(str(part).encode()) for part in key) < 2700
