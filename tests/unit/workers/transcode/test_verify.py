"""Before publication every rendition must be what the plan says; the first thing that is not has a code and names its position."""

from dataclasses import replace
from fractions import Fraction

import pytest

from events.media import AudioPlan, Chunk, ObjectRef, Plan, Rendition, Rung, Segment, VideoPlan
from workers.transcode.mpegts import Packets
from workers.transcode.segments import Fragments, planned
from workers.transcode.verify import WARNINGS_MAX, Joined, bounded_warnings, first_complaint

VIDEO = VideoPlan(
    track=0,
    codec="h264",
    encoder="libx264",
    preset="veryfast",
    pixel_format="yuv420p",
    frame_rate="30000/1001",
    timescale=30000,
    segment_frames=60,
    rungs=(Rung(name="360p", width=640, height=360, video_kbps=600, audio_kbps=96),),
    chunks=(
        Chunk(index=0, start_frame=0, frames=120, first_segment=0, segments=2),
        Chunk(index=1, start_frame=120, frames=90, first_segment=2, segments=2),
    ),
)
SOUND = AudioPlan(name="audio-1-96k", track=1, language="en", label="en", default=True, channels=2, kbps=96)
PLAN = Plan(format="cmaf", duration_ms=7007, segment_ms=2002, video=VIDEO, audio=(SOUND,))
WANTED = planned(VIDEO, VIDEO.chunks)


def ref(key: str, sha256: str = "00") -> ObjectRef:
    """Return an object."""
    return ObjectRef(key=key, size_bytes=1, sha256=sha256)


def part(first: int, durations: list[int], *, name: str = "360p", ticks: int = 30000, init: str | None = "aa") -> Rendition:
    """Return what one job made."""
    return Rendition(
        name=name,
        kind="video" if name == "360p" else "audio",
        codecs="avc1.64001e" if name == "360p" else "mp4a.40.2",
        timescale=ticks,
        init=None if init is None else ref(f"{name}/init.mp4", init),
        segments=tuple(Segment(number=first + n, duration=d, object=ref(f"{name}/{first + n}")) for n, d in enumerate(durations)),
    )


def pictures() -> Joined:
    """Return a right rung of two chunks."""
    parts = (part(0, [60060, 60060]), part(2, [60060, 30030]))
    return Joined("360p", parts, WANTED)


def sound(lengths: tuple[int, ...] = (96256, 96256, 96256, 48128), begins: int = 0) -> Joined:
    """Return a right sound rendition: 7.018 s."""
    times, at = [], begins
    for length in lengths:
        times.append(Fragments(at, length, length // 1024))
        at += length
    return Joined("audio-1-96k", (part(0, list(lengths), name="audio-1-96k", ticks=48000),), tuple(times))


def code(*joined: Joined) -> str | None:
    """Return the code of the first complaint."""
    failure = first_complaint(PLAN, joined)
    return None if failure is None else failure.code


def test_what_the_plan_says_is_right() -> None:
    assert first_complaint(PLAN, [pictures(), sound()]) is None


def test_a_planned_rendition_must_be_there() -> None:
    assert code(pictures()) == "RENDITION_MISSING"
    assert code(sound()) == "RENDITION_MISSING"


def test_another_encoder_build_is_named_with_its_chunk() -> None:
    rung = pictures()
    other = replace(rung, parts=(rung.parts[0], part(2, [60060, 30030], init="bb")))

    failure = first_complaint(PLAN, [other, sound()])

    assert failure is not None
    assert (failure.code, failure.stage, failure.category, failure.retryable) == (
        *("INIT_MISMATCH", "post_processing"),
        *("validation", False),
    )
    assert "chunk 1" in failure.message


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((part(0, [60060, 60060]),), "SEGMENTS_MISSING"),
        ((part(0, [60060, 60060]), part(3, [60060, 30030])), "SEGMENTS_MISSING"),
        ((part(0, [60060, 60060]), part(1, [60060, 30030])), "SEGMENTS_MISSING"),
        ((part(0, [60060, 60060]), part(2, [60060, 30031])), "DURATION_DIFFERS"),
        ((part(0, [60060, 60060]), part(2, [60060, 30030], ticks=15000)), "INIT_MISMATCH"),
    ],
)
def test_segments_are_those_of_the_plan(parts: tuple[Rendition, ...], expected: str) -> None:
    count = sum(len(one.segments) for one in parts)
    assert code(Joined("360p", parts, WANTED[:count]), sound()) == expected


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (Fragments(120121, 60060, 60), "TIME_GAP"),
        (Fragments(120120, 60060, 59), "FRAMES_MISSING"),
    ],
)
def test_the_bytes_count_not_what_the_worker_says(wrong: Fragments, expected: str) -> None:
    times = (*WANTED[:2], wrong, WANTED[3])
    assert code(replace(pictures(), times=times), sound()) == expected


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        (sound(begins=1024), "TIME_GAP"),
        (replace(sound(), times=(*sound().times[:3], Fragments(288_769, 48128, 47))), "TIME_GAP"),
        (replace(sound(), times=(*sound().times[:3], Fragments(288_768, 48127, 47))), "DURATION_DIFFERS"),
        (sound((96256, 96256, 96256, 53248)), "AUDIO_DRIFT"),
        (sound((96256, 96256, 96256, 40960)), "AUDIO_DRIFT"),
    ],
)
def test_sound_stays_with_the_pictures(track: Joined, expected: str) -> None:
    assert code(pictures(), track) == expected


def transport(shift: int = 0) -> Joined:
    """Return the rung as transport streams, decoded out of order, with its clock starting anew on the way."""
    origin = 2**33 - 90_000
    times = []
    for wanted in WANTED:
        first = Fraction(wanted.decode_time * 3)
        stamps = [round(origin + first + 3003 * n) % 2**33 for n in range(wanted.samples)]
        times.append(Packets("video", (stamps[0], *reversed(stamps[1:])), b""))
    last = times[-1]
    times[-1] = replace(last, times=tuple((time + shift) % 2**33 for time in last.times))
    parts = (part(0, [180180, 180180], ticks=90000, init=None), part(2, [180180, 90090], ticks=90000, init=None))
    return Joined("360p", parts, tuple(times))


def test_legacy_segments_are_held_to_the_same() -> None:
    assert code(transport(), sound()) is None
    assert code(transport(shift=3003), sound()) == "TIME_GAP"
    short = replace(transport(), times=(*transport().times[:3], Packets("video", transport().times[3].times[1:], b"")))  # type: ignore[union-attr]
    assert code(short, sound()) == "FRAMES_MISSING"


def test_a_thousand_damaged_chunks_are_not_a_thousand_sentences() -> None:
    assert bounded_warnings(["a", "b", "a"]) == ("a", "b")
    warnings = bounded_warnings(f"damaged in chunk {number}" for number in range(1000))
    assert (len(warnings), warnings[0], warnings[-1]) == (WARNINGS_MAX, "damaged in chunk 0", "801 more warnings of this kind")
