"""Estimates against textbook values and against what a simulation says."""

import random
from dataclasses import replace
from decimal import Decimal
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from projections.telemetry import estimates
from projections.telemetry import projection as telemetry
from projections.telemetry.insights import NOTHING, Group
from projections.telemetry.projection import MILLION, RELATIVE_ACCURACY
from tests.support.folding import folded
from tests.support.shelf import reported

SPEEDS = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60)


def group(*speeds: float, succeeded: int = 0, failed: int = 0) -> Group:
    """Return the group that the folds make of speeds."""
    rows = folded(telemetry.PROJECTION, [reported(number, speed_factor=speed) for number, speed in enumerate(speeds)])["outcomes"]
    sums = {"succeeded": succeeded, "failed": failed}
    if rows:
        (row,) = rows.values()
        sums |= {name: getattr(row, name) for name in ("speed_count", "speed_sum", "speed_squares", "speed_bins")}
    return replace(NOTHING, **sums)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 29, 0.0061, 0.1718)],
)
def test_a_rate_has_wilsons_interval(hits: int, tries: int, low: float, high: float) -> None:
    """81 of 263 and 1 of 29 are Newcombe's own examples (Statistics in Medicine 17, 1998)."""
    found = estimates.proportion(hits, tries)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_rates_that_differ_have_newcombes_interval() -> None:
    """56 of 70 against 48 of 80, from the same work: 0.0524 to 0.3339."""
    found = estimates.rate_difference(group(succeeded=56, failed=14), group(succeeded=48, failed=32))
    assert found is not None and found.low is not None and found.high is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert found.significant


@given(st.one_of(st.integers(1, 200), st.integers(1, 10**9)))
def test_the_quantile_of_students_t_is_scipys(freedom: int) -> None:
    assert estimates._t(freedom) == pytest.approx(stats.t.ppf(0.5 + estimates.CONFIDENCE / 2, freedom), rel=1e-7)


def test_nothing_is_known_of_nothing() -> None:
    assert estimates.success_rate(NOTHING) is None
    assert estimates.speed(NOTHING) is None
    assert estimates.reduction_percent(NOTHING) is None
    assert estimates.faster(NOTHING, group(1.0)) is None
    assert estimates.rate_difference(NOTHING, group(succeeded=1)) is None


@given(SPEEDS)
def test_speeds_have_their_mean_and_t_interval_and_quantiles_within_a_percent(speeds: list[float]) -> None:
    found = estimates.speed(group(*speeds))
    assert found is not None
    mean = sum(speeds) / len(speeds)
    assert found.mean == pytest.approx(mean, abs=1e-5)
    if len(speeds) > 1 and (deviation := stdev(speeds)) > 0.01:
        half = deviation / len(speeds) ** 0.5 * stats.t.ppf(0.975, len(speeds) - 1)
        assert (found.low, found.high) == pytest.approx((max(0, mean - half), mean + half), rel=1e-3, abs=1e-3)
    ordered = sorted(speeds)
    for quantile, value in ((0.1, found.p10), (0.5, found.median), (0.9, found.p90)):
        lower = ordered[int(quantile * (len(speeds) - 1))]
        assert lower * (1 - RELATIVE_ACCURACY) - 1e-9 <= value <= lower * (1 + RELATIVE_ACCURACY) + 1e-9


def test_what_is_hardly_a_speed_is_zero_to_the_sketch() -> None:
    found = estimates.speed(group(0.0, 1e-9, 0.0009, 2.0))
    assert found is not None and (found.p10, found.median) == (0.0, 0.0)
    assert found.p90 <= 2.02


@given(SPEEDS, SPEEDS)
def test_who_is_faster_is_what_scipy_says_of_the_same_bins(one: list[float], other: list[float]) -> None:
    found = estimates.faster(group(*one), group(*other))
    assert found is not None
    keys = [[telemetry.SKETCH.key(speed) for speed in speeds] for speeds in (one, other)]
    expected = stats.mannwhitneyu(*keys, use_continuity=False, method="asymptotic")
    assert found.value == pytest.approx(expected.statistic / (len(one) * len(other)))
    if expected.pvalue == expected.pvalue:  # not a number when all are equal
        assert found.p_value == pytest.approx(expected.pvalue, abs=1e-6)


def test_absurd_speeds_do_not_decide_who_is_faster() -> None:
    rng = random.Random(3)
    slow = [rng.lognormvariate(0, 0.3) for _ in range(200)]
    fast = [rng.lognormvariate(0.5, 0.3) for _ in range(200)]
    found = estimates.faster(group(*fast), group(*slow, 1e6, 1e6, 1e6))
    assert found is not None and found.value > 0.8 and found.significant
    same = estimates.faster(group(*slow[:100]), group(*slow[100:]))
    assert same is not None and not same.significant


def test_sums_are_exact_whatever_their_size() -> None:
    huge = group(*[1e6] * 50)
    assert huge.speed_sum == Decimal(50 * MILLION * MILLION)
    assert huge.speed_squares == 50 * Decimal(MILLION * MILLION) ** 2
    found = estimates.speed(huge)
    assert found is not None and found.low == found.mean == found.high == 1e6
