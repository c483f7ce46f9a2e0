"""Whatever a source says of its colours, the outputs look alike to everybody."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.planning.filters import PRIMARIES, SCALE_MATRICES, YUV_MATRICES, colors_of, filters, still_filters
from tests.support.footage import video_track

WORDS = st.sampled_from(
    [*sorted(YUV_MATRICES | PRIMARIES), "gbr", "bt2020c", "reserved", "chroma-derived-nc", "linear", "log100", None]
)
FORMATS = st.sampled_from(
    ["yuv420p", "yuvj422p", "yuv444p12le", "nv12", "gray", "rgb24", "bgra", "yuva420p", "pal8", "monob", "xyz12le"]
)


@pytest.mark.parametrize(
    ("changes", "matrix", "color_range"),
    [
        ({}, "smpte170m", "tv"),
        ({"display_width": 1280, "display_height": 534}, "bt709", "tv"),
        ({"display_width": 480, "display_height": 640}, "smpte170m", "tv"),
        ({"display_width": 720, "display_height": 960}, "bt709", "tv"),
        ({"display_width": 768, "display_height": 576}, "smpte170m", "tv"),
        ({"codec": "mjpeg", "display_width": 1920, "pixel_format": "yuvj420p"}, "bt470bg", "pc"),
        ({"color_space": "bt709"}, "bt709", "tv"),
        ({"color_space": "bt470bg", "display_width": 1920}, "bt470bg", "tv"),
        ({"color_range": "pc"}, "smpte170m", "pc"),
        ({"pixel_format": "gbrp", "color_range": "tv"}, "gbr", "pc"),
        ({"pixel_format": "gray"}, "gbr", "pc"),
        ({"hdr": "pq"}, "bt2020nc", "tv"),
        ({"hdr": "pq", "color_space": "ictcp"}, "ictcp", "tv"),
    ],
)
def test_the_matrix_is_the_sources_own_or_decided_by_rule(changes: dict[str, Any], matrix: str, color_range: str) -> None:
    colors = colors_of(video_track(**changes))

    assert (colors.matrix, colors.range) == (matrix, color_range)
    assert colors.guessed is None


@given(WORDS, WORDS, WORDS, st.sampled_from(["tv", "pc", None]), FORMATS, st.sampled_from(["pq", "hlg", None]), st.booleans())
def test_every_output_says_its_colours_and_no_filter_has_to_guess(
    space: str | None, primaries: str | None, transfer: str | None, color_range: str, pixel_format: str, hdr: str | None, keep: bool
) -> None:
    source = video_track(
        color_space=space,
        color_primaries=primaries,
        color_transfer=transfer,
        color_range=color_range,
        pixel_format=pixel_format,
        hdr=hdr,
    )
    keep = keep and hdr is not None

    made = filters(source, Fraction(25), keep)

    kept = {"pq": "smpte2084", "hlg": "arib-std-b67", None: ""}[hdr]
    standard = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    wide = f"setparams=range=tv:color_primaries=bt2020:color_trc={kept}:colorspace=bt2020nc"
    assert made.picture[-1] == (wide if keep else standard)
    assert still_filters(source)[-1] == standard
    (tags,) = made.source
    values = dict(pair.split("=") for pair in tags.removeprefix("setparams=").split(":"))
    assert values["colorspace"] in SCALE_MATRICES
    assert "unknown" not in tags and "reserved" not in tags and "None" not in tags
