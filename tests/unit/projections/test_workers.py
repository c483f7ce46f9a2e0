"""Who works here: given what workers said, then who is there at a moment."""

from datetime import timedelta

import pytest

from events.envelope import Event
from events.jobs import DispatchPaused, DispatchResumed
from events.kinds import Capabilities
from events.topics import TOPIC_OF
from events.workers import (
    WorkerDrained,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerQuarantined,
)
from projections import jobs, workers
from projections.workers import Worker, presence
from tests.support.facts import BUSY, REGISTERED
from tests.support.folding import folded
from tests.support.footage import START, recorded

IDLE = WorkerHeartbeat(worker_id="w", status="idle")
DRAINED = WorkerDrained(worker_id="w", reason="stopped")
OFFLINE = WorkerOffline(worker_id="w")
QUARANTINED = WorkerQuarantined(worker_id="w", pool="main", failures=5, seconds=30)


def worker(*events: tuple[Event, float]) -> Worker:
    log = [recorded(event, n, topic=TOPIC_OF[event.TYPE].name, at_s=at_s) for n, (event, at_s) in enumerate(events)]
    row: Worker = folded(workers.PROJECTION, log)["workers"][("w",)]
    return row


@pytest.mark.parametrize(
    ("events", "at_s", "expected"),
    [
        ([(REGISTERED, 0)], 10, "idle"),
        ([(REGISTERED, 0)], 61, "offline"),
        ([(REGISTERED, 0), (BUSY, 50)], 100, "busy"),
        ([(REGISTERED, 0), (BUSY, 50), (IDLE, 60)], 100, "idle"),
        ([(REGISTERED, 0), (IDLE, 60), (BUSY, 50)], 100, "idle"),  # an old sign of life comes late
        ([(BUSY, 50)], 100, "busy"),  # before its registration is known
        ([(REGISTERED, 0), (QUARANTINED, 10)], 39, "quarantined"),
        ([(REGISTERED, 0), (QUARANTINED, 10)], 41, "idle"),
        ([(REGISTERED, 0), (DRAINED, 10)], 11, "gone"),
        ([(REGISTERED, 0), (DRAINED, 10), (REGISTERED, 20)], 21, "idle"),
        ([(REGISTERED, 0), (OFFLINE, 10)], 11, "offline"),
        ([(REGISTERED, 0), (OFFLINE, 10), (BUSY, 20)], 21, "busy"),  # it was only slow
    ],
)
def test_presence_at_a_moment(events: list[tuple[Event, float]], at_s: float, expected: str) -> None:
    assert presence(worker(*events), START + timedelta(seconds=at_s)) == expected


@pytest.mark.parametrize(
    ("last", "paused", "drained", "expected"),
    [(IDLE, True, False, "paused"), (BUSY, True, False, "busy"), (BUSY, True, True, "draining"), (DRAINED, True, True, "gone")],
)
def test_presence_of_one_whom_the_dispatcher_keeps_from_jobs(last: Event, paused: bool, drained: bool, expected: str) -> None:
    row = worker((REGISTERED, 0), (last, 10))
    assert presence(row, START + timedelta(seconds=11), paused=paused, drained=drained) == expected


def test_a_pause_lasts_until_it_is_ended_and_a_repetition_does_not_revive_it() -> None:
    pool = DispatchPaused(pool="main", drain=False, reason="night")
    one = DispatchPaused(pool="main", worker_id="w", drain=True, reason="new memory")
    resumed = DispatchResumed(pool="main", reason="morning")
    log = [recorded(event, n, topic="jobs", at_s=n) for n, event in enumerate((pool, one, resumed))]
    again = log[0]._replace(offset=3)
    found = folded(jobs.PROJECTION, [*log, again])["pauses"]
    assert {key: (pause.drain, pause.reason) for key, pause in found.items() if pause.paused_at} == {
        ("main", "w"): (True, "new memory")
    }


def test_a_worker_says_what_it_can_do_and_does() -> None:
    row = worker((REGISTERED, 0), (BUSY, 5))
    assert (row.name, row.cpu_count, row.job_ids) == ("one", 2, ("j",))
    assert row.capabilities == Capabilities(kinds=("encode",))


def test_a_quarantine_without_end_is_the_longest_there_is() -> None:
    row = worker((REGISTERED, 0), (QUARANTINED.model_copy(update={"seconds": 1e300}), 0))
    assert presence(row, START + timedelta(seconds=1)) == "quarantined"
