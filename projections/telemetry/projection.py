"""Telemetry: outcomes of jobs by hardware and software; tables `leaderboard`, `stability`, `words`, `outcomes`, `failures`.

The first two serve the predecessor's clients; the last two are by day and version, and serve all other queries. `words`
counts each word's occurrences: readers show only the most common words.

Everything in a row can be added: counts, exact sums, and a quantile sketch (DDSketch) as bins. So the cutting of the log
into partitions and batches does not matter, and sites can be merged. Speeds are summed as whole millionths: sums of
floating-point numbers depend on their order. The readers are in `projections.telemetry.insights`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from ddsketch.mapping import LogarithmicMapping

from events.envelope import Envelope
from events.telemetry import Report, TelemetryReported
from events.topics import TELEMETRY
from projections.folding.fold import Key, Projection, Table, table_row
from projections.folding.queries import load
from projections.telemetry.reported import read_all

STARTED, FINISHED, SUCCESS, FAILURE = "job_started", "job_finished", "success", "failure"
MILLION = 1_000_000
SPEED_MAX = 1_000_000.0
"""Upper limit of a speed, seconds of video per second; the lower one is 0. Speeds are clamped."""
REDUCTION_MIN = -MILLION
"""Lower limit of a reduction, a fraction in millionths. Sizes beyond it are nonsense; reductions are clamped."""
RELATIVE_ACCURACY = 0.01
"""Accuracy of quantiles: a median of 2.00 lies between 1.98 and 2.02 (Masson, Rim, Lee: DDSketch, VLDB 2019)."""
SKETCHED_MIN = 0.001
"""The sketch counts slower speeds as zero, and so has at most 1,037 bins."""
SKETCH = LogarithmicMapping(RELATIVE_ACCURACY)
LENGTHS_MAX = {
    "app_version": 64,
    "hardware": 128,
    "encoder": 64,
    "codec": 64,
    "resolution": 32,
    "reason": 200,
}
"""Maximum characters, equal to those at ingest. Longer texts on the log are cut: keys must fit into an index."""
WORDS = ("hardware", "encoder", "codec", "resolution", "app_version", "reason")
"""Labels whose words are counted."""
REPORTS = (Report, TelemetryReported)
"""Classes of a decoded report: from `projections.telemetry.reported`, and from the codec."""
_EXACT = Context(prec=100)
_ZERO = Decimal(0)
_SQL = load(Path(__file__).with_name("projection.sql"))


@dataclass(slots=True)
class ReportGroup:
    """Sums over a batch's reports with equal words; `Outcome` explains the sums."""

    day: date
    app_version: str
    event_type: str
    status: str | None
    reason: str | None
    hardware: str | None
    encoder: str | None
    codec: str | None
    resolution: str | None
    events: int = 0
    speeds: list[float] = field(default_factory=list)
    speed_sum: int = 0
    speed_squares: int = 0
    speed_bins: Mapping[str, int] = field(default_factory=dict)
    reduction_count: int = 0
    reduction_sum: int = 0

    def __post_init__(self) -> None:
        """Cut texts that are too long for a key."""
        for name, length in LENGTHS_MAX.items():
            text = getattr(self, name)
            if text is not None and len(text) > length:
                setattr(self, name, text[:length])

    def add_up(self) -> None:
        """Sum the speeds, once all are collected."""
        speeds = list(map(millionths, self.speeds))
        self.speed_sum = sum(speeds)
        self.speed_squares = sum([speed * speed for speed in speeds])
        bins = Counter(map(SKETCH.key, [speed for speed in self.speeds if speed >= SKETCHED_MIN]))
        self.speed_bins = {str(key): count for key, count in bins.items()}


@dataclass(frozen=True, slots=True)
class Named:
    """Number of a batch's events with a word under a label, or (None) without one."""

    label: str
    word: str | None
    events: int


class Gathering:
    """Groups of reports with equal words, and the words themselves."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], ReportGroup] = {}

    def add(self, envelopes: Iterable[Envelope[Any]]) -> None:
        """Add reports. Only this step runs for each event."""
        groups = self._groups
        for envelope in envelopes:
            event = envelope.data
            if not isinstance(event, REPORTS):
                continue
            words = (
                envelope.time.date(),
                event.app_version,
                event.event_type,
                event.status,
                event.failure_reason,
                event.hardware_model,
                event.encoder,
                event.video_codec,
                event.resolution,
            )
            group = groups.get(words)
            if group is None:
                group = groups[words] = ReportGroup(*words)
            group.events += 1
            if (speed := event.speed_factor) is not None:
                group.speeds.append(min(max(speed, 0.0), SPEED_MAX))
            if (before := event.input_size_bytes) and (after := event.output_size_bytes) is not None:
                group.reduction_count += 1
                group.reduction_sum += reduction(before, after)

    def items(self) -> Sequence[ReportGroup | Named]:
        """Return groups and words."""
        said: Counter[tuple[str, str | None]] = Counter()
        for group in self._groups.values():
            group.add_up()
            for label in WORDS:
                said[label, getattr(group, label)] += group.events
        return [*self._groups.values(), *(Named(label, word, events) for (label, word), events in said.items())]


def _of_group(keys_of: Callable[[ReportGroup], Collection[Key]]) -> Callable[[ReportGroup | Named], Collection[Key]]:
    """Return `keys_of` for a table that ignores `Named`."""
    return lambda item: keys_of(item) if isinstance(item, ReportGroup) else ()


def reduction(input_bytes: int, output_bytes: int) -> int:
    """Return the relative reduction in size, millionths, rounded half up; negative when the output is larger."""
    return max((2 * MILLION * (input_bytes - output_bytes) + input_bytes) // (2 * input_bytes), REDUCTION_MIN * MILLION)


# --- for the predecessor's clients ------------------------------------------------------------------------------------


@table_row
class Standing:
    """A line of the leaderboard. Sums are in millionths. `samples` includes failures, which have neither speed nor size."""

    hardware: str
    encoder: str
    codec: str
    resolution: str
    samples: int = 0
    speed_count: int = 0
    speed_sum: Decimal = _ZERO
    reduction_count: int = 0
    reduction_sum: Decimal = _ZERO


def standing_keys(group: ReportGroup) -> Collection[tuple[str, str, str, str]]:
    """Return the line of ended jobs for which all four columns are known; an empty text is known."""
    if group.event_type != FINISHED:
        return ()
    if group.hardware is None or group.encoder is None or group.codec is None or group.resolution is None:
        return ()
    return ((group.hardware, group.encoder, group.codec, group.resolution),)


def evolve_standing(row: Standing | None, group: ReportGroup) -> Standing:
    """Add the sums."""
    (key,) = standing_keys(group)
    row = row or Standing(*key)
    return replace(
        row,
        samples=row.samples + group.events,
        speed_count=row.speed_count + len(group.speeds),
        speed_sum=_plus(row.speed_sum, group.speed_sum),
        reduction_count=row.reduction_count + group.reduction_count,
        reduction_sum=_plus(row.reduction_sum, group.reduction_sum),
    )


@table_row
class Fault:
    """Number of an encoder's failures for a reason, whichever kind of event reported them."""

    encoder: str
    error: str
    count: int = 0


def fault_keys(group: ReportGroup) -> Collection[tuple[str, str]]:
    """Return encoder and reason of a failure, when both are known."""
    if group.status != FAILURE or group.encoder is None or group.reason is None:
        return ()
    return ((group.encoder, group.reason),)


def evolve_fault(row: Fault | None, group: ReportGroup) -> Fault:
    """Add the sums."""
    (key,) = fault_keys(group)
    row = row or Fault(*key)
    return replace(row, count=row.count + group.events)


@table_row
class Word:
    """Number of events of any kind with a word under a label; the row that is not `named` counts events without one."""

    label: str
    named: bool
    word: str
    events: int = 0


def word_keys(item: ReportGroup | Named) -> Collection[tuple[str, bool, str]]:
    """Return the word."""
    return ((item.label, item.word is not None, item.word or ""),) if isinstance(item, Named) else ()


def evolve_word(row: Word | None, named: Named) -> Word:
    """Add the sums."""
    (key,) = word_keys(named)
    row = row or Word(*key)
    return replace(row, events=row.events + named.events)


# --- by day and version -----------------------------------------------------------------------------------------------


@table_row
class Outcome:
    """Outcomes of jobs with equal values in the six key columns; an unknown text is empty.

    Sums are in millionths; `speed_squares` sums the squares of millionths. `speed_bins` are the bins of a DDSketch,
    {key: count}, without speeds below SKETCHED_MIN.
    """

    day: date
    app_version: str
    hardware: str
    encoder: str
    codec: str
    resolution: str
    events: int = 0
    started: int = 0
    finished: int = 0
    succeeded: int = 0
    failed: int = 0
    speed_count: int = 0
    speed_sum: Decimal = _ZERO
    speed_squares: Decimal = _ZERO
    speed_bins: dict[str, int] = field(default_factory=dict)
    reduction_count: int = 0
    reduction_sum: Decimal = _ZERO


OutcomeKey = tuple[date, str, str, str, str, str]


def outcome_keys(group: ReportGroup) -> Collection[OutcomeKey]:
    """Return day, version, hardware, encoder, codec and resolution."""
    known = (group.hardware or "", group.encoder or "", group.codec or "", group.resolution or "")
    return ((group.day, group.app_version, *known),)


def evolve_outcome(row: Outcome | None, group: ReportGroup) -> Outcome:
    """Add the sums. Speeds and sizes count only for ended jobs."""
    (key,) = outcome_keys(group)
    row = row or Outcome(*key)
    if group.event_type == STARTED:
        return replace(row, events=row.events + group.events, started=row.started + group.events)
    if group.event_type != FINISHED:
        return replace(row, events=row.events + group.events)
    return replace(
        row,
        events=row.events + group.events,
        finished=row.finished + group.events,
        succeeded=row.succeeded + group.events * (group.status == SUCCESS),
        failed=row.failed + group.events * (group.status == FAILURE),
        speed_count=row.speed_count + len(group.speeds),
        speed_sum=_plus(row.speed_sum, group.speed_sum),
        speed_squares=_plus(row.speed_squares, group.speed_squares),
        speed_bins=_with_bins(row.speed_bins, group.speed_bins),
        reduction_count=row.reduction_count + group.reduction_count,
        reduction_sum=_plus(row.reduction_sum, group.reduction_sum),
    )


@table_row
class Failed:
    """Number of jobs that failed for a reason, by the same six columns."""

    day: date
    app_version: str
    hardware: str
    encoder: str
    codec: str
    resolution: str
    reason: str
    count: int = 0


def failed_keys(group: ReportGroup) -> Collection[tuple[date, str, str, str, str, str, str]]:
    """Return the six columns and the reason, for failed jobs."""
    if group.event_type != FINISHED or group.status != FAILURE:
        return ()
    (key,) = outcome_keys(group)
    return ((*key, group.reason or ""),)


def evolve_failed(row: Failed | None, group: ReportGroup) -> Failed:
    """Add the sums."""
    (key,) = failed_keys(group)
    row = row or Failed(*key)
    return replace(row, count=row.count + group.events)


def millionths(value: float) -> int:
    """Return a speed in rounded millionths."""
    return round(value * MILLION)


def _plus(total: Decimal, more: int) -> Decimal:
    return _EXACT.add(total, Decimal(more))


def _with_bins(bins: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return bins | {name: bins.get(name, 0) + count for name, count in more.items()}


PROJECTION = Projection(
    "telemetry",
    (TELEMETRY,),
    (
        Table("leaderboard", Standing, ("hardware", "encoder", "codec", "resolution"), _of_group(standing_keys), evolve_standing),
        Table("stability", Fault, ("encoder", "error"), _of_group(fault_keys), evolve_fault),
        Table("words", Word, ("label", "named", "word"), word_keys, evolve_word),
        Table(
            "outcomes",
            Outcome,
            ("day", "app_version", "hardware", "encoder", "codec", "resolution"),
            _of_group(outcome_keys),
            evolve_outcome,
        ),
        Table(
            "failures",
            Failed,
            ("day", "app_version", "hardware", "encoder", "codec", "resolution", "reason"),
            _of_group(failed_keys),
            evolve_failed,
        ),
    ),
    _SQL["create"],
    gathering=Gathering,
    seen="seen",
    decode_all=read_all,
)
