"""Mixing of many channels to two (or one) so that none is lost or too loud. Pure.

ffmpeg can mix every layout that has a name. This module mixes the rest: ambisonics, whose channels are no loudspeakers, and
files that do not identify their channels.
"""

from math import ceil, sqrt

NAMED_COUNTS = frozenset((*range(1, 9), 10, 12, 14, 16, 24))
"""Numbers of channels for which ffmpeg assumes a layout when a file names none (tried)."""
PEAK = 0.85
"""Loudest encoded sample, of 1. Six loud channels add up to 2.5; the encoder overshoots by an eighth when sound begins
abruptly."""

LIMITER = f"alimiter=limit={PEAK}:level=disabled:attack=5:release=50:latency=enabled"
"""A limiter keeps the loudness of quiet passages; lowering the whole mix would not."""


def mix(layout: str, channels: int) -> str | None:
    """Return the filter that makes stereo of this layout (ffmpeg's name); None when ffmpeg itself can mix it.

    The first two ambisonic channels (ACN order: all around, left minus right) give two microphones back to back. Unnamed
    channels go left when even and right when odd.
    """
    if layout.startswith("ambisonic"):
        return "pan=stereo|FL=0.707*c0+0.707*c1|FR=0.707*c0-0.707*c1"
    if layout == "binaural":
        return "pan=stereo|FL=c0|FR=c1"
    if layout != "unknown" and not layout.endswith("channels"):
        return None
    if channels in NAMED_COUNTS or channels < 1:
        return None
    gain = 1 / sqrt(ceil(channels / 2))
    sides = ("+".join(f"{gain:.3f}*c{number}" for number in range(side, channels, 2)) for side in (0, 1))
    return "pan=stereo|FL={}|FR={}".format(*sides)
