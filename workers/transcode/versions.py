"""Versions of ffmpeg and of its encoders: an encode depends on them besides its arguments."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from events.media import ToolVersion
from workers.attempts.process import run_process
from workers.attempts.work import Limits

TIMEOUT_S = 20.0
ENCODERS: Mapping[str, tuple[str, ...]] = {
    "libx264": ("-f", "h264", "pipe:1"),  # x264 names itself only in its output
    "libx265": ("-f", "null", "-"),
    "libsvtav1": ("-f", "null", "-"),
}
"""Output options with which an encoder prints its version while it encodes one picture."""
_PICTURE = ("-hide_banner", "-f", "lavfi", "-i", "color=size=256x144:rate=10:duration=0.1", "-frames:v", "1")
_VERSIONS = (
    ("ffmpeg", re.compile(r"^ffmpeg version (\S+)", re.MULTILINE)),
    ("libavcodec", re.compile(r"^libavcodec +(\d+\. *\d+\. *\d+)", re.MULTILINE)),
    ("libavformat", re.compile(r"^libavformat +(\d+\. *\d+\. *\d+)", re.MULTILINE)),
    ("libx264", re.compile(r"x264 - core (\d+(?: r\d+)?(?: \w+)?)")),
    ("libx265", re.compile(r"x265 \[info\]: HEVC encoder version (\S+)")),
    ("libsvtav1", re.compile(r"SVT-AV1 Encoder Lib (\S+)")),
)


def versions_in(text: str) -> tuple[ToolVersion, ...]:
    """Return the versions in the output of ffmpeg and its encoders. Pure."""
    found = ((name, pattern.search(text)) for name, pattern in _VERSIONS)
    return tuple(ToolVersion(name=name, version=match[1].replace(" ", "")) for name, match in found if match)


async def ask_versions(ffmpeg: str, encoders: Sequence[str], directory: Path, limits: Limits) -> tuple[ToolVersion, ...]:
    """Return the versions of ffmpeg and of the working encoders, none when no process can be started. Takes about 0.3 s."""
    trials = [(ffmpeg, *_PICTURE, "-c:v", name, *ENCODERS[name]) for name in encoders if name in ENCODERS]
    said: list[str] = []

    def keep(line: str) -> None:
        said.append(line)

    with contextlib.suppress(OSError):  # this runs only after another failure
        for argv in [(ffmpeg, "-version"), *trials]:
            result = await run_process(argv, cwd=directory, limits=limits, on_stdout_line=keep, timeout_s=TIMEOUT_S)
            said.append(result.stderr_tail)
    return versions_in("\n".join(said))
