"""The rungs of a picture: `ladder(width, height, steps) -> rungs`. Pure.

A rung is named after the shorter side of its picture: a portrait clip of 1080x1920 gets 1080p, 720p, 480p and 360p, upright.
Nothing is upscaled; a source whose shorter side is below the lowest step gets one rung of its own size.
"""

from collections.abc import Sequence
from fractions import Fraction

from events.media import LADDER, LadderStep, Rung

VIDEO_KBPS_MIN = 50


def ladder(width: int, height: int, steps: Sequence[LadderStep] = LADDER) -> tuple[Rung, ...]:
    """Return the rungs for a picture of this display size, highest first: all steps that its shorter side reaches.

    Sides are even and no larger than the source's; a side is at least 2 (the one case in which a picture grows: from 1).
    """
    shorter = min(width, height)
    reached = [step for step in steps if step.height <= shorter] or [_below(steps[-1], width, height)]
    return tuple(
        Rung(
            name=f"{_even(step.height)}p",
            width=_scaled(width, step.height, shorter),
            height=_scaled(height, step.height, shorter),
            video_kbps=step.video_kbps,
            audio_kbps=step.audio_kbps,
        )
        for step in reached
    )


def _below(lowest: LadderStep, width: int, height: int) -> LadderStep:
    """Return the step of a picture below the lowest one, with as much less of its bit rate as it has less pixels (16:9)."""
    scaled = round(lowest.video_kbps * Fraction(9 * width * height, 16 * lowest.height**2))
    video_kbps = max(VIDEO_KBPS_MIN, min(lowest.video_kbps, scaled))
    return lowest.model_copy(update={"height": min(width, height), "video_kbps": video_kbps})


def _scaled(side: int, step: int, shorter: int) -> int:
    """Return the side when the shorter one becomes `step`: the nearest even number, at most the source's."""
    return min(_even(side), max(2, 2 * round(Fraction(side * step, 2 * shorter))))


def _even(side: int) -> int:
    """Return the side rounded down to an even number, at least 2."""
    return max(2, side // 2 * 2)
