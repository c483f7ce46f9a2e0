"""Where to enter a source so that every worker sees the same frames: from plan and chunk to ffmpeg arguments. Pure.

All in the source's own timestamps (`-copyts`, `-seek_timestamp 1`), because what ffmpeg takes for the start of a file
changes with its version (7.0 and 9.0 differ by the encoder delay in Matroska). The first chunk is read from the start
of the file, without seeking; another is entered `lead_ms` and half a frame early, since containers round timestamps to
milliseconds and a frame must not fall out of both chunks. Everything from the key frame before that is passed on
(`-noaccurate_seek`), because the picture that stands when a chunk begins may be minutes old (slides, screen recordings);
what comes too early is left out by the plan's `fps` filter.
All pictures are moved by a seventeenth of a frame, so that none lies half-way between two places, where the last digit
of a chunk's offset would decide (every second one of 120 frames a second does).
Tried on every clip of tests/support/awkward.py: chunks encoded apart have the same pictures as one run.
"""

from dataclasses import dataclass
from fractions import Fraction

from events.kinds import AudioSpec
from events.media import Chunk, VideoPlan
from workers.transcode.clock import in_source, joined_time

NUDGE = Fraction(1, 17)
SOUND_MARGIN_MS = 1000
"""The encoder looks a frame ahead, the limiter five milliseconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How to read one part of a source.

    `input` goes before `-i`; `filters` come first in the chain and make timestamps count from the part's first frame;
    `padding` comes after the plan's filters, and repeats the last picture for ever, so the output must be bounded by
    `output` (for each output).
    """

    input: tuple[str, ...]
    filters: tuple[str, ...]
    padding: tuple[str, ...]
    output: tuple[str, ...]


def enter_chunk(plan: VideoPlan, chunk: Chunk) -> Entry:
    """Return the arguments that yield exactly `chunk.frames` frames of the chunk, whatever the source leaves out."""
    rate = Fraction(plan.frame_rate)
    first_s = Fraction(plan.start_ms, 1000) + chunk.start_frame / rate
    reading: tuple[str, ...] = ("-copyts",)
    in_source_s = Fraction(in_source(plan.clock, round(1000 * first_s)), 1000) if plan.clock else first_s
    from_s = in_source_s - Fraction(plan.lead_ms, 1000) - 1 / (2 * rate)
    if chunk.start_frame > 0 and from_s > Fraction(plan.start_ms, 1000):  # some containers find nothing before their start
        reading = (*reading, "-seek_timestamp", "1", "-noaccurate_seek", "-ss", _text(from_s))
    return Entry(
        input=reading,
        filters=("settb=AVTB", f"setpts={joined_time(plan.clock, _text(first_s - NUDGE / rate))}"),
        padding=("tpad=stop_mode=clone:stop=-1",),
        output=("-frames:v", str(chunk.frames)),
    )


def enter_sound(spec: AudioSpec) -> Entry:
    """Return the arguments that yield a sound track from time 0 to a little after its piece's end, gaps filled with silence.

    With that little, the piece's last frame is what it would be were the track encoded to its end.

    The source's samples are stretched or squeezed only where their timestamps say so (`async`), so sound stays with the
    pictures.
    """
    hard = ":min_hard_comp=0.015" if spec.clock else ""  # where stretches are joined, sound is cut and not squeezed
    time = joined_time(spec.clock, _text(Fraction(spec.start_ms, 1000)))
    return Entry(
        input=("-copyts",),
        filters=(f"asetpts={time}", f"aresample=async=1000{hard}:first_pts=0"),
        padding=("apad",),
        output=("-t", _text(Fraction(min(spec.duration_ms, spec.end_ms + SOUND_MARGIN_MS), 1000))),
    )


def _text(seconds: Fraction) -> str:
    return f"{float(seconds):.6f}"
