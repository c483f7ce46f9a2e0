"""Measurements from the packets of a source: start, end and frame rate of each stream. Pure.

`PacketScan` has a bounded state for a source of any length.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from events.media import ClockPiece
from workers.transcode.clock import FORWARD_US, STANDING_US, Clock

STANDARD_RATES = tuple(Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 100, 120)) + tuple(
    Fraction(rate * 1000, 1001) for rate in (24, 30, 60, 120)
)

REORDER_PACKETS = 32
"""Maximum pictures stored before one that is shown earlier: H.264 and HEVC allow 16."""
REORDER_US = 5_000_000
"""No picture waits longer for one that is stored after it; if one seems to, its time of decoding was made up."""
NO_LIMIT = 2**62
DISTANCES_MAX = 4096
IRREGULAR_SHARE_MAX = Fraction(2, 100)
LOST_SHARE_MAX = Fraction(10, 100)
GRID_RATE_MAX = Fraction(60)
SINGLE_FRAME_RATE = Fraction(25)


@dataclass(slots=True)
class StreamTimes:
    """Times of one stream's packets, in ticks of its time base; packets that are not shown do not count.

    The times of damaged packets are not trusted: a truncated file ends with its last whole packet. If no packet has a time
    (`untimed`: pictures without a container), each begins at the end of the previous one.
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

    def add(self, at: int | None, length: int, flags: str, late: int = 0) -> None:
        """Count one packet; `at` is its presentation time. `late`: something is shown so much later, by no time of its own."""
        self.packets += 1
        if "C" in flags:
            self.corrupt += 1
        elif at is not None:
            self._timed(at, length, late, key="K" in flags)
        elif length and (self.first is None or self.untimed):
            self.untimed = True
            self._timed(self.end or 0, length, 0, key="K" in flags)

    def _timed(self, at: int, length: int, late: int, *, key: bool) -> None:
        self.first = at + late if self.first is None else min(self.first, at + late)
        if self.end is None or at + late + length > self.end:
            self.end = at + late + length
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

    def jumped(self) -> None:
        """Restart after a jump of the clock: nothing is measured across it."""
        self.finish()
        self._previous = self.key_at = None

    def _shown(self, at: int) -> None:
        if self._previous is not None:
            distance = at - self._previous
            self.gap = max(self.gap, distance)
            if distance in self.distances or len(self.distances) < DISTANCES_MAX:
                self.distances[distance] += 1
        self._previous = at


@dataclass(frozen=True, slots=True)
class _Packet:
    """A packet: its time of showing and its duration, in ticks; `late` as in `StreamTimes.add`."""

    at: int | None
    length: int
    flags: str
    late: int = 0


class PacketScan:
    """Folds lines of `ffprobe -show_packets` as CSV: stream, pts, dts, duration, flags, side data.

    `time_bases` are those of the picture and sound streams, in seconds; without them clocks are ignored. `programs`
    have clocks of their own. `jumping`: the container's clocks are known to jump. `delays` say by how many pictures a stream
    is shown later than it is decoded.
    """

    def __init__(
        self,
        time_bases: Mapping[int, Fraction] | None = None,
        videos: frozenset[int] = frozenset(),
        programs: Sequence[frozenset[int]] = (),
        *,
        jumping: bool = False,
        delays: Mapping[int, int] | None = None,
    ) -> None:
        self.streams: dict[int, StreamTimes] = {}
        self._time_bases = time_bases or {}
        self._videos = videos
        shared = Clock(FORWARD_US if jumping else STANDING_US)
        own = [(program, Clock(shared.forward_us)) for program in programs] if len(programs) > 1 else []
        self._clocks = {index: next((c for p, c in own if index in p), shared) for index in self._time_bases}
        self._extents: dict[int, dict[int, tuple[int, int]]] = {}
        self._pieces: dict[int, int] = {}
        self._held: dict[int, _Packet] = {}
        self._delays = delays or {}
        self._waits: set[int] = set()
        self._longest = {index: int(shared.forward_us / 1_000_000 / base) for index, base in self._time_bases.items()}

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
        shown, decoded = ticks(fields[1]), ticks(fields[2])
        length = min(max(0, ticks(fields[3]) or 0), self._longest.get(index, NO_LIMIT))
        late = length * self._pictures_late(index, shown, decoded)
        packet = _Packet(shown if shown is not None else decoded, length, fields[4], late)
        if packet.at is None or "C" in packet.flags or index not in self._clocks:
            times.add(packet.at, length, packet.flags, late)
        else:
            self._count(index, times, packet, decoded)

    def _pictures_late(self, index: int, shown: int | None, decoded: int | None) -> int:
        """Return how many pictures after the packet's time something is shown for which no packet has a time.

        Programme streams and AVI leave out times of showing; ffprobe adds those of B-frames, which are shown when they are
        decoded. A picture without a time is shown after all B-frames that follow it, so it may be the last of its stretch.
        """
        if decoded is None:
            return 0
        if shown is None:
            self._waits.add(index)
        elif shown != decoded:
            self._waits.discard(index)
        if index not in self._waits:
            return 0
        delay = self._delays.get(index, 0)
        return delay if shown is None else min(1, delay)

    def _count(self, index: int, times: StreamTimes, packet: _Packet, decoded: int | None) -> None:
        """Count a packet in its stretch of the clock. A packet whose time is off is held until the next one decides on a jump."""
        assert packet.at is not None
        shown_us = self._us(index, packet.at)
        decoded_us = shown_us if decoded is None else self._us(index, decoded)
        guessed = decoded is None or abs(shown_us - decoded_us) > REORDER_US
        number = self._clocks[index].piece_of(index, shown_us if guessed else decoded_us, guessed=guessed)
        held = self._held.pop(index, None)
        jumped = number is not None and self._pieces.setdefault(index, number) != number
        if held is not None and not jumped:
            times.add(held.at, held.length, f"{held.flags}C", held.late)
        if number is None:
            self._held[index] = packet
            return
        if jumped:
            times.jumped()
            self._pieces[index] = number
        for counted in (held, packet) if held is not None and jumped else (packet,):
            at = counted.at
            assert at is not None
            begins, ends = at + counted.late, at + counted.late + counted.length
            self._clocks[index].extend(index, self._us(index, begins), self._us(index, counted.length))
            extents = self._extents.setdefault(index, {})
            first, end = extents.get(number, (begins, ends))
            extents[number] = min(first, begins), max(end, ends)
            times.add(at, counted.length, counted.flags, counted.late)

    def _us(self, index: int, ticks_: int) -> int:
        base = self._time_bases[index]
        return ticks_ * 1_000_000 * base.numerator // base.denominator

    def finish(self) -> None:
        """End the scan; the first and last times are then those of the joined clock."""
        for index, held in self._held.items():
            self.streams[index].add(held.at, held.length, f"{held.flags}C")
        for times in self.streams.values():
            times.finish()
        for index, extents in self._extents.items():
            pieces = self.clock(index)
            if pieces:
                moved = [
                    (first + shift, end + shift)
                    for number, (first, end) in extents.items()
                    for shift in (round(Fraction(pieces[number].shift_ms, 1000) / self._time_bases[index]),)
                ]
                self.streams[index].first = min(first for first, _ in moved)
                self.streams[index].end = max(end for _, end in moved)

    def clock(self, index: int) -> tuple[ClockPiece, ...]:
        """Return the stretches of a stream's clock; nothing when it never jumps."""
        return self._clocks[index].joined(self._videos) if index in self._clocks else ()

    def is_broken(self, index: int) -> bool:
        """Return whether a stream's clock jumps too often to be repaired."""
        return index in self._clocks and self._clocks[index].broken


def ticks(text: str) -> int | None:
    """Parse a number of ticks; None for `N/A`."""
    try:
        return int(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class FrameRate:
    """A measured frame rate, and whether distances between pictures vary."""

    rate: Fraction
    variable: bool


def frame_rate(distances: Mapping[int, int], time_base: Fraction, declared: Iterable[Fraction]) -> FrameRate:
    """Return the rate of the usual distance between two pictures.

    `distances` counts distances in ticks. A distance is usual within a tenth, or a tick and a half (containers round to
    milliseconds), of the median. The rate is variable when more than 2 % are neither usual nor a whole multiple of a usual
    one, or when more than 10 % are such multiples; fewer multiples are lost pictures. The rate is constant when all pictures,
    however rare, lie on the grid of a declared rate: recorders leave out repeated pictures. The mean of the usual distances
    becomes a declared or standard rate when it cannot be distinguished from that rate.
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
    if variable and (grid := _grid(counts, total, time_base, given)) is not None:
        return FrameRate(_recognised(grid, error, given), False)
    return FrameRate(_recognised(measured, error, given), variable)


def _grid(counts: list[tuple[int, int]], total: int, time_base: Fraction, declared: list[Fraction]) -> Fraction | None:
    """Return the declared rate whose frames measure every distance in whole numbers; none above `GRID_RATE_MAX`."""
    for rate in sorted(rate for rate in declared if rate <= GRID_RATE_MAX):
        frame = 1 / (rate * time_base)
        reach = max(Fraction(3, 2), frame / 10)
        steps = [(round(distance / frame), distance, count) for distance, count in counts]
        on_grid = sum(count for frames, distance, count in steps if frames and abs(distance - frames * frame) <= reach)
        if on_grid >= (1 - IRREGULAR_SHARE_MAX) * total and any(frames == 1 for frames, _, _ in steps):
            return rate
    return None


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
    """Return the declared or standard rate that matches the measured one, else a simple fraction near it."""
    near = [rate for rate in declared if abs(rate / measured - 1) <= error]
    reference = near[0] if near else measured
    standard = min(STANDARD_RATES, key=lambda rate: abs(rate - reference))
    if abs(standard / reference - 1) <= (Fraction(2, 10_000) if near else error):
        return standard
    return reference.limit_denominator(1001)
