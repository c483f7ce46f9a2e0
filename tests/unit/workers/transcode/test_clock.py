"""A clock that jumps is joined, and every moment of the source has one time on the joined clock."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from events.media import ClockPiece
from workers.transcode.clock import Clock, in_order, in_source, joined_time
from workers.transcode.packets import PacketScan

FRAME_US = 40_000
VIDEO, SOUND = 0, 1


def read(clock: Clock, stream: int, begin: int, count: int) -> list[int | None]:
    """Send so many packets of a stream, 40 ms apart; return their stretches."""
    pieces = []
    for at in range(begin, begin + count * FRAME_US, FRAME_US):
        pieces.append(clock.piece_of(stream, at))
        if pieces[-1] is not None:
            clock.extend(stream, at, FRAME_US)
    return pieces


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(50, 200)), min_size=1, max_size=8))
def test_stretches_follow_one_another_without_gap(parts: list[tuple[int, int]]) -> None:
    clock = Clock()
    for begin_s, count in parts:
        read(clock, VIDEO, begin_s * 1_000_000, count)

    pieces = clock.joined(frozenset((VIDEO,)))

    for before, after in pairwise(pieces):
        assert abs((before.to_ms + before.shift_ms) - (after.from_ms + after.shift_ms)) <= 1
    if pieces:
        assert pieces[0].shift_ms == 0


def test_one_packet_that_is_off_is_no_jump() -> None:
    clock = Clock()
    read(clock, VIDEO, 0, 50)

    assert read(clock, VIDEO, 10_000_000_000, 1) == [None]
    assert read(clock, VIDEO, 50 * FRAME_US, 50)[-1] == 0
    assert clock.joined(frozenset((VIDEO,))) == ()


def test_a_stream_that_pauses_while_another_goes_on_does_not_jump() -> None:
    clock = Clock()
    read(clock, VIDEO, 0, 2000)
    read(clock, SOUND, 0, 50)

    assert read(clock, SOUND, 60_000_000, 50)[-1] == 0


def test_two_streams_notice_the_same_jump() -> None:
    scan = PacketScan({VIDEO: Fraction(1, 1000), SOUND: Fraction(1, 1000)}, frozenset((VIDEO,)), jumping=True)
    for begin in (0, 500_000):
        for stream, late in ((SOUND, 0), (VIDEO, 20)):
            for at in range(begin + late, begin + late + 4000, 40):
                scan.add(f"{stream},{at},{at},40,K__")
    scan.finish()

    pieces = scan.clock(VIDEO)

    assert len(pieces) == 2
    assert pieces[1].shift_ms == -496_000, "the pictures are joined: 100 of 40 ms"
    assert [(times.first, times.end, times.packets) for times in scan.streams.values()] == [(0, 8000, 200), (20, 8020, 200)]


@given(st.lists(st.integers(1000, 100_000), min_size=1, max_size=6), st.data())
def test_a_moment_of_the_joined_clock_is_found_in_the_source(lengths: list[int], data: st.DataObject) -> None:
    pieces, source, joined = [], 0, 0
    for length in lengths:
        pieces.append(ClockPiece(from_ms=source, to_ms=source + length, shift_ms=joined - source))
        source, joined = source + length + 3_600_000, joined + length
    at = data.draw(st.integers(0, joined - 1))

    there = in_source(pieces, at)

    assert in_order(pieces)
    assert any(piece.from_ms <= there <= piece.to_ms and there + piece.shift_ms == at for piece in pieces)


def test_a_clock_that_runs_through_is_left_alone() -> None:
    assert joined_time((), "1.5") == "PTS-(1.5)/TB"
    assert PacketScan().clock(0) == ()


def test_more_stretches_than_can_be_distinguished_are_broken() -> None:
    clock = Clock()
    for number in range(150):
        read(clock, VIDEO, number * 100_000_000, 5)

    assert clock.broken
