"""Estimates from groups of outcomes, with their uncertainty. Pure; confidence is 95 % throughout."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from ddsketch.ddsketch import BaseDDSketch
from ddsketch.store import DenseStore

from projections.telemetry.insights import Group
from projections.telemetry.projection import MILLION, SKETCH

CONFIDENCE = 0.95
SIGNIFICANT_P = 1 - CONFIDENCE
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.5 + CONFIDENCE / 2)
_T = (
    *(12.7062047, 4.3026527, 3.1824463, 2.7764451, 2.5705818, 2.4469119, 2.3646243, 2.3060041, 2.2621572, 2.2281389),
    *(2.2009852, 2.1788128, 2.1603687, 2.1447867, 2.1314495, 2.1199053, 2.1098156, 2.1009220, 2.0930241, 2.0859634),
    *(2.0796138, 2.0738731, 2.0686576, 2.0638986, 2.0595386, 2.0555294, 2.0518305, 2.0484071, 2.0452296, 2.0422725),
)
"""Two-sided quantiles of Student's t at 95 % confidence, for 1, 2, 3 … degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of video per second: the mean with its t interval, and quantiles within 1 %."""

    samples: int
    mean: float
    low: float
    high: float
    median: float
    p10: float
    p90: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two groups; `p_value` is the probability of at least this difference if the groups were alike."""

    value: float
    low: float | None
    high: float | None
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether chance alone is an unlikely explanation."""
        return self.p_value < SIGNIFICANT_P


def proportion(hits: int, tries: int) -> Estimate | None:
    """Return a rate with its Wilson score interval (Wilson, JASA 22, 1927); None without tries."""
    if not tries:
        return None
    rate = hits / tries
    centre = (rate + _Z**2 / (2 * tries)) / (1 + _Z**2 / tries)
    half = _Z / (1 + _Z**2 / tries) * sqrt(rate * (1 - rate) / tries + _Z**2 / (4 * tries**2))
    return Estimate(rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def success_rate(group: Group) -> Estimate | None:
    """Return the share of ended jobs that succeeded. Jobs that ended without a status do not count."""
    return proportion(group.succeeded, group.succeeded + group.failed)


def speed(group: Group) -> Speed | None:
    """Return the group's speed; None when no job reported one. The interval of a single sample is that sample."""
    count = group.speed_count
    if not count:
        return None
    mean = float(group.speed_sum / count) / MILLION
    half = 0.0
    if count > 1:
        squares = group.speed_squares - group.speed_sum * group.speed_sum / count
        deviation = sqrt(max(0.0, float(squares) / (count - 1))) / MILLION
        half = _t(count - 1) * deviation / sqrt(count)
    sketch = sketch_of(group)
    p10, median, p90 = (float(sketch.get_quantile_value(quantile) or 0.0) for quantile in (0.1, 0.5, 0.9))
    return Speed(count, mean, max(0.0, mean - half), mean + half, median, p10, p90)


def _t(freedom: int) -> float:
    """Return the quantile of Student's t, from the table or by expansion, within 1e-7 (Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = _Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / float(freedom) ** power for power, term in enumerate(terms))


def reduction_percent(group: Group) -> float | None:
    """Return the average reduction in size from input to output, percent."""
    return float(group.reduction_sum / group.reduction_count) / MILLION * 100 if group.reduction_count else None


def sketch_of(group: Group) -> BaseDDSketch:
    """Return the group's sketch of speeds. Speeds in no bin are below SKETCHED_MIN and count as zero."""
    store = DenseStore()
    for key, count in group.speed_bins.items():
        store.add(int(key), count)
    return BaseDDSketch(SKETCH, store, DenseStore(), group.speed_count - store.count)


def rate_difference(one: Group, other: Group) -> Difference | None:
    """Return the difference of success rates, `one` minus `other`; None when either group has none.

    The interval is Newcombe's hybrid of two Wilson intervals (Statistics in Medicine 17, 1998, method 10). The test is the
    two-proportion z test with a pooled rate.
    """
    first, second = success_rate(one), success_rate(other)
    if first is None or second is None:
        return None
    value = first.value - second.value
    low = value - sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    high = value + sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    tries, others = one.succeeded + one.failed, other.succeeded + other.failed
    pooled = (one.succeeded + other.succeeded) / (tries + others)
    error = sqrt(pooled * (1 - pooled) * (1 / tries + 1 / others))
    return Difference(value, low, high, _two_sided(value / error) if error else 1.0)


def faster(one: Group, other: Group) -> Difference | None:
    """Return the probability that a job of `one` is faster than one of `other` (a tie counts half); None without speeds.

    Runs the Mann-Whitney U test with correction for ties (Annals of Mathematical Statistics 18, 1947) on the sketches'
    bins: speeds within 2 % of each other tie. Anybody can report absurd speeds; a few of them hardly change the result.
    """
    count, others = one.speed_count, other.speed_count
    if not count or not others:
        return None
    total = count + others
    below, wins, ties = 0, 0.0, 0
    for mine, theirs in _side_by_side(one, other):
        wins += mine * (below + theirs / 2)
        below += theirs
        ties += (mine + theirs) ** 3 - (mine + theirs)
    variance = count * others / 12 * (total + 1 - ties / (total * (total - 1)))
    z = (wins - count * others / 2) / sqrt(variance) if variance > 0 else 0.0
    return Difference(wins / (count * others), None, None, _two_sided(z))


def _side_by_side(one: Group, other: Group) -> list[tuple[int, int]]:
    """Return each group's count of speeds per bin, the slowest bin first."""
    zeros = one.speed_count - sum(one.speed_bins.values()), other.speed_count - sum(other.speed_bins.values())
    keys = sorted({*one.speed_bins, *other.speed_bins}, key=int)
    return [zeros, *((one.speed_bins.get(key, 0), other.speed_bins.get(key, 0)) for key in keys)]


def _two_sided(z: float) -> float:
    return 2 * _NORMAL.cdf(-abs(z))
