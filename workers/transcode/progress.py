"""Progress of ffmpeg, from the lines of its `-progress` output. Pure.

A block of lines comes twice a second and ends with `progress=continue` or `progress=end`; a value not known yet is `N/A`.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from events.progress import RungProgress
from workers.attempts.work import Progress


@dataclass
class Meter:
    """Latest values: frames of the first video output, seconds of output, seconds of output per second."""

    frames: int = 0
    seconds: float = 0.0
    speed: float | None = None

    def read(self, line: str) -> bool:
        """Read one line; return whether it shows progress (ffmpeg repeats its numbers even while it is stuck)."""
        name, _, value = line.partition("=")
        value = value.strip()
        match name:
            case "frame" if value.isdigit():
                moved = int(value) > self.frames
                self.frames = max(self.frames, int(value))
                return moved
            case "out_time_us" if value.lstrip("-").isdigit():
                seconds = int(value) / 1_000_000
                moved = seconds > self.seconds
                self.seconds = max(self.seconds, seconds)
                return moved
            case "speed":
                with contextlib.suppress(ValueError):
                    self.speed = float(value.rstrip("x"))
            case _:
                pass  # ffmpeg prints more keys than these
        return False


def report(step: str, share: float, meter: Meter, completed: Mapping[str, int], segments_total: int) -> Progress:
    """Return the update for a job that is `share` (0..1) done; `completed` segments by rendition, each of `segments_total`."""
    percent = round(100 * min(1.0, max(0.0, share)), 1)
    rungs = tuple(
        RungProgress(name=name, percent=percent, segments_completed=min(count, segments_total), segments_total=segments_total)
        for name, count in completed.items()
    )
    return Progress(step, percent, meter.frames or None, meter.speed, rungs)
