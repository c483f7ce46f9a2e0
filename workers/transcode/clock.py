"""Clocks that jump: joined recordings start anew, broadcasts skip, killed recorders leave hours out. Pure.

`Clock` finds the stretches in which a source's clock runs without a jump. Each stream notices a jump by itself, because one
stream is ahead of another at the jump; a single packet that is off is no jump. Within a stretch all streams keep their
distance, so that pictures and sound stay together. The stretches are placed one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from events.media import ClockPiece

BACK_US = 300_000
"""A larger step back is a jump, in the order of decoding."""
BACK_SHOWN_US = 1_500_000
"""The same in the order of showing: pictures are stored in another order, but by less than this."""
FORWARD_US = 10_000_000
"""A longer silence of all streams is a jump, in containers whose clocks are known to jump."""
STANDING_US = 600_000_000
"""The same in other containers: in screen recordings one picture may stay for minutes."""
JUMPING = frozenset(("mpegts", "mpeg", "ogg", "flv", "rm", "asf"))
NEAR_US = 10_000_000
OVERLAP_US = 100_000
"""If sound is longer than the pictures by at most this much, the pictures are joined without a gap and the sound is cut."""
PIECES_MAX = 100


@dataclass(slots=True)
class _Piece:
    """A stretch: the first and last time of each stream in it, microseconds of the source's clock."""

    extents: dict[int, tuple[int, int]] = field(default_factory=dict)
    begin: int = 0
    end: int = 0

    def add(self, stream: int, at: int, length: int) -> None:
        if not self.extents:
            self.begin, self.end = at, at + length
        first, last = self.extents.get(stream, (at, at + length))
        self.extents[stream] = min(first, at), max(last, at + length)
        self.begin, self.end = min(self.begin, at), max(self.end, at + length)

    def of(self, streams: frozenset[int]) -> tuple[int, int] | None:
        found = [extent for stream, extent in self.extents.items() if stream in streams]
        return (min(first for first, _ in found), max(last for _, last in found)) if found else None


class Clock:
    """Finds the stretches of the streams that share a clock. Times are microseconds."""

    def __init__(self, forward_us: int = FORWARD_US) -> None:
        self.forward_us = forward_us
        self.pieces: list[_Piece] = []
        self.broken = False
        self._piece: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._pending: dict[int, int] = {}

    def piece_of(self, stream: int, decoded: int, *, guessed: bool = False) -> int | None:
        """Return the number of a packet's stretch, by its time of decoding; None when only the next packet can decide.

        `guessed`: the time is that of showing, because there is no other.
        """
        back = BACK_SHOWN_US if guessed else BACK_US
        if stream not in self._last:
            self._enter(stream, max(0, len(self.pieces) - 1))
        elif self._jumps(stream, decoded, back):
            waiting = self._pending.get(stream)
            self._pending[stream] = decoded
            if waiting is None or not -back <= decoded - waiting <= self.forward_us:
                return None
            self._enter(stream, self._next(self._piece[stream], decoded))
        self._pending.pop(stream, None)
        self._last[stream] = decoded
        return self._piece[stream]

    def extend(self, stream: int, shown: int, length: int) -> None:
        """Record the time at which the stream's stretch shows something."""
        self.pieces[self._piece[stream]].add(stream, shown, length)

    def _jumps(self, stream: int, decoded: int, back: int) -> bool:
        return decoded < self._last[stream] - back or decoded > self.pieces[self._piece[stream]].end + self.forward_us

    def _next(self, number: int, at: int) -> int:
        """Return the later stretch that is near this time, else a new one."""
        for later in range(number + 1, len(self.pieces)):
            if self.pieces[later].begin - NEAR_US <= at <= self.pieces[later].end + NEAR_US:
                return later
        return len(self.pieces)

    def _enter(self, stream: int, number: int) -> None:
        if number >= PIECES_MAX:
            self.broken = True
            number = PIECES_MAX - 1
        if number >= len(self.pieces):
            self.pieces.append(_Piece())
        self._piece[stream] = number

    def joined(self, videos: frozenset[int]) -> tuple[ClockPiece, ...]:
        """Return the stretches, one after the other; nothing when there is only one."""
        made: list[ClockPiece] = []
        shift = 0
        for number, piece in enumerate(self.pieces):
            if number:
                before = self.pieces[number - 1]
                shift += _joint(before, piece, videos)
            made.append(ClockPiece(from_ms=piece.begin // 1000, to_ms=-(-piece.end // 1000), shift_ms=round(shift / 1000)))
        return tuple(made) if len(made) > 1 else ()


def _joint(before: _Piece, piece: _Piece, videos: frozenset[int]) -> int:
    """Return how much further the second stretch is moved than the first."""
    ended, begins = before.of(videos), piece.of(videos)
    if ended is not None and begins is not None:
        overlap = before.end - ended[1] + begins[0] - piece.begin
        if overlap <= OVERLAP_US:
            return ended[1] - begins[0]
    return before.end - piece.begin


def in_order(pieces: Sequence[ClockPiece]) -> bool:
    """Return whether each time of the source's clock lies in only one stretch, so that seeking can find it."""
    return all(before.to_ms <= after.from_ms for before, after in pairwise(pieces))


def in_source(pieces: Sequence[ClockPiece], at_ms: int) -> int:
    """Return the source's timestamp for a time of the joined clock."""
    shift = next((piece.shift_ms for piece in reversed(pieces) if at_ms >= piece.from_ms + piece.shift_ms), 0)
    return at_ms - shift


@dataclass(frozen=True, slots=True)
class Names:
    """Names in an expression of ffmpeg for a time in ticks, the same in seconds, and the one before it in seconds.

    A larger step back than `back_s` is a jump: pictures may come a little out of order, subtitles do not.
    """

    ticks: str
    seconds: str
    before: str
    back_s: float


FRAMES = Names("PTS", "T", "PREV_INT", 0.5)
"""In the filters `setpts` and `asetpts`."""
PACKETS = Names("TS", "(TS*TB)", "(PREV_INPTS*TB)", 0.1)
"""In the bitstream filter `setts`."""


def joined_time(pieces: Sequence[ClockPiece], offset: str, names: Names = FRAMES) -> str:
    """Return ffmpeg's expression for a time on the joined clock minus `offset`, seconds.

    For overlapping stretches the filter remembers (`ld(1)`) its current stretch: a frame that steps back, or lies beyond the
    end of the stretch, belongs to the next stretch that contains its time.
    """
    ticks, at, before = names.ticks, names.seconds, names.before
    if not pieces:
        return f"{ticks}-({offset})/TB"
    if in_order(pieces):
        shift = f"{pieces[-1].shift_ms / 1000:.3f}"
        for piece, after in reversed(list(pairwise(pieces))):
            shift = f"if(lt({at},{(piece.to_ms + after.from_ms) / 2000:.3f}),{piece.shift_ms / 1000:.3f},{shift})"
        return f"'{ticks}+({shift}-({offset}))/TB'"
    follows, end, shift = "ld(1)", "0", "0"
    for number, piece in reversed(list(enumerate(pieces))):
        begins, ends = piece.from_ms / 1000, piece.to_ms / 1000
        if number:
            follows = f"if(lt(ld(1),{number})*between({at},{begins - 1:.3f},{ends + 1:.3f}),{number},{follows})"
        end = f"if(eq(ld(1),{number}),{ends:.3f},{end})"
        shift = f"if(eq(ld(1),{number}),{piece.shift_ms / 1000:.3f},{shift})"
    jumps = f"lt({at},{before}-{names.back_s})+gt({at},{end}+1)"
    return f"'if(isnan({before}),st(1,0),if({jumps},st(1,{follows})));{ticks}+({shift}-({offset}))/TB'"


def joining(pieces: Sequence[ClockPiece]) -> tuple[str, ...]:
    """Return ffmpeg's arguments that bring subtitles to the joined clock; none for a clock without a jump.

    Two expressions, because each remembers its stretch by itself.
    """
    if not pieces:
        return ()
    time = joined_time(pieces, "0", PACKETS)
    return ("-bsf:s", f"setts=pts={time}:dts={time}")
