"""How many channels become two (or one) without any getting lost or too loud. Pure.

ffmpeg knows how to mix every layout that has a name. Left are ambisonics, whose channels are no loudspeakers, and files
that do not say which channel is which: these are mixed here.
"""

from math import ceil, sqrt

NAMED_COUNTS = frozenset((*range(1, 9), 10, 12, 14, 16, 24))
"""Numbers of channels for which ffmpeg takes a layout for granted when a file names none (tried)."""
PEAK = 0.85
"""Loudest sample that is encoded, of 1. Added up, six loud channels reach 2.5; the encoder overshoots by an eighth where
sound begins at once."""

LIMITER = f"alimiter=limit={PEAK}:level=disabled:attack=5:release=50:latency=enabled"
"""Quiet passages keep their loudness, which a mix made quieter as a whole would not."""


def mix(layout: str, channels: int) -> str | None:
    """Return the filter that makes stereo of this layout (ffmpeg's name); None where ffmpeg itself knows how.

    Of ambisonics the first two channels (ACN order: all around, left less right) give two microphones back to back. Of
    channels without a name the even ones go left and the odd ones right.
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
