"""Pictures arrive as they were: colours, shape, orientation, fields and transparency, in every rung."""

import random
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from processors.planning.filters import PRIMARIES, RGB, YUV_MATRICES, filters, still_filters
from tests.support.clips import clip
from tests.support.colors import THUMBNAIL_TOLERANCE, TOLERANCE, assert_close, rungs, shown, thumbnail
from tests.support.footage import video_track
from tests.support.recipes import PATCHES
from tests.support.transcoding import ffmpeg, transcode
from tests.support.work import ffmpeg_path, ffprobe_path

TAGS = "tv,bt709,bt709,bt709"
UNTOUCHED = ["untagged_hd", "untagged_sd", "reserved_matrix", "full_range", "rgb"]


def tags(path: Path) -> str:
    """Return range, matrix, transfer and primaries that a file declares."""
    entries = "stream=color_range,color_space,color_transfer,color_primaries"
    argv = [ffprobe_path(), "-v", "error", "-select_streams", "v", "-show_entries", entries, "-of", "csv=p=0", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", UNTOUCHED)
async def test_every_rung_has_the_colours_of_the_source_and_says_so(name: str, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)

    for rung in rungs(video):
        assert tags(rung) == TAGS
        assert_close(shown(rung, 6), list(PATCHES), TOLERANCE)
    assert_close(shown(thumbnail(video), 6), list(PATCHES), THUMBNAIL_TOLERANCE)


@pytest.mark.parametrize("name", ["transparent", "transparent_vp9"])
async def test_what_is_transparent_is_black(name: str, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)

    for picture in (*rungs(video), thumbnail(video)):
        assert_close(shown(picture, 2), [(0, 0, 0), (0, 176, 0)], TOLERANCE)


@pytest.mark.parametrize(
    ("name", "x", "y", "wide"),
    [
        ("marked", 0.25, 0.25, 60 / 640),
        ("cropped_mkv", 0.25, (90 - 48) / 264, 60 / 640),
        ("cropped_mp4", 0.25, (90 - 48) / 264, 60 / 640),
        ("cropped_portrait", (90 - 48) / 264, 0.75, 60 / 264),
        ("turned_by_sei", 0.25, 0.75, 60 / 360),
        ("mirrored", 0.75, 0.25, 60 / 640),
    ],
)
async def test_pictures_are_cropped_and_turned_and_keep_their_shape(
    name: str, x: float, y: float, wide: float, tmp_path: Path
) -> None:
    video = await transcode(clip(name), tmp_path)
    (rung,) = rungs(video)
    assert video.plan.video is not None
    width, height = video.plan.video.rungs[0].width, video.plan.video.rungs[0].height

    data = ffmpeg("-i", str(rung), "-frames:v", "1", "-vf", "format=gray", "-f", "rawvideo")
    white = [(at % width, at // width) for at, value in enumerate(data) if value > 128]

    columns, rows = [one for one, _ in white], [one for _, one in white]
    assert abs((min(columns) + max(columns) + 1) / 2 / width - x) < 0.01
    assert abs((min(rows) + max(rows) + 1) / 2 / height - y) < 0.01
    assert abs((max(columns) - min(columns) + 1) / width - wide) < 0.01


@pytest.mark.parametrize("name", ["interlaced_dv", "interlaced_mpeg4", "combed"])
async def test_fields_leave_no_combs(name: str, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)

    data = ffmpeg("-i", str(rungs(video)[0]), "-vf", "format=gray,crop=iw:400", "-f", "rawvideo")

    width = video.plan.video.rungs[0].width if video.plan.video is not None else 0
    rows = [data[at : at + width] for at in range(0, len(data) - 3 * width, width)]
    combed = sum(
        abs(upper[x] - middle[x]) > 60 and abs(lower[x] - middle[x]) > 60 and abs(upper[x] - lower[x]) < 20
        for upper, middle, lower in zip(rows[::7], rows[1::7], rows[2::7], strict=False)
        for x in range(0, width, 5)
    )
    assert combed == 0


def test_no_combination_of_tags_and_formats_stops_the_filters() -> None:
    pick = random.Random(13).choice
    for _ in range(40):
        pixel_format = pick(
            ["yuv420p", "yuvj420p", "yuv422p10le", "p010le", "uyvy422", "yuv411p", "gray", "rgb24", "rgba", "yuva444p16le"]
        )
        space = "gbr" if pixel_format.startswith(RGB) else pick([*sorted(YUV_MATRICES), "bt2020c", "chroma-derived-c", "unknown"])
        transfer = pick(["bt709", "smpte2084", "arib-std-b67", "log100", "linear", "smpte428", "unknown"])
        primaries, color_range = pick([*sorted(PRIMARIES), "unknown"]), pick(["tv", "pc"])
        width, height = pick([64, 63]), pick([36, 35])
        track = video_track(
            width,
            height,
            codec="ffv1",
            pixel_format=pixel_format,
            color_space=space,
            color_primaries=primaries,
            color_transfer=transfer,
            color_range=color_range,
            hdr={"smpte2084": "pq", "arib-std-b67": "hlg"}.get(transfer),
            duration_ms=40,
        )
        made = filters(track, Fraction(25), keep_hdr=False)
        source = f"testsrc2=s={width}x{height}:r=25:d=0.04,format={pixel_format},setparams=range={color_range}"
        source += f":colorspace={space}:color_primaries={primaries}:color_trc={transfer}"
        for chain in (
            (*made.source, "scale", *made.picture, "scale=32:32", "format=yuv420p"),
            (*still_filters(track), "format=yuvj420p"),
        ):
            argv = [ffmpeg_path(), "-v", "error", "-f", "lavfi", "-i", source, "-vf", ",".join(chain), "-f", "framemd5", "-"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (track, chain, done.stderr)
