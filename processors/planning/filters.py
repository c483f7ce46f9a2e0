"""The picture filters of a plan: fields, frame rate, transparency, and one set of colours for every output. Pure.

An output is BT.709 in limited range and has all four tags, whatever its height: players guess a missing tag from the height of
the rung. High dynamic range that is kept is BT.2020. The source's own tags count where the scaler knows them. A rule decides
missing or reserved tags and writes them onto the pictures first, so that no filter guesses.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from events.media import VideoTrack

SCALE_MATRICES = frozenset(("gbr", "bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc"))
"""Matrices that ffmpeg's `scale` knows; `zscale` knows the others, too, by name: ictcp in high dynamic range only."""
YUV_MATRICES = SCALE_MATRICES - {"gbr"} | {"ycgco", "ictcp"}
PRIMARIES = frozenset(
    ("bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020", "smpte428", "smpte431", "smpte432", "ebu3213")
)
TRANSFERS = frozenset(("linear", "log100", "log316"))
"""Transfers that change the shown picture. Every player shows all others of standard range alike; they stay as they are."""
HDR_TRANSFERS = {"pq": "smpte2084", "hlg": "arib-std-b67"}
RGB = ("rgb", "bgr", "gbr", "0rgb", "0bgr", "argb", "abgr", "x2rgb", "x2bgr", "pal8", "gray", "ya8", "ya16", "mono", "xyz", "bayer")
"""Pixel formats without a matrix: ffmpeg converts them to RGB by itself."""
LONGER_MIN, SHORTER_MIN = 1280, 577
"""Least pixels of a side at which untagged pictures count as high definition (mpv's rule, upright or not)."""


@dataclass(frozen=True, slots=True)
class Colors:
    """Matrix, primaries, transfer and range, by ffmpeg's names. `guessed` names a matrix that had to be replaced."""

    matrix: str
    primaries: str
    transfer: str
    range: Literal["tv", "pc"]
    guessed: str | None = None

    @property
    def tags(self) -> str:
        """The filter that writes the tags onto pictures, as far as `scale` accepts them: `zscale` gets names instead."""
        matrix = self.matrix if self.matrix in SCALE_MATRICES else STANDARD.matrix
        transfer = STANDARD.transfer if self.transfer in TRANSFERS else self.transfer
        return f"setparams=range={self.range}:color_primaries={self.primaries}:color_trc={transfer}:colorspace={matrix}"


STANDARD = Colors("bt709", "bt709", "bt709", "tv")


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters: `source` comes first and keeps pictures as they are, `picture` follows; `notes` describe them for a person."""

    source: tuple[str, ...]
    picture: tuple[str, ...]
    notes: tuple[str, ...]


def filters(track: VideoTrack, rate: Fraction, keep_hdr: bool) -> Filters:
    """Return the filters before split and scaling, and notes about their effect."""
    source = colors_of(track)
    pace = f"fps=fps={rate.numerator}/{rate.denominator}:start_time=0:round=near"
    return Filters((source.tags,), (*deinterlace(track), pace, *_colors(track, source, keep_hdr)), _notes(track, source, keep_hdr))


def still_filters(track: VideoTrack) -> tuple[str, ...]:
    """Return the filters for the thumbnail: colours for an eight-bit picture, square pixels, no frame rate."""
    source = colors_of(track)
    sar = track.sample_aspect_ratio
    square = () if sar in ("1:1", "0:1") else ("scale=trunc(iw*sar/2)*2:trunc(ih/2)*2", "setsar=1")
    return (source.tags, *deinterlace(track), *square, *_colors(track, source, keep_hdr=False))


def deinterlace(track: VideoTrack) -> tuple[str, ...]:
    """Return the filter that makes one picture of two fields."""
    return (f"bwdif=mode=send_frame:parity={track.field_order or 'auto'}:deint=all",) if track.interlaced else ()


def colors_of(track: VideoTrack) -> Colors:
    """Return the colours of the source: its usable tags, else by rule.

    RGB has no matrix. JPEG is BT.601, HDR BT.2020. Of the rest, high definition is BT.709 and smaller pictures are BT.601.
    """
    if track.color_space in ("gbr", "rgb") or track.pixel_format.startswith(RGB):
        matrix, guessed = "gbr", None
    elif track.color_space in YUV_MATRICES and (track.hdr or track.color_space != "ictcp"):
        matrix, guessed = track.color_space, None
    else:
        matrix, guessed = _by_rule(track), track.color_space
    default = "bt2020" if track.hdr else "bt709"
    primaries = track.color_primaries if track.color_primaries in PRIMARIES else default
    transfer = track.color_transfer if track.color_transfer in TRANSFERS else "bt709"
    full = matrix == "gbr" or track.color_range == "pc" or track.pixel_format.startswith("yuvj")
    return Colors(matrix, primaries, HDR_TRANSFERS[track.hdr] if track.hdr else transfer, "pc" if full else "tv", guessed)


def _by_rule(track: VideoTrack) -> str:
    if track.hdr or track.color_space == "bt2020c":
        return "bt2020nc"
    if track.codec == "mjpeg":
        return "bt470bg"
    shorter, longer = sorted((track.display_width, track.display_height))
    return "bt709" if longer >= LONGER_MIN or shorter >= SHORTER_MIN else "smpte170m"


def _colors(track: VideoTrack, source: Colors, keep_hdr: bool) -> tuple[str, ...]:
    """Return the filters that convert the colours to those of the outputs, and tag them."""
    target = Colors("bt2020nc", "bt2020", source.transfer, "tv") if keep_hdr else STANDARD
    chain: list[str] = []
    if track.has_alpha:
        source = replace(source, matrix="gbr", range="pc")
        chain += ["format=gbrap|gbrap10le|gbrap12le|gbrap16le", source.tags]
        chain += [] if track.premultiplied else ["premultiply=inplace=1"]
    if source.matrix == "gbr":
        chain += ["format=gbrp|gbrp10le|gbrp12le|gbrp14le|gbrp16le", source.tags]
    if track.hdr is not None and not keep_hdr:
        chain += [*_even(track), *_tone_map(source)]
    elif replace(source, guessed=None) != target:
        made = f"m={target.matrix}:p={target.primaries}:t={_shown(source, target)}:r=limited"
        chain += [*_even(track), f"{_zscale(source)}:{made}", f"format={'yuv420p10le' if track.bit_depth > 8 else 'yuv420p'}"]
    return (*chain, target.tags)


def _zscale(source: Colors) -> str:
    """Return the beginning of a conversion. The range is the picture's: ffmpeg changes it with some pixel formats."""
    return f"zscale=min={source.matrix}:pin={source.primaries}:tin={source.transfer}"


def _shown(source: Colors, target: Colors) -> str:
    """Return the target transfer: linear or logarithmic light becomes sRGB, which all players show alike."""
    return "iec61966-2-1" if source.transfer in TRANSFERS else target.transfer


def _tone_map(source: Colors) -> tuple[str, ...]:
    return (
        f"{_zscale(source)}:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=limited",
        "format=yuv420p",
    )


def _even(track: VideoTrack) -> tuple[str, ...]:
    """Return a filter for odd sides, which `zscale` refuses where colour has half the resolution."""
    odd = track.display_width % 2 or track.display_height % 2 or track.sample_aspect_ratio not in ("1:1", "0:1")
    return ("scale=max(2\\,trunc(iw/2)*2):max(2\\,trunc(ih/2)*2)",) if odd else ()


def _notes(track: VideoTrack, source: Colors, keep_hdr: bool) -> tuple[str, ...]:
    notes = []
    if track.interlaced:
        notes.append("interlaced, deinterlaced (one picture per frame)")
    if track.hdr is not None:
        name = track.hdr.upper()
        notes.append(f"HDR ({name}) is kept, 10 bit" if keep_hdr else f"HDR ({name}) is tone-mapped to SDR (BT.709)")
    if track.sample_aspect_ratio not in ("1:1", "0:1"):
        notes.append(f"pixels of {track.sample_aspect_ratio} are made square")
    if track.has_alpha and not track.opaque:
        notes.append("where pictures are transparent, black is shown")
    if source.guessed is not None:
        notes.append(f"the colour matrix {source.guessed} is unknown; the pictures are taken for {source.matrix}")
    return tuple(notes)
