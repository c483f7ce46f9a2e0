"""Decoded pictures correct what headers say; captured words of ffmpeg 9."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.footage import video_track
from workers.transcode.pictures import Sample, as_decoded, sample_argv, sample_moments

HEADERS = video_track(color_transfer="reserved")


def picture(fields: str = "P", size: str = "640x360", sar: str = "1/1", pixel_format: str = "yuv420p") -> str:
    """Return showinfo's line for a picture."""
    return (
        "[Parsed_showinfo_0 @ 0x7f] [info] n:   0 pts:      0 pts_time:0       duration:    640 duration_time:0.04    "
        f"fmt:{pixel_format} cl:left sar:{sar} s:{size} i:{fields} iskey:1 type:I "
    )


def colors(color_range: str, space: str, primaries: str, transfer: str) -> str:
    """Return showinfo's line for a picture's colours."""
    words = f"color_range:{color_range} color_space:{space} color_primaries:{primaries} color_trc:{transfer}"
    return f"[Parsed_showinfo_0 @ 0x7f] [info] {words}"


def combs(top: int, bottom: int, progressive: int) -> str:
    """Return idet's last line."""
    words = f"TFF: {top:5} BFF: {bottom:5} Progressive: {progressive:5} Undetermined:     0"
    return f"[Parsed_idet_1 @ 0x7f] [info] Multi frame detection: {words}"


def seen(*lines: str) -> Sample:
    """Return the sample that these lines make."""
    sample = Sample()
    for line in lines:
        sample.add(line)
    return sample


def test_size_and_shape_are_those_of_the_decoded_picture() -> None:
    track = as_decoded(HEADERS, [seen(picture(size="264x640", sar="4/3"))])

    assert (track.width, track.height) == (640, 360)
    assert (track.display_width, track.display_height, track.sample_aspect_ratio) == (352, 640, "4:3")


def test_colours_are_those_of_the_first_picture() -> None:
    first = (picture(pixel_format="yuv420p10le"), colors("tv", "bt2020nc", "bt2020", "smpte2084"))
    track = as_decoded(HEADERS, [seen(*first, picture(), colors("pc", "bt709", "bt709", "bt709"))])

    assert (track.color_range, track.color_space, track.color_primaries) == ("tv", "bt2020nc", "bt2020")
    assert (track.hdr, track.bit_depth, track.pixel_format) == ("pq", 10, "yuv420p10le")


def test_what_pictures_leave_open_is_as_in_the_headers() -> None:
    track = as_decoded(HEADERS, [seen(picture(), colors("unknown", "unknown", "unknown", "unknown"))])

    assert (track.color_transfer, track.hdr) == ("reserved", None)
    assert as_decoded(HEADERS, [Sample()]) == HEADERS


@pytest.mark.parametrize(
    ("lines", "interlaced", "order"),
    [
        ([picture("P")] * 25 + [combs(0, 0, 25)], False, None),
        ([picture("T")] * 25, True, None),
        ([picture("P")] * 20 + [picture("B")] * 5, True, None),
        ([picture("P")] * 24 + [picture("B")], False, None),
        ([picture("P")] * 25 + [combs(0, 25, 0)], True, "bff"),
        ([picture("P")] * 25 + [combs(20, 1, 4)], True, "tff"),
        ([picture("P")] * 25 + [combs(10, 10, 5)], False, None),
        ([picture("P")] * 5 + [combs(5, 0, 0)], False, None),
    ],
)
def test_fields_are_known_by_flags_or_by_combs(lines: list[str], interlaced: bool, order: str | None) -> None:
    track = as_decoded(HEADERS, [seen(*lines)])

    assert (track.interlaced, track.field_order) == (interlaced, order)


def test_combs_may_begin_later() -> None:
    still, moving = seen(picture(), combs(0, 0, 0)), seen(*[picture()] * 25, combs(25, 0, 0))

    assert as_decoded(HEADERS, [still, moving]).interlaced


def test_captions_inside_pictures_are_seen() -> None:
    assert as_decoded(
        HEADERS, [seen(picture(), "[Parsed_showinfo_0 @ 0x7f] [info]   side data - ATSC A53 Part 4 Closed Captions: (3 bytes)")]
    ).captions


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 1),
        ({"height": 576, "duration_ms": 60_000}, 2),
        ({"height": 576}, 1),
        ({"height": 1080, "duration_ms": 60_000, "seekable": False}, 1),
    ],
)
def test_a_second_sample_is_taken_where_fields_may_hide(changes: dict[str, Any], count: int) -> None:
    assert len(sample_moments(HEADERS.model_copy(update=changes))) == count


def test_samples_of_very_large_pictures_are_short() -> None:
    def pictures(height: int) -> str:
        argv = sample_argv("ffmpeg", Path("/s"), HEADERS.model_copy(update={"height": height}), 1, None)
        return argv[argv.index("-frames:v") + 1]

    assert (pictures(1080), pictures(2160)) == ("25", "8")
    assert len(sample_moments(HEADERS.model_copy(update={"height": 2160, "duration_ms": 60_000}))) == 1


@pytest.mark.parametrize(
    ("boxes", "opaque"), [(("", ""), True), (("", " x1:0 x2:159 y1:0 y2:239 w:160 h:240 crop=160:240:0:0"), False), ((), False)]
)
def test_pictures_are_opaque_only_when_no_pixel_was_found_that_is_not(boxes: tuple[str, ...], opaque: bool) -> None:
    lines = [f"[Parsed_bbox_6 @ 0x7f] [info] n:1 pts:10 pts_time:0.1{box}" for box in boxes]

    track = as_decoded(HEADERS, [seen(picture(pixel_format="bgra"), *lines)])

    assert track.opaque is opaque
