"""What the packets of a source tell: when each stream begins and ends, and its frame rate. Pure.

`PacketScan` keeps a bounded state however long the source is.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

STANDARD_RATES = tuple(Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 100, 120)) + tuple(
    Fraction(rate * 1000, 1001) for rate in (24, 30, 60, 120)
)

REORDER_PACKETS = 32
"""Pictures that may be stored before one that is shown earlier: H.264 and HEVC allow 16."""
DISTANCES_MAX = 4096
IRREGULAR_SHARE_MAX = Fraction(2, 100)
LOST_SHARE_MAX = Fraction(10, 100)
SINGLE_FRAME_RATE = Fraction(25)


@dataclass(slots=True)
class StreamTimes:
    """What the packets of one stream tell, in ticks of its time base; packets that are not shown do not count.

    The times of damaged packets are not trusted: a cut-off file ends with its last whole one. Where no packet has a time
    (`untimed`: pictures without a container) each begins where the one before ends.
    """

    packets: int = 0
    corrupt: int = 0
    encrypted: bool = False
    untimed: bool = False
    first: int | None = None
    end: int | None = None
    last_has_length: bool = False
    key_at: int | None = None
    key_distance: int = 0
    gap: int = 0
    distances: Counter[int] = field(default_factory=Counter)
    _waiting: list[int] = field(default_factory=list)
    _previous: int | None = None

    def add(self, at: int | None, length: int, flags: str) -> None:
        """Count one packet; `at` is its presentation time."""
        self.packets += 1
        if "C" in flags:
            self.corrupt += 1
        elif at is not None:
            self._timed(at, length, key="K" in flags)
        elif length and (self.first is None or self.untimed):
            self.untimed = True
            self._timed(self.end or 0, length, key="K" in flags)

    def _timed(self, at: int, length: int, *, key: bool) -> None:
        self.first = at if self.first is None else min(self.first, at)
        if self.end is None or at + length > self.end:
            self.end = at + length
            self.last_has_length = length > 0
        if self.key_at is not None:
            self.key_distance = max(self.key_distance, at + length - self.key_at)
        if key:
            self.key_at = at
        if len(self._waiting) < REORDER_PACKETS:
            heapq.heappush(self._waiting, at)
        else:
            self._shown(heapq.heappushpop(self._waiting, at))

    def finish(self) -> None:
        """Count the pictures that still wait for an earlier one."""
        while self._waiting:
            self._shown(heapq.heappop(self._waiting))

    def _shown(self, at: int) -> None:
        if self._previous is not None:
            distance = at - self._previous
            self.gap = max(self.gap, distance)
            if distance in self.distances or len(self.distances) < DISTANCES_MAX:
                self.distances[distance] += 1
        self._previous = at


class PacketScan:
    """Folds lines of `ffprobe -show_packets` as CSV: stream, pts, dts, duration, flags, and what lies beside the data."""

    def __init__(self) -> None:
        self.streams: dict[int, StreamTimes] = {}

    def add(self, line: str) -> None:
        """Count one line: `0,3003,0,1001,K__`. A packet without a presentation time counts at its decoding time."""
        fields = line.split(",")
        if len(fields) < 5 or "D" in fields[4]:
            return
        index = ticks(fields[0])
        if index is None:
            return
        times = self.streams.get(index)
        if times is None:
            times = self.streams[index] = StreamTimes()
        times.encrypted = times.encrypted or "Encryption info" in line
        at = ticks(fields[1])
        times.add(at if at is not None else ticks(fields[2]), max(0, ticks(fields[3]) or 0), fields[4])

    def finish(self) -> None:
        """Say that there are no more packets."""
        for times in self.streams.values():
            times.finish()


def ticks(text: str) -> int | None:
    """Parse a number of ticks; None for `N/A`."""
    try:
        return int(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class FrameRate:
    """A measured frame rate, and whether the distances between pictures differ."""

    rate: Fraction
    variable: bool


def frame_rate(distances: Mapping[int, int], time_base: Fraction, declared: Iterable[Fraction]) -> FrameRate:
    """Return the rate of the usual distance between two pictures.

    `distances` counts distances in ticks. Usual are those within a tenth, or a tick and a half (containers round to
    milliseconds), of the median. The rate is variable when more than 2 % are neither usual nor a whole number of usual
    ones, or when more than 10 % are such multiples: fewer of those are lost pictures. The mean of the usual ones is
    taken for a declared or standard rate when it cannot be told from it.
    """
    counts = sorted((distance, count) for distance, count in distances.items() if distance > 0)
    total = sum(count for _, count in counts)
    given = [rate for rate in declared if 0 < rate <= 1000]
    if total == 0:
        return FrameRate(given[0] if given else SINGLE_FRAME_RATE, False)
    median = _median(counts, total)
    reach = max(Fraction(3, 2), Fraction(median, 10))
    usual = [(distance, count) for distance, count in counts if abs(distance - median) <= reach]
    usual_count = sum(count for _, count in usual)
    span = sum(distance * count for distance, count in usual) * time_base
    measured = usual_count / span
    error = Fraction(3, 2) * time_base / span + Fraction(3, 10_000)
    lost = sum(count for distance, count in counts if distance > median + reach and _is_multiple(distance, median, reach))
    irregular = total - usual_count - lost
    variable = irregular > IRREGULAR_SHARE_MAX * total or lost > LOST_SHARE_MAX * total
    return FrameRate(_recognised(measured, error, given), variable)


def _is_multiple(distance: int, median: int, reach: Fraction) -> bool:
    return abs(distance - round(Fraction(distance, median)) * median) <= reach


def _median(counts: list[tuple[int, int]], total: int) -> int:
    seen = 0
    for value, count in counts:
        seen += count
        if 2 * seen >= total:
            return value
    raise AssertionError("the counts do not add up")


def _recognised(measured: Fraction, error: Fraction, declared: list[Fraction]) -> Fraction:
    """Return the declared or standard rate that the measured one must be, else a simple fraction near it."""
    near = [rate for rate in declared if abs(rate / measured - 1) <= error]
    reference = near[0] if near else measured
    standard = min(STANDARD_RATES, key=lambda rate: abs(rate - reference))
    if abs(standard / reference - 1) <= (Fraction(2, 10_000) if near else error):
        return standard
    return reference.limit_denominator(1001)
