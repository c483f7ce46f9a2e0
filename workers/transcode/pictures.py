"""Size, orientation, colours, fields and captions of a video, from a few decoded pictures. Pure.

Headers do not show these. The sample is decoded by the ffmpeg and the options of the encoding, so its answer holds for the
pictures that will be encoded: it has applied cropping, clean aperture, orientation (matrix, SEI, EXIF) and mirrors.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from events.media import VideoTrack
from workers.transcode.argv import decoding, reading
from workers.transcode.probe import HDR_TRANSFERS, aspect, bit_depth

SAMPLE_PICTURES = 25
LARGE_SAMPLE_PICTURES = 8
"""In HEVC at 2160p, 25 pictures take 0.9 s of a core, 4 take 0.3 s. Pictures of that size never consist of fields."""
INTERLACING_THRESHOLD = 1.5
"""For `idet`. At its default, 1.04, sharp test patterns count as interlaced; moving combs still count at 2 (measured)."""
TRANSPARENCY = ("format=yuva420p", "alphaextract", "format=gray", "negate", "bbox=min_val=1")
"""Filters that print a box around every pixel that is not opaque."""
COMBED_MIN = 8
COMBED_SHARE_MIN = 0.5
OTHER_ORDER_SHARE_MAX = 0.1
FLAGGED_SHARE_MIN = 0.1
SECOND_SAMPLE_S = 10
INTERLACED_HEIGHT_MIN, INTERLACED_HEIGHT_MAX = 480, 1152
INTERLACED_RATE_MAX = Fraction(31)

_PICTURE = re.compile(r" fmt:(\S+) .*\bsar:(\d+/\d+) s:(\d+)x(\d+) i:([PTB?])")
_COLORS = re.compile(r" color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)")
_COMBS = re.compile(r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)")
_UNKNOWN = ("unknown", "unspecified", "reserved")


@dataclass
class Sample:
    """Findings of ffmpeg's `showinfo` and `idet` on some pictures, read line by line."""

    pixel_format: str = ""
    sample_aspect_ratio: str = "1/1"
    size: tuple[int, int] = (0, 0)
    colors: tuple[str | None, str | None, str | None, str | None] = (None, None, None, None)
    """Range, matrix, primaries, transfer."""
    fields: Counter[str] = field(default_factory=Counter)
    """Pictures by their flag: P(rogressive), T(op) or B(ottom field first)."""
    combs: tuple[int, int, int] = (0, 0, 0)
    """Counts of pictures that look interlaced with the top field first, with the bottom field first, and progressive."""
    captions: bool = False
    premultiplied: bool = False
    alphas: int = 0
    """Pictures whose alpha channel was looked at."""
    transparent: bool = False

    def add(self, line: str) -> None:
        """Read one line of ffmpeg's standard error."""
        if "showinfo" in line:
            self._picture(line)
        elif (found := _COMBS.search(line)) is not None:
            self.combs = (int(found[1]), int(found[2]), int(found[3]))
        elif "Parsed_bbox" in line:
            self.alphas += 1
            self.transparent = self.transparent or " x1:" in line

    def _picture(self, line: str) -> None:
        if (found := _PICTURE.search(line)) is not None:
            self.fields[found[5]] += 1
            if not self.pixel_format:
                self.pixel_format, self.sample_aspect_ratio = found[1], found[2]
                self.size = (int(found[3]), int(found[4]))
        elif (found := _COLORS.search(line)) is not None:
            if self.fields.total() == 1:
                known = [None if word in _UNKNOWN else word for word in found.groups()]
                self.colors = (known[0], known[1], known[2], known[3])
        elif "A53 Part 4" in line:
            self.captions = True
        elif "alpha_mode:premultiplied" in line:
            self.premultiplied = True


def sample_argv(ffmpeg: str, source: Path, track: VideoTrack, threads: int, at_s: Fraction | None) -> list[str]:
    """Return the command that decodes a few pictures, from the start or from `at_s` on the source's own clock."""
    seek = () if at_s is None else ("-seek_timestamp", "1", "-ss", f"{float(at_s):.3f}")
    filters = ",".join(("showinfo=checksum=0", f"idet=intl_thres={INTERLACING_THRESHOLD}", *_alpha_filters(track)))
    pictures = SAMPLE_PICTURES if track.height <= INTERLACED_HEIGHT_MAX else LARGE_SAMPLE_PICTURES
    return [
        *reading(ffmpeg, None, source, threads, *decoding(track.decoder), *seek),
        *("-map", f"0:{track.index}", "-frames:v", str(pictures), "-vf", filters, "-f", "null", "-"),
    ]


def _alpha_filters(track: VideoTrack) -> tuple[str, ...]:
    """Return the filters that find transparency; the headers name an alpha channel, or a decoder chosen for it."""
    return TRANSPARENCY if track.has_alpha or track.decoder is not None else ()


def sample_moments(track: VideoTrack) -> tuple[Fraction | None, ...]:
    """Return the moments to sample; None is the start. A still beginning may hide fields or transparency: see the middle, too."""
    fields = INTERLACED_HEIGHT_MIN <= track.height <= INTERLACED_HEIGHT_MAX and Fraction(track.frame_rate) <= INTERLACED_RATE_MAX
    if not (fields or _alpha_filters(track)) or not track.seekable or track.duration_ms < SECOND_SAMPLE_S * 1000:
        return (None,)
    return None, Fraction(track.start_ms + track.duration_ms // 2, 1000)


def as_decoded(track: VideoTrack, samples: list[Sample]) -> VideoTrack:
    """Return the track with the properties of its pictures; unchanged when none could be decoded."""
    seen = next((sample for sample in samples if sample.pixel_format), None)
    if seen is None:
        return track
    color_range, color_space, primaries, transfer = seen.colors
    transfer = transfer or track.color_transfer
    sar = aspect(seen.sample_aspect_ratio)
    interlaced, order = _interlacing(samples)
    return track.model_copy(
        update={
            "display_width": max(1, round(seen.size[0] * sar)),
            "display_height": seen.size[1],
            "sample_aspect_ratio": f"{sar.numerator}:{sar.denominator}",
            "pixel_format": seen.pixel_format,
            "bit_depth": bit_depth(seen.pixel_format, track.bit_depth),
            "color_range": color_range or track.color_range,
            "color_space": color_space or track.color_space,
            "color_primaries": primaries or track.color_primaries,
            "color_transfer": transfer,
            "hdr": HDR_TRANSFERS.get(transfer),
            "interlaced": track.interlaced or interlaced,
            "field_order": order,
            "premultiplied": seen.premultiplied,
            "opaque": any(sample.alphas for sample in samples) and not any(sample.transparent for sample in samples),
            "captions": any(sample.captions for sample in samples),
        }
    )


def _interlacing(samples: list[Sample]) -> tuple[bool, Literal["tff", "bff"] | None]:
    """Return whether pictures consist of fields, by their flags or else by their combs; only combs give the order."""
    for sample in samples:
        flagged = sample.fields["T"] + sample.fields["B"]
        if flagged and flagged >= FLAGGED_SHARE_MIN * sample.fields.total():
            return True, None
    for sample in samples:
        top, bottom, progressive = sample.combs
        more, less = max(top, bottom), min(top, bottom)
        enough = more >= COMBED_MIN and more >= COMBED_SHARE_MIN * (top + bottom + progressive)
        if enough and less <= OTHER_ORDER_SHARE_MAX * more:
            return True, "tff" if top > bottom else "bff"
    return False, None
