"""A process's time is that of the log: however late it reads, it decides as it would have in time."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, Recorded
from events.topics import VIDEOS
from events.videos import UploadAbandoned, VideoEvent
from tests.support import expiring
from tests.support.deciding import VIDEO, Live
from tests.support.expiring import LIFE, edited, started

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def recorded(log: list[Envelope[VideoEvent]]) -> list[Recorded[VideoEvent]]:
    """Return the events as they lie on the log."""
    return [Recorded(VIDEOS.name, 0, offset, envelope) for offset, envelope in enumerate(log)]


def followed(log: list[Envelope[VideoEvent]], *, late: timedelta) -> list[object]:
    """Return what follows when each event is read alone, so late."""
    process = Live(expiring.PROCESS)
    return [e.data for record in recorded(log) for e in process.handle([record], record.envelope.time + late)]


def test_a_deadline_that_was_put_off_in_time_does_not_pass_because_the_process_was_away() -> None:
    log = [started(VIDEO, NOON), edited(VIDEO, NOON + LIFE / 2, 1)]
    process = Live(expiring.PROCESS)
    first, second = recorded(log)
    assert process.handle([first], NOON + 5 * LIFE) == []
    assert process.handle([second], NOON + 5 * LIFE) == []
    assert process.tick(NOON + LIFE * 1.4) == []


def test_a_deadline_passes_at_a_tick_once() -> None:
    process = Live(expiring.PROCESS)
    process.handle(recorded([started(VIDEO, NOON)]), NOON)
    assert process.tick(NOON + LIFE / 2) == []
    (expired,) = process.tick(NOON + LIFE)
    assert isinstance(expired.data, UploadAbandoned) and expired.time == NOON + LIFE
    assert process.tick(NOON + LIFE) == []


@given(st.lists(st.integers(0, 3 * 3600), max_size=8).map(sorted), st.integers(0, 100 * 3600))
def test_what_follows_does_not_depend_on_how_late_the_log_is_read(edits: list[int], late_s: int) -> None:
    log = [started(VIDEO, NOON)]
    log += [edited(VIDEO, NOON + timedelta(seconds=second), number) for number, second in enumerate(edits, 1)]
    assert followed(log, late=timedelta(seconds=late_s)) == followed(log, late=timedelta())
