"""The folds of failures, and the rules of the report: given these facts, then these rows; given these counts, then this advice."""

from datetime import timedelta
from typing import Any

import pytest

from events.envelope import Event, Recorded
from events.failures import FailureRerun, FailureResolved, failure_id
from events.jobs import JobAttemptFailed, JobCompleted, JobFailed, LeaseExpired
from events.kinds import AnalyseResult, VerifyResult
from events.media import Failure
from events.topics import TOPIC_OF
from projections.failures import projection as failures
from projections.failures.projection import Count, FailureShown
from projections.failures.report import compose, recommendations, severity
from tests.support.folding import Tables, folded
from tests.support.footage import START, VIDEO_ID, chunk_result, plan, probe, recorded

KNOWN: dict[str, Any] = {"job_id": "j", "video_id": VIDEO_ID, "pool": "main"}
KILLED = Failure(stage="encoding", category="resource_exhaustion", code="EXIT_137", message="Killed.")
LOST = Failure(stage="encoding", category="timeout", code="LEASE_EXPIRED", message="Not heard of, at the last attempt as well.")
SOON = START + timedelta(minutes=1)


def attempt_failed(epoch: int) -> JobAttemptFailed:
    return JobAttemptFailed(**KNOWN, worker_id="w", epoch=epoch, attempt=epoch, failure=KILLED, retry_at=SOON, kind="encode")


def completed(epoch: int, result: Any = None) -> JobCompleted:
    return JobCompleted(**KNOWN, worker_id="w", epoch=epoch, attempt=epoch, result=result or chunk_result(plan(), 0))


def log(*events: Event) -> list[Recorded[Event]]:
    return [recorded(event, n, topic=TOPIC_OF[event.TYPE].name, at_s=n) for n, event in enumerate(events)]


def tables(*events: Event) -> Tables:
    return folded(failures.PROJECTION, log(*events))


def test_every_failed_attempt_is_a_row_of_its_own() -> None:
    rows = tables(attempt_failed(1), attempt_failed(2), JobFailed(**KNOWN, epoch=3, attempt=3, failure=KILLED))["failures"]

    assert [(row.attempt, row.final, row.code) for row in rows.values()] == [
        (1, False, "EXIT_137"),
        (2, False, "EXIT_137"),
        (3, True, "EXIT_137"),
    ]


def test_a_lost_lease_is_a_failed_attempt_of_its_stage() -> None:
    (row,) = tables(LeaseExpired(**KNOWN, worker_id="w", epoch=1, attempt=1, kind="verify"))["failures"].values()

    assert (row.stage, row.category, row.code, row.final) == ("post_processing", "timeout", "LEASE_EXPIRED", False)


def test_a_last_lost_lease_is_one_failure_not_two() -> None:
    expired = LeaseExpired(**KNOWN, worker_id="w", epoch=3, attempt=3)
    (row,) = tables(expired, JobFailed(**KNOWN, epoch=3, attempt=3, failure=LOST))["failures"].values()

    assert (row.final, row.failure, row.worker_id, row.failed_at) == (True, LOST, "w", START)


def test_a_success_of_the_job_resolves_the_attempts_before_it() -> None:
    rows = tables(attempt_failed(1), attempt_failed(2), completed(3))["failures"]

    assert [row.succeeded_at for row in rows.values()] == [START + timedelta(seconds=2)] * 2
    assert tables(completed(3))["failures"] == {}


def test_analysis_and_verification_are_successes_of_the_video() -> None:
    analysed = completed(1, AnalyseResult(probe=probe()))
    verified = completed(1, VerifyResult(duration_ms=1, rungs=()))

    assert set(tables(analysed, completed(1), verified)["successes"]) == {(VIDEO_ID, "analysis"), (VIDEO_ID, "post_processing")}


def test_a_person_resolves_once_and_reruns_are_kept() -> None:
    which = failure_id("j", 1)
    said = [FailureResolved(failure_id=which, reason=reason) for reason in ("more memory", "said again")]
    rerun = FailureRerun(failure_id=which, verdict="reproduced", worker="gpu-2", seconds=1.5, failure=KILLED)
    rows = tables(attempt_failed(1), *said, rerun)

    assert [row.reason for row in rows["resolutions"].values()] == ["more memory"]
    assert [(row.failure_id, row.verdict) for row in rows["reruns"].values()] == [(which, "reproduced")]


# --- the report -----------------------------------------------------------------------------------------------------


def shown(**changes: Any) -> FailureShown:
    (row,) = tables(attempt_failed(1))["failures"].values()
    known = {name: getattr(row, name) for name in FailureShown.model_fields if hasattr(row, name)}
    return FailureShown(
        **(known | {"retry_count": 0, "resolved_at": None, "resolved_by": None, "reason": None, "event_id": "e"} | changes)
    )


def titles(*counts: tuple[str, str, int, int]) -> list[tuple[str, str]]:
    counted = [Count(stage=stage, category=category, total=total, resolved=done) for stage, category, total, done in counts]
    made = compose(counted, [], [], 7)
    assert made.recommendations == recommendations(made.by_stage, made.by_category)
    return [(item.priority, item.title) for item in made.recommendations]


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([("encoding", "codec_issues", 10, 0)], []),
        ([("encoding", "codec_issues", 11, 0)], [("high", "Encoding keeps failing")]),
        ([("encoding", "codec_issues", 20, 6)], []),
        ([("encoding", "codec_issues", 20, 5)], [("high", "Encoding keeps failing")]),
        ([("encoding", "resource_exhaustion", 3, 0)], []),
        ([("encoding", "resource_exhaustion", 4, 4)], [("high", "Resource exhaustion")]),
        ([("encoding", "resource_exhaustion", 2, 0), ("analysis", "resource_exhaustion", 2, 0)], [("high", "Resource exhaustion")]),
        ([("encoding", "system_environment", 5, 0)], []),
        ([("encoding", "system_environment", 6, 0)], [("medium", "System environment")]),
        ([("encoding", "file_operations", 6, 6)], [("medium", "File operations")]),
        ([("encoding", "file_operations", 12, 0)], [("high", "Encoding keeps failing"), ("medium", "File operations")]),
        ([("encoding", "validation", 9, 0)], []),
    ],
)
def test_advice_follows_the_seeds_thresholds(counts: list[tuple[str, str, int, int]], wanted: list[tuple[str, str]]) -> None:
    assert titles(*counts) == wanted


def test_the_rate_has_one_decimal_and_none_without_failures() -> None:
    made = compose([Count(stage="encoding", category="unknown", total=23, resolved=8)], [], [], 7)
    empty = compose([], [], [], 7)

    assert (made.summary.resolution_rate_percent, made.resolution_rate, made.summary.unresolved_failures) == (34.8, 34.8, 15)
    assert (empty.summary.resolution_rate_percent, empty.resolution_rate) == (0.0, None)


@pytest.mark.parametrize(
    ("category", "code", "wanted"),
    [
        ("resource_exhaustion", "RESOURCE_DISK", "high"),
        ("system_environment", "EXIT_13", "high"),
        ("timeout", "TIMEOUT", "medium"),
        ("file_operations", "FILE_OP_STORE", "low"),
        ("process_failure", "EXIT_137", "high"),
        ("process_failure", "EXIT_1", None),
        ("validation", "FILE_CORRUPT", None),
    ],
)
def test_what_machines_cause_is_critical(category: str, code: str, wanted: str | None) -> None:
    assert severity(shown(category=category, code=code)) == wanted
