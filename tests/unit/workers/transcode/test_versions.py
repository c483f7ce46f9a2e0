"""The versions that ffmpeg and its encoders report."""

from pathlib import Path

from tests.support.work import ffmpeg_path
from workers.attempts.work import Limits
from workers.transcode.versions import ENCODERS, ask_versions, versions_in

SAID = """\
ffmpeg version n9.0.2-17-g2a571b6068 Copyright (c) 2000-2026 the FFmpeg developers
libavcodec     63.  1.102 / 63.  1.102
x265 [info]: HEVC encoder version 4.3+49-020d7054
Svt[info]: SVT [version]:\tSVT-AV1 Encoder Lib v4.2.0-151-g5ed9ffbcb
"""


def test_versions_are_found_among_other_words() -> None:
    assert [(tool.name, tool.version) for tool in versions_in(SAID)] == [
        ("ffmpeg", "n9.0.2-17-g2a571b6068"),
        ("libavcodec", "63.1.102"),
        ("libx265", "4.3+49-020d7054"),
        ("libsvtav1", "v4.2.0-151-g5ed9ffbcb"),
    ]


async def test_the_real_ffmpeg_reports_the_versions_of_its_encoders(tmp_path: Path) -> None:
    found = {tool.name for tool in await ask_versions(ffmpeg_path(), tuple(ENCODERS), tmp_path, Limits())}

    assert found == {"ffmpeg", "libavcodec", "libavformat", *ENCODERS}


async def test_without_ffmpeg_there_is_nothing_to_report(tmp_path: Path) -> None:
    assert await ask_versions("/nowhere/ffmpeg", ("libx264",), tmp_path, Limits()) == ()
