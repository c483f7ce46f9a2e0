"""Colours as a player shows them, against those that a source has."""

from pathlib import Path

from tests.support.transcoding import Video, ffmpeg

TOLERANCE = 3
THUMBNAIL_TOLERANCE = 5
"""JPEG of quality 4."""


def shown(path: Path, count: int) -> list[tuple[int, ...]]:
    """Return the colours in the middle of `count` patches of the first picture, as a player that believes its tags shows them."""
    exact = "scale=sws_flags=accurate_rnd+full_chroma_int+bicubic,format=gbrp,format=rgb24"
    data = ffmpeg("-v", "error", "-i", str(path), "-frames:v", "1", "-vf", f"{exact},scale=600:100:flags=area", "-f", "rawvideo")
    return [tuple(data[(50 * 600 + (2 * n + 1) * 300 // count) * 3 :][:3]) for n in range(count)]


def rungs(video: Video) -> list[Path]:
    """Return a file for each rung."""
    assert video.plan.video is not None
    return [video.whole(rung.name) for rung in video.plan.video.rungs]


def thumbnail(video: Video) -> Path:
    """Return the thumbnail's file."""
    (result,) = (result for result in video.results.values() if result.kind == "extras")
    assert result.thumbnail is not None
    return video.store.path_of(result.thumbnail.key)


def assert_close(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], tolerance: int) -> None:
    """Check that all components are as near as this."""
    apart = [abs(a - b) for one, other in zip(found, wanted, strict=True) for a, b in zip(one, other, strict=True)]
    assert max(apart) <= tolerance, (found, wanted)
