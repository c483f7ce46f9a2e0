"""ffmpeg's `-progress` lines become numbers, and nothing that it may print confuses them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.progress import Meter, report

BLOCK = """frame=34
fps=33.20
stream_0_0_q=24.0
stream_1_0_q=22.0
bitrate=N/A
total_size=N/A
out_time_us=1280000
out_time_ms=1280000
out_time=00:00:01.280000
dup_frames=0
drop_frames=0
speed=1.25x
progress=continue
"""
"""Printed by ffmpeg 9.0.2 for a chunk of several rungs."""
BEGINNING = "frame=0\nfps=0.00\nout_time_us=N/A\nout_time=N/A\nspeed=N/A\nprogress=continue\n"
OLDER = "frame=   12\nout_time_us=-21333\nspeed=   2x\n"


def read(text: str, meter: Meter | None = None) -> Meter:
    """Read lines into a meter."""
    meter = meter or Meter()
    for line in text.splitlines():
        meter.read(line)
    return meter


def test_a_block_is_read() -> None:
    assert read(BLOCK) == Meter(frames=34, seconds=1.28, speed=1.25)


def test_what_is_not_known_yet_stays_as_it_was() -> None:
    assert read(BEGINNING) == Meter()
    assert read(BEGINNING, read(BLOCK)) == Meter(frames=34, seconds=1.28, speed=1.25)


def test_spaces_and_times_before_zero_are_understood() -> None:
    assert read(OLDER) == Meter(frames=12, seconds=0.0, speed=2.0)


def test_only_a_step_forward_counts_as_one() -> None:
    meter = Meter()
    assert [meter.read(line) for line in ("frame=1", "frame=1", "frame=2", "out_time_us=5", "out_time_us=5", "speed=1x")] == [
        *(True, False, True),
        *(True, False, False),
    ]


@given(st.text(max_size=80))
def test_no_line_breaks_it(line: str) -> None:
    meter = Meter(frames=5, seconds=1.0)
    meter.read(line)
    assert meter.frames >= 5 and meter.seconds >= 1.0


@pytest.mark.parametrize(("share", "percent"), [(0.0, 0.0), (0.5, 50.0), (1.7, 100.0), (-1.0, 0.0)])
def test_percent_stays_between_0_and_100(share: float, percent: float) -> None:
    update = report("encode", share, Meter(frames=10, speed=2.0), {"720p": 3, "360p": 9}, 8)

    assert update.percent == percent
    assert (update.step, update.frames, update.speed) == ("encode", 10, 2.0)
    assert [(rung.name, rung.segments_completed, rung.segments_total) for rung in update.rungs] == [("720p", 3, 8), ("360p", 8, 8)]
