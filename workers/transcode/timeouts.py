"""Time limits for ffmpeg: VLog's formula (contracts §1.2), for several rungs in one decode. Pure."""

from collections.abc import Iterable

FACTORS = ((360, 1.0), (480, 1.25), (720, 1.5), (1080, 2.0), (1440, 2.5), (2160, 3.5))
"""Height of a rung (its shorter side) -> its encoding time relative to 360p."""
SECONDS_PER_SECOND = 2.0
TIMEOUT_MIN_S = 300.0
TIMEOUT_MAX_S = 14_400.0


def timeout_s(duration_ms: int, heights: Iterable[int] = ()) -> float:
    """Return the time limit for making rungs of these heights from a source of this duration, in seconds.

    The factors of the rungs add up, since all come from one run; no rung at all (sound, extras) counts as the lowest. A
    height between two steps counts as the higher one. The result lies between 300 and 14,400 seconds.
    """
    factor = sum(_factor(height) for height in heights) or FACTORS[0][1]
    return min(TIMEOUT_MAX_S, max(TIMEOUT_MIN_S, duration_ms / 1000 * SECONDS_PER_SECOND * factor))


def _factor(height: int) -> float:
    return next((factor for step, factor in FACTORS if height <= step), FACTORS[-1][1])
