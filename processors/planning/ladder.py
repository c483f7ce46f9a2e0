"""The rungs of a picture: `ladder(width, height) -> rungs`. Pure.

Heights, video and audio rates (kbit/s) are VLog's: contracts §1.2. A rung is named after the shorter side of its picture: a
portrait clip of 1080x1920 gets 1080p, 720p, 480p and 360p, upright. Nothing is upscaled; a source whose shorter side is below 360
gets one rung of its own size.
"""

from fractions import Fraction

from events.media import Rung

LADDER = (
    (2160, 15000, 192),
    (1440, 8000, 192),
    (1080, 5000, 128),
    (720, 2500, 128),
    (480, 1000, 96),
    (360, 600, 96),
)
SMALLEST_PIXELS = 640 * 360
VIDEO_KBPS_MIN = 50


def ladder(width: int, height: int) -> tuple[Rung, ...]:
    """Return the rungs for a picture of this display size, highest first: all steps that its shorter side reaches.

    Sides are even and no larger than the source's; a side is at least 2 (the one case in which a picture grows: from 1).
    """
    shorter = min(width, height)
    steps = [step for step in LADDER if step[0] <= shorter]
    if not steps:
        scaled = round(LADDER[-1][1] * width * height / SMALLEST_PIXELS)
        steps = [(shorter, max(VIDEO_KBPS_MIN, min(LADDER[-1][1], scaled)), LADDER[-1][2])]
    return tuple(
        Rung(
            name=f"{_even(step)}p",
            width=_scaled(width, step, shorter),
            height=_scaled(height, step, shorter),
            video_kbps=video_kbps,
            audio_kbps=audio_kbps,
        )
        for step, video_kbps, audio_kbps in steps
    )


def _scaled(side: int, step: int, shorter: int) -> int:
    """Return the side when the shorter one becomes `step`: the nearest even number, at most the source's."""
    return min(_even(side), max(2, 2 * round(Fraction(side * step, 2 * shorter))))


def _even(side: int) -> int:
    """Return the side rounded down to an even number, at least 2."""
    return max(2, side // 2 * 2)
