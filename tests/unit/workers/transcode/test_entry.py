"""Chunks are entered early, in the source's own timestamps."""

from events.kinds import AudioSpec, Source
from events.media import Chunk, VideoPlan
from workers.transcode.entry import enter_chunk, enter_sound
from workers.transcode.timeouts import timeout_s

PLAN = VideoPlan(
    track=0,
    codec="h264",
    encoder="libx264",
    preset="veryfast",
    pixel_format="yuv420p",
    frame_rate="25/1",
    timescale=12800,
    segment_frames=150,
    start_ms=1480,
    lead_ms=2000,
    rungs=(),
    chunks=(),
)


def chunk(start_frame: int) -> Chunk:
    """Return a chunk that starts there."""
    return Chunk(index=0, start_frame=start_frame, frames=1500, first_segment=0, segments=10)


def test_the_first_chunk_is_read_without_seeking() -> None:
    entry = enter_chunk(PLAN, chunk(0))

    assert entry.input == ("-copyts",)
    assert entry.filters == ("settb=AVTB", "setpts=PTS-(1.477647)/TB")
    assert entry.output == ("-frames:v", "1500")


def test_a_later_chunk_is_entered_early_at_an_absolute_time() -> None:
    entry = enter_chunk(PLAN, chunk(1500))

    assert entry.input == ("-copyts", "-seek_timestamp", "1", "-noaccurate_seek", "-ss", "59.460000")
    assert entry.filters[-1] == "setpts=PTS-(61.477647)/TB"


def test_sound_starts_at_time_zero_and_ends_with_the_plan() -> None:
    spec = AudioSpec(
        source=Source(object_key="x", size_bytes=1), format="cmaf", segment_ms=6000, start_ms=-418, duration_ms=1003, renditions=()
    )

    entry = enter_sound(spec)

    assert entry.filters[0] == "asetpts=PTS-(-0.418000)/TB"
    assert entry.output == ("-t", "1.003000")


def test_time_limits_follow_length_and_rungs() -> None:
    assert timeout_s(1_000) == 300
    assert timeout_s(600_000, [360]) == 1200
    assert timeout_s(600_000, [1080, 720, 480, 360]) == 1200 * 5.75
    assert timeout_s(600_000, [272]) == 1200
    assert timeout_s(10**9, [2160]) == 14_400
