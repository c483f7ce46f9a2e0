"""Clips whose pictures and sounds can be distinguished after encoding: every picture has a grey of its own, sound says when it is.

`made(name)` makes one once and keeps it in `build/clips`, under a digest of how it is made.
"""

import hashlib
import subprocess
import tempfile
from pathlib import Path

from tests.support.clips import CLIPS
from tests.support.work import ffmpeg_path

STEP, SPAN, BLACK = 37, 211, 20
"""Grey of picture n: BLACK + n * STEP mod SPAN. Neighbours differ by far more than encoding does; it repeats after 211."""


def grey(frame: int) -> int:
    """Return the luma of a picture."""
    return BLACK + frame * STEP % SPAN


def _pictures(size: str, rate: str, seconds: float, first: int = 0) -> tuple[str, ...]:
    level = f"{BLACK}+mod((N+{first})*{STEP},{SPAN})"
    return ("-f", "lavfi", "-i", f"nullsrc=s={size}:r={rate}:d={seconds},format=yuv420p,geq=lum='{level}':cb=128:cr=128")


def _tone(hertz: int, seconds: float, rate: int, layout: str) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=f={hertz}:r={rate}:d={seconds},aformat=channel_layouts={layout}")


X264 = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "4", "-bf", "3", "-g", "20", "-pix_fmt", "yuv420p")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2")
OPEN = ("-x264-params", "open-gop=1:keyint=20:bframes=3:b-adapt=0")
AAC = ("-c:a", "aac", "-b:a", "96k")

CLIPS_MADE: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "ntsc": ("mp4", ((*_pictures("128x72", "30000/1001", 2.002), *X264),)),
    "pal": ("mkv", ((*_pictures("128x72", "25", 2), *X264),)),
    "film": ("mp4", ((*_pictures("128x72", "24000/1001", 2.002), *X264),)),
    "open_gop": ("mp4", ((*_pictures("128x72", "25", 2.4), *X264, *OPEN),)),
    "open_gop_ts": ("ts", ((*_pictures("128x72", "25", 2.4), *X264, *OPEN, "-output_ts_offset", "17.3"),)),
    "long_gop": ("mkv", ((*_pictures("128x72", "30000/1001", 3.003), *X264, "-g", "1000"),)),
    "hevc": ("mp4", ((*_pictures("128x72", "25", 2), "-c:v", "libx265", "-x265-params", "log-level=error:keyint=20:pools=1"),)),
    "variable": (
        "mkv",
        ((*_pictures("128x72", "30", 3), "-vf", "select='not(mod(n,3))+gt(n,40)*mod(n,2)'", "-fps_mode", "passthrough", *X264),),
    ),
    "slides": ("mp4", ((*_pictures("64x64", "1/40", 120), "-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-g", "1"),)),
    "resized": (
        "ts",
        (
            (*_pictures("128x72", "25", 1), *X264, "-bf", "0"),
            (*_pictures("256x144", "25", 1, first=25), *X264, "-bf", "0", "-output_ts_offset", "1"),
        ),
    ),
    "joined_vob": ("vob", tuple((*_pictures("128x72", "25", 1, first), *MPEG2) for first in (0, 25, 50))),
    "joined_vob_b": ("vob", tuple((*_pictures("128x72", "25", 1, first), *MPEG2, "-bf", "2") for first in (0, 25, 50))),
    "avi_mpeg4": ("avi", ((*_pictures("128x72", "25", 2), "-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),)),
    "avi_h264": ("avi", ((*_pictures("128x72", "25", 2), *X264),)),
    "heavy": ("mp4", (("-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25:d=5", "-c:v", "libx264", "-preset", "ultrafast"),)),
    "late": (
        "mp4",
        (("-itsoffset", "0.5", *_pictures("128x72", "25", 1), *_tone(440, 1.5, 48000, "stereo"), *X264, *AAC),),
    ),
    "relayed": (
        "ts",
        (
            (*_pictures("128x72", "25", 2), *_tone(440, 2, 48000, "stereo"), *X264, *AAC),
            (*_pictures("128x72", "25", 2, first=50), *_tone(880, 2, 44100, "mono"), *X264, *AAC, "-output_ts_offset", "2"),
        ),
    ),
}
"""Name -> container and the commands whose outputs, one after the other, make the file."""


def made(name: str) -> Path:
    """Return the path of a clip."""
    container, parts = CLIPS_MADE[name]
    digest = hashlib.sha256(repr((ffmpeg_path(), parts)).encode()).hexdigest()[:16]
    target = CLIPS / digest / f"{name}.{container}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / "whole"
        with whole.open("wb") as file:
            for number, arguments in enumerate(parts):
                part = Path(folder) / f"{number}.{container}"
                command = [ffmpeg_path(), "-y", "-nostdin", "-v", "error", "-threads", "1", *arguments, str(part)]
                subprocess.run(command, check=True, capture_output=True)
                file.write(part.read_bytes())
        whole.replace(target)
    return target
