"""Arguments of ffmpeg that enter a source at a chunk, so that every worker sees the same frames. Pure.

- All times are the source's own timestamps (`-copyts`, `-seek_timestamp 1`): versions of ffmpeg disagree on the start of a
  file (7.0 and 9.0 differ by the encoder delay in Matroska).
- The first chunk is read from the start of the file, without seeking. Any other is entered `lead_ms` and half a frame early:
  containers round timestamps to milliseconds, and no frame may fall out of both chunks.
- Decoding passes on everything from the key frame before (`-noaccurate_seek`), because the picture shown when a chunk begins
  may be minutes old (slides, screen recordings). The plan's `fps` filter drops the frames that are too early.
- All pictures move by a seventeenth of a frame. Otherwise some lie half-way between two output frames, as every second one
  does at 120 frames a second, and the last digit of a chunk's offset would decide.

Tested on every clip of tests/support/inputs: chunks encoded separately have the same pictures as one run.
"""

from dataclasses import dataclass
from fractions import Fraction

from events.kinds import AudioSpec
from events.media import Chunk, VideoPlan
from workers.transcode.clock import in_source, joined_time

NUDGE = Fraction(1, 17)
SOUND_MARGIN_MS = 1000
"""More than the look-ahead of the encoder (one frame) and of the limiter (5 ms)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Arguments that read one part of a source.

    `input` goes before `-i`. `filters` come first in the chain: timestamps then count from the part's first frame.
    `padding` comes after the plan's filters and repeats the last picture for ever; `output`, on each output, bounds it.
    """

    input: tuple[str, ...]
    filters: tuple[str, ...]
    padding: tuple[str, ...]
    output: tuple[str, ...]


def enter_chunk(plan: VideoPlan, chunk: Chunk) -> Entry:
    """Return the arguments that yield exactly `chunk.frames` frames of the chunk, even where the source has gaps."""
    rate = Fraction(plan.frame_rate)
    first_s = Fraction(plan.start_ms, 1000) + chunk.start_frame / rate
    reading: tuple[str, ...] = ("-copyts",)
    in_source_s = Fraction(in_source(plan.clock, round(1000 * first_s)), 1000) if plan.clock else first_s
    from_s = in_source_s - Fraction(plan.lead_ms, 1000) - 1 / (2 * rate)
    if chunk.start_frame > 0 and from_s > Fraction(plan.start_ms, 1000):  # some containers fail to seek before their start
        reading = (*reading, "-seek_timestamp", "1", "-noaccurate_seek", "-ss", _text(from_s))
    return Entry(
        input=reading,
        filters=("settb=AVTB", f"setpts={joined_time(plan.clock, _text(first_s - NUDGE / rate))}"),
        padding=("tpad=stop_mode=clone:stop=-1",),
        output=("-frames:v", str(chunk.frames)),
    )


def enter_sound(spec: AudioSpec) -> Entry:
    """Return the arguments that yield a sound track from time 0 to SOUND_MARGIN_MS after its piece, gaps filled with silence.

    The margin makes the piece's last frame equal to that of a track encoded to its end. Timestamps alone decide where samples
    are stretched or squeezed (`async`), so sound stays in time with the pictures.
    """
    hard = ":min_hard_comp=0.015" if spec.clock else ""  # at the joints of stretches, cut the sound instead of squeezing it
    time = joined_time(spec.clock, _text(Fraction(spec.start_ms, 1000)))
    return Entry(
        input=("-copyts",),
        filters=(f"asetpts={time}", f"aresample=async=1000{hard}:first_pts=0"),
        padding=("apad",),
        output=("-t", _text(Fraction(min(spec.duration_ms, spec.end_ms + SOUND_MARGIN_MS), 1000))),
    )


def _text(seconds: Fraction) -> str:
    return f"{float(seconds):.6f}"
