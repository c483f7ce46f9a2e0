"""Telemetry: how jobs went, by what made them; tables `leaderboard`, `stability`, `words`, `outcomes` and `failures`.

The first two are what the predecessor's clients are shown; the last two are by day and version, and answer the rest. `words`
counts how often each word was said: readers tell the most common ones apart.

All that a row holds can be added up: counts, exact sums, and a quantile sketch (DDSketch) as its bins. So it does not
matter how the log is cut into partitions and batches, and sites can be merged. Speeds are summed in millionths as whole
numbers: floating point would give another sum in another order. The readers are in `projections.telemetry.insights`.
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
"""A speed is held to 0..this, seconds of video per second."""
REDUCTION_MIN = -MILLION
"""A reduction, a fraction, is held to this and above: beyond, sizes are nonsense."""
RELATIVE_ACCURACY = 0.01
"""Of quantiles: a median of 2.00 lies between 1.98 and 2.02 (Masson, Rim, Lee: DDSketch, VLDB 2019)."""
SKETCHED_MIN = 0.001
"""A slower speed counts as zero in the sketch; so it has at most 1,037 bins."""
SKETCH = LogarithmicMapping(RELATIVE_ACCURACY)
LENGTHS_MAX = {
    "app_version": 64,
    "hardware": 128,
    "encoder": 64,
    "codec": 64,
    "resolution": 32,
    "reason": 200,
}
"""Characters; as ingest has them. A longer text, however it came onto the log, is cut: keys must fit into an index."""
WORDS = ("hardware", "encoder", "codec", "resolution", "app_version", "reason")
"""The labels whose words are counted."""
REPORTS = (Report, TelemetryReported)
"""What a report is read as: by `projections.telemetry.reported`, and by the codec."""
_EXACT = Context(prec=100)
_ZERO = Decimal(0)
_SQL = load(Path(__file__).with_name("projection.sql"))


@dataclass(slots=True)
class Told:
    """What the reports of a batch that agree in every word say together; see `Outcome` for the sums."""

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
        """Cut what is too long for a key."""
        for name, length in LENGTHS_MAX.items():
            text = getattr(self, name)
            if text is not None and len(text) > length:
                setattr(self, name, text[:length])

    def add_up(self) -> None:
        """Sum the speeds, when all are there."""
        speeds = list(map(millionths, self.speeds))
        self.speed_sum = sum(speeds)
        self.speed_squares = sum([speed * speed for speed in speeds])
        bins = Counter(map(SKETCH.key, [speed for speed in self.speeds if speed >= SKETCHED_MIN]))
        self.speed_bins = {str(key): count for key, count in bins.items()}


@dataclass(frozen=True, slots=True)
class Named:
    """How many of a batch's events have a word under a label, or none."""

    label: str
    word: str | None
    events: int


class Gathering:
    """What reports say, in groups, and their words."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], Told] = {}

    def add(self, envelopes: Iterable[Envelope[Any]]) -> None:
        """Take reports. This is the one step that is done for each event."""
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
            told = groups.get(words)
            if told is None:
                told = groups[words] = Told(*words)
            told.events += 1
            if (speed := event.speed_factor) is not None:
                told.speeds.append(min(max(speed, 0.0), SPEED_MAX))
            if (before := event.input_size_bytes) and (after := event.output_size_bytes) is not None:
                told.reduction_count += 1
                told.reduction_sum += reduction(before, after)

    def items(self) -> Sequence[Told | Named]:
        """Return groups and words."""
        said: Counter[tuple[str, str | None]] = Counter()
        for told in self._groups.values():
            told.add_up()
            for label in WORDS:
                said[label, getattr(told, label)] += told.events
        return [*self._groups.values(), *(Named(label, word, events) for (label, word), events in said.items())]


def _of_told(keys_of: Callable[[Told], Collection[Key]]) -> Callable[[Told | Named], Collection[Key]]:
    """Return the keys of a table that takes no words."""
    return lambda item: keys_of(item) if isinstance(item, Told) else ()


def reduction(input_bytes: int, output_bytes: int) -> int:
    """Return by which fraction the output is smaller than the input, in millionths, rounded half up; below 0 when larger."""
    return max((2 * MILLION * (input_bytes - output_bytes) + input_bytes) // (2 * input_bytes), REDUCTION_MIN * MILLION)


# --- what the predecessor's clients are shown -------------------------------------------------------------------------


@table_row
class Standing:
    """A line of the leaderboard. Sums in millionths. `samples` counts failures, too; they have neither speed nor size."""

    hardware: str
    encoder: str
    codec: str
    resolution: str
    samples: int = 0
    speed_count: int = 0
    speed_sum: Decimal = _ZERO
    reduction_count: int = 0
    reduction_sum: Decimal = _ZERO


def standing_keys(told: Told) -> Collection[tuple[str, str, str, str]]:
    """Return the line of jobs that ended and of which all four are known; an empty text is known."""
    if told.event_type != FINISHED:
        return ()
    if told.hardware is None or told.encoder is None or told.codec is None or told.resolution is None:
        return ()
    return ((told.hardware, told.encoder, told.codec, told.resolution),)


def evolve_standing(row: Standing | None, told: Told) -> Standing:
    """Add what was told."""
    (key,) = standing_keys(told)
    row = row or Standing(*key)
    return replace(
        row,
        samples=row.samples + told.events,
        speed_count=row.speed_count + len(told.speeds),
        speed_sum=_plus(row.speed_sum, told.speed_sum),
        reduction_count=row.reduction_count + told.reduction_count,
        reduction_sum=_plus(row.reduction_sum, told.reduction_sum),
    )


@table_row
class Fault:
    """How often an encoder failed for a reason, whatever kind of event said so."""

    encoder: str
    error: str
    count: int = 0


def fault_keys(told: Told) -> Collection[tuple[str, str]]:
    """Return encoder and reason of a failure, when both are known."""
    if told.status != FAILURE or told.encoder is None or told.reason is None:
        return ()
    return ((told.encoder, told.reason),)


def evolve_fault(row: Fault | None, told: Told) -> Fault:
    """Add what was told."""
    (key,) = fault_keys(told)
    row = row or Fault(*key)
    return replace(row, count=row.count + told.events)


@table_row
class Word:
    """How many events, of any kind, have a word under a label; those that have none are the row that is not `named`."""

    label: str
    named: bool
    word: str
    events: int = 0


def word_keys(item: Told | Named) -> Collection[tuple[str, bool, str]]:
    """Return the word."""
    return ((item.label, item.word is not None, item.word or ""),) if isinstance(item, Named) else ()


def evolve_word(row: Word | None, named: Named) -> Word:
    """Add what was told."""
    (key,) = word_keys(named)
    row = row or Word(*key)
    return replace(row, events=row.events + named.events)


# --- by day and version -----------------------------------------------------------------------------------------------


@table_row
class Outcome:
    """How jobs went that agree in all six; a text that is not known is empty.

    Sums in millionths; `speed_squares` is the sum of the squares of millionths. `speed_bins` are the bins of a DDSketch,
    {key: count}; speeds below SKETCHED_MIN are in none of them.
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


def outcome_keys(told: Told) -> Collection[OutcomeKey]:
    """Return day, version and the four."""
    known = (told.hardware or "", told.encoder or "", told.codec or "", told.resolution or "")
    return ((told.day, told.app_version, *known),)


def evolve_outcome(row: Outcome | None, told: Told) -> Outcome:
    """Add what was told. Speeds and sizes count where a job has ended."""
    (key,) = outcome_keys(told)
    row = row or Outcome(*key)
    if told.event_type == STARTED:
        return replace(row, events=row.events + told.events, started=row.started + told.events)
    if told.event_type != FINISHED:
        return replace(row, events=row.events + told.events)
    return replace(
        row,
        events=row.events + told.events,
        finished=row.finished + told.events,
        succeeded=row.succeeded + told.events * (told.status == SUCCESS),
        failed=row.failed + told.events * (told.status == FAILURE),
        speed_count=row.speed_count + len(told.speeds),
        speed_sum=_plus(row.speed_sum, told.speed_sum),
        speed_squares=_plus(row.speed_squares, told.speed_squares),
        speed_bins=_with_bins(row.speed_bins, told.speed_bins),
        reduction_count=row.reduction_count + told.reduction_count,
        reduction_sum=_plus(row.reduction_sum, told.reduction_sum),
    )


@table_row
class Failed:
    """How many jobs ended in failure for a reason, by the same six."""

    day: date
    app_version: str
    hardware: str
    encoder: str
    codec: str
    resolution: str
    reason: str
    count: int = 0


def failed_keys(told: Told) -> Collection[tuple[date, str, str, str, str, str, str]]:
    """Return the six and the reason of jobs that failed."""
    if told.event_type != FINISHED or told.status != FAILURE:
        return ()
    (key,) = outcome_keys(told)
    return ((*key, told.reason or ""),)


def evolve_failed(row: Failed | None, told: Told) -> Failed:
    """Add what was told."""
    (key,) = failed_keys(told)
    row = row or Failed(*key)
    return replace(row, count=row.count + told.events)


def millionths(value: float) -> int:
    """Return a speed in millionths, rounded."""
    return round(value * MILLION)


def _plus(total: Decimal, more: int) -> Decimal:
    return _EXACT.add(total, Decimal(more))


def _with_bins(bins: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return bins | {name: bins.get(name, 0) + count for name, count in more.items()}


PROJECTION = Projection(
    "telemetry",
    (TELEMETRY,),
    (
        Table("leaderboard", Standing, ("hardware", "encoder", "codec", "resolution"), _of_told(standing_keys), evolve_standing),
        Table("stability", Fault, ("encoder", "error"), _of_told(fault_keys), evolve_fault),
        Table("words", Word, ("label", "named", "word"), word_keys, evolve_word),
        Table(
            "outcomes",
            Outcome,
            ("day", "app_version", "hardware", "encoder", "codec", "resolution"),
            _of_told(outcome_keys),
            evolve_outcome,
        ),
        Table(
            "failures",
            Failed,
            ("day", "app_version", "hardware", "encoder", "codec", "resolution", "reason"),
            _of_told(failed_keys),
            evolve_failed,
        ),
    ),
    _SQL["create"],
    gathering=Gathering,
    seen="seen",
    decode_all=read_all,
)
