"""A probe and the settings decide everything that is made."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.kinds import AudioSpec, EncodeSpec, ExtrasSpec, Source
from events.media import (
    Attachment,
    AudioTrack,
    Cut,
    Failure,
    Plan,
    PlanSettings,
    Probe,
    SubtitleTrack,
    VideoCodec,
    VideoPlan,
    VideoTrack,
    chunks,
)
from infra.runtime.transcoding_settings import ladder_of
from processors.planning.ladder import ladder
from processors.planning.plan import (
    RATE_MAX,
    RATE_MIN,
    STANDARD_RATES,
    constant_rate,
    jobs_for,
    plan,
    sound_pieces,
    thumbnail_ms,
    timescale,
)
from tests.support.footage import video_track

VIDEO = video_track(1920, 1080, frame_rate="30000/1001", duration_ms=600_600)
SOUND = AudioTrack(index=1, codec="aac", channels=2, sample_rate_hz=48_000, duration_ms=600_600)
SOURCE = Source(object_key="uploads/x", size_bytes=1, sha256="ab")


def probe(video: VideoTrack | None = VIDEO, *audio: AudioTrack, **more: Any) -> Probe:
    """Return a probe of these tracks."""
    tracks = [track for track in (video, *audio) if track is not None]
    duration_ms = max((track.duration_ms for track in tracks), default=0)
    return Probe(container="mov,mp4", duration_ms=duration_ms, size_bytes=1, sha256="ab", video=video, audio=audio, **more)


def video(**changes: Any) -> VideoTrack:
    """Return a video track that differs from a plain one in this."""
    return VIDEO.model_copy(update=changes)


def planned(given_probe: Probe, **settings: Any) -> Plan:
    """Return the plan of something that can be made."""
    decided = plan(given_probe, PlanSettings(**settings))
    assert isinstance(decided, Plan), decided
    return decided


def video_plan(track: VideoTrack, **settings: Any) -> VideoPlan:
    """Return the video plan for one track."""
    decided = planned(probe(track), **settings).video
    assert decided is not None
    return decided


@pytest.mark.parametrize(
    ("size", "rungs"),
    [
        ((3840, 2160), ["2160p 3840x2160", "1440p 2560x1440", "1080p 1920x1080", "720p 1280x720", "480p 854x480", "360p 640x360"]),
        ((1920, 1080), ["1080p 1920x1080", "720p 1280x720", "480p 854x480", "360p 640x360"]),
        ((1080, 1920), ["1080p 1080x1920", "720p 720x1280", "480p 480x854", "360p 360x640"]),
        ((1920, 800), ["720p 1728x720", "480p 1152x480", "360p 864x360"]),
        ((853, 480), ["480p 852x480", "360p 640x360"]),
        ((641, 361), ["360p 640x360"]),
        ((640, 359), ["358p 640x358"]),
        ((2, 2), ["2p 2x2"]),
        ((1, 1), ["2p 2x2"]),
    ],
)
def test_the_ladder(size: tuple[int, int], rungs: list[str]) -> None:
    assert [f"{rung.name} {rung.width}x{rung.height}" for rung in ladder(*size)] == rungs


def test_a_ladder_of_the_operator_has_its_own_steps_and_bit_rates() -> None:
    steps = ladder_of("1080=3000/160,540=900/64")
    assert [rung.video_kbps for rung in video_plan(video(), ladder=steps).rungs] == [3000, 900]
    assert [(r.name, r.video_kbps, r.audio_kbps) for r in ladder(3840, 2160, steps)] == [("1080p", 3000, 160), ("540p", 900, 64)]
    assert [(r.name, r.video_kbps) for r in ladder(480, 270, steps)] == [("270p", 225)]


def test_bit_rates_are_those_of_the_ladder_and_less_below_it() -> None:
    assert [(r.video_kbps, r.audio_kbps) for r in ladder(3840, 2160)] == [
        (15000, 192),
        (8000, 192),
        (5000, 128),
        (2500, 128),
        (1000, 96),
        (600, 96),
    ]
    assert [(r.video_kbps, r.audio_kbps) for r in ladder(320, 180)] == [(150, 96)]
    assert [(r.video_kbps, r.audio_kbps) for r in ladder(2, 2)] == [(50, 96)]


@given(st.integers(1, 8192), st.integers(1, 8192))
def test_no_rung_is_above_the_source_and_all_are_even(width: int, height: int) -> None:
    rungs = ladder(width, height)

    assert rungs
    assert len({rung.name for rung in rungs}) == len(rungs)
    for rung in rungs:
        assert rung.width % 2 == rung.height % 2 == 0
        assert rung.width <= max(2, width)
        assert rung.height <= max(2, height)
        assert 0 < rung.video_kbps <= 15000
    assert [min(r.width, r.height) for r in rungs] == sorted((min(r.width, r.height) for r in rungs), reverse=True)


@given(
    st.integers(1, 2_000_000),
    st.integers(1, 1200),
    st.integers(1, 100),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(2, 4),
)
def test_chunks_tile_the_frames_and_segments_tile_the_chunks(
    frames: int, segment: int, per_chunk: int, first: int | None, growth: int | None
) -> None:
    if frames // (segment * per_chunk) > 3000:
        frames = segment * per_chunk * 3000
    cut = Cut(frames=frames, chunk_segments=per_chunk, first_segments=first, growth=growth)
    made = chunks(cut, segment)

    at, number = 0, 0
    for index, chunk in enumerate(made):
        last = index == len(made) - 1
        assert (chunk.index, chunk.start_frame, chunk.first_segment) == (index, at, number)
        assert chunk.segments == -(-chunk.frames // segment)
        short = first is not None and (index == 0 or growth is not None)
        most = min(per_chunk, (first or 1) * (growth or 1) ** index) if short else per_chunk
        assert last or chunk.frames == segment * most
        assert chunk.segments <= most + last
        at, number = at + chunk.frames, number + chunk.segments
    assert at == frames
    assert len(made) == 1 or 2 * made[-1].frames >= segment


def test_a_short_rest_joins_the_chunk_before_it() -> None:
    assert [c.frames for c in chunks(Cut(frames=3600 + 89, chunk_segments=10), 180)] == [1800, 1889]
    assert [c.frames for c in chunks(Cut(frames=3600 + 90, chunk_segments=10), 180)] == [1800, 1800, 90]


def test_a_plan_of_an_older_version_has_one_short_chunk() -> None:
    assert [c.segments for c in chunks(Cut(frames=18_000, chunk_segments=10, first_segments=1), 180)] == [1, *[10] * 9, 9]


@given(st.integers(1, 72 * 3600), st.integers(1, 1000), st.sampled_from((6.0, 60.0, 600.0)))
def test_there_are_at_most_as_many_chunks_as_the_settings_allow(seconds: int, chunks_max: int, chunk_s: float) -> None:
    decided = planned(probe(video(frame_rate="25/1", duration_ms=seconds * 1000)), chunks_max=chunks_max, chunk_s=chunk_s).video
    assert decided is not None
    assert len(decided.chunks) <= chunks_max


@pytest.mark.parametrize(
    ("rate", "variable", "constant"),
    [
        ("30000/1001", False, "30000/1001"),
        ("25/2", False, "25/2"),
        ("120/1", False, "60/1"),
        ("120000/1001", False, "60000/1001"),
        ("90/1", False, "45/1"),
        ("240/1", False, "60/1"),
        ("5/1", False, "10/1"),
        ("1/10", False, "10/1"),
        ("297/10", True, "30000/1001"),
        ("143/1", True, "60/1"),
        ("7/1", True, "24000/1001"),
    ],
)
def test_the_rate_is_constant_and_within_bounds(rate: str, variable: bool, constant: str) -> None:
    decided, notes = constant_rate(video(frame_rate=rate, variable_frame_rate=variable))

    assert decided == Fraction(constant)
    assert bool(notes) == (variable or rate != constant)


@given(st.fractions(Fraction(1, 60), 1000, max_denominator=1001), st.booleans())
def test_any_rate_ends_within_bounds_and_on_whole_ticks(rate: Fraction, variable: bool) -> None:
    decided, _ = constant_rate(video(frame_rate=f"{rate.numerator}/{rate.denominator}", variable_frame_rate=variable))

    assert RATE_MIN <= decided <= RATE_MAX
    assert timescale(decided) >= 10_000
    assert (timescale(decided) / decided).denominator == 1


@given(st.integers(1, 40_000_000), st.sampled_from(["24000/1001", "25/1", "60/1", "10/1"]), st.floats(1, 20), st.floats(2, 600))
def test_a_plan_covers_the_source_to_the_frame(duration_ms: int, rate: str, segment_s: float, chunk_s: float) -> None:
    track = video(duration_ms=min(duration_ms, int(chunk_s * 1_000_000)), frame_rate=rate)

    decided = video_plan(track, segment_s=segment_s, chunk_s=chunk_s)

    last = decided.chunks[-1]
    exact = Fraction(track.duration_ms, 1000) * Fraction(rate)
    assert last.start_frame + last.frames == max(1, round(exact))
    assert abs(decided.segment_frames / Fraction(rate) - Fraction(segment_s)) <= Fraction(1, 2) / Fraction(rate)


def test_the_usual_plan() -> None:
    decided = planned(probe(VIDEO, SOUND))

    assert decided.video is not None
    assert (decided.video.encoder, decided.video.preset, decided.video.pixel_format) == ("libx264", "veryfast", "yuv420p")
    assert (decided.video.frame_rate, decided.video.timescale, decided.video.segment_frames) == ("30000/1001", 30000, 180)
    assert decided.segment_ms == 6006
    standard = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    assert decided.video.source_filters == (standard,)
    assert decided.video.filters == ("fps=fps=30000/1001:start_time=0:round=near", standard)
    lengths = [c.segments for c in decided.video.chunks]
    assert lengths == [1, 2, 4, 8, *[10] * 8, 5], "playing begins with the first; each is made while the one before it plays"
    assert decided.video.gop_frames == 60, "a key frame every two seconds"
    assert [(a.name, a.channels) for a in decided.audio] == [("audio-1-128k", 2), ("audio-1-96k", 2)]
    assert decided.thumbnail_ms == 5000
    assert decided.notes == ()


@pytest.mark.parametrize(
    ("changes", "filters", "note"),
    [
        ({"interlaced": True}, "bwdif", "deinterlaced"),
        ({"hdr": "pq", "color_transfer": "smpte2084"}, "tonemap", "HDR (PQ) is tone-mapped"),
        ({"hdr": "hlg", "color_transfer": "arib-std-b67"}, "tin=arib-std-b67", "HDR (HLG) is tone-mapped"),
        ({"sample_aspect_ratio": "4:3"}, "fps", "made square"),
        ({"interlaced": True, "field_order": "bff"}, "parity=bff", "deinterlaced"),
        ({"color_range": "pc"}, "zscale=min=bt709:pin=bt709:tin=bt709:m=bt709:p=bt709:t=bt709:r=limited", ""),
        ({"pixel_format": "bgr0", "color_space": "gbr"}, "zscale=min=gbr", ""),
        ({"color_space": "smpte170m", "color_primaries": "smpte170m"}, "zscale=min=smpte170m:pin=smpte170m", ""),
        ({"color_space": "chroma-derived-c"}, "fps", "colour matrix chroma-derived-c is unknown"),
        ({"pixel_format": "yuva420p"}, "premultiply", "black is shown"),
    ],
)
def test_what_a_picture_needs(changes: dict[str, Any], filters: str, note: str) -> None:
    decided = planned(probe(video(**changes)))

    assert decided.video is not None
    assert filters in ",".join(decided.video.filters)
    assert note in "\n".join(decided.notes)


@pytest.mark.parametrize(("codec", "kept"), [("h264", False), ("hevc", True), ("av1", True)])
def test_hdr_is_kept_only_where_it_can_be(codec: str, kept: bool) -> None:
    decided = video_plan(video(hdr="pq", color_transfer="smpte2084", bit_depth=10), codec=codec, hdr="keep")

    assert (decided.pixel_format == "yuv420p10le") == kept
    assert ("tonemap" in ",".join(decided.filters)) != kept


@pytest.mark.parametrize(
    ("settings", "encoder", "preset"),
    [
        ({"codec": "hevc"}, "libx265", "veryfast"),
        ({"codec": "av1"}, "libsvtav1", "10"),
        ({"codec": "av1", "preset": "8"}, "libsvtav1", "8"),
        ({"codec": "h264", "encoder": "h264_nvenc", "preset": "p6"}, "h264_nvenc", "p6"),
        ({"codec": "h264", "encoder": "h264_nvenc", "preset": "veryfast"}, "h264_nvenc", "p4"),
    ],
)
def test_encoders(settings: dict[str, str], encoder: str, preset: str) -> None:
    decided = video_plan(VIDEO, **settings)

    assert (decided.encoder, decided.preset) == (encoder, preset)


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_pictures_too_small_for_an_encoder_become_h264(codec: VideoCodec) -> None:
    decided = planned(probe(video(width=2, height=2, display_width=2, display_height=2)), codec=codec)

    assert decided.video is not None
    assert (decided.video.codec, decided.video.encoder) == ("h264", "libx264")
    assert f"H.264 instead of {codec.upper()}" in decided.notes[0]


def test_what_mpeg_ts_does_not_carry_becomes_h264() -> None:
    decided = planned(probe(VIDEO), codec="av1", format="hls_ts")

    assert decided.video is not None
    assert (decided.video.codec, decided.video.encoder) == ("h264", "libx264")
    assert "MPEG-TS" in decided.notes[0]


@pytest.mark.parametrize(
    ("video_start", "sound_start", "start", "duration"),
    [(1480, 1459, 1480, 1000), (-418, -439, -418, 1000), (500, 0, 0, 1500), (0, 500, 0, 1500), (0, 0, 0, 1000)],
)
def test_time_zero_is_the_first_picture_unless_sound_leads_by_much(
    video_start: int, sound_start: int, start: int, duration: int
) -> None:
    decided = planned(
        probe(
            video(start_ms=video_start, duration_ms=1000), SOUND.model_copy(update={"start_ms": sound_start, "duration_ms": 1000})
        )
    )

    assert decided.video is not None
    assert (decided.start_ms, decided.video.start_ms, decided.duration_ms) == (start, start, duration)


@pytest.mark.parametrize(
    ("container", "changes", "lead_ms"),
    [
        ("mov,mp4", {"keyframe_interval_ms": 10_000}, 0),
        ("matroska,webm", {"keyframe_interval_ms": 10_000, "gap_ms": 34}, 0),
        ("matroska,webm", {"gap_ms": 500}, 500),
        ("mov,mp4", {"interlaced": True}, 200),
        ("mpegts", {"keyframe_interval_ms": 2_000}, 3_000),
        ("mpegts", {"keyframe_interval_ms": 200_000}, 30_000),
        ("mpegts", {}, 30_000),
    ],
)
def test_reading_begins_early_enough_to_meet_the_first_picture(container: str, changes: dict[str, Any], lead_ms: int) -> None:
    decided = planned(probe(video(**changes)).model_copy(update={"container": container})).video

    assert decided is not None
    assert decided.lead_ms == lead_ms


def test_what_cannot_be_entered_in_the_middle_is_one_chunk() -> None:
    decided = planned(probe(video(seekable=False)))

    assert decided.video is not None
    assert [c.frames for c in decided.video.chunks] == [18000]
    assert "in one piece" in decided.notes[0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"duration_ms": 73 * 3_600_000}, "VIDEO_TOO_LONG"),
        ({"duration_ms": 45 * 24 * 3_600_000, "gap_ms": 45 * 24 * 3_600_000}, "VIDEO_TOO_LONG"),
        ({"duration_ms": 47 * 3_600_000, "gap_ms": 47 * 3_600_000}, "CLOCK_GAP"),
        ({"start_ms": -(10**15), "duration_ms": 10**15}, "VIDEO_TOO_LONG"),
    ],
)
def test_a_clock_that_runs_too_far_is_no_plan(changes: dict[str, int], code: str) -> None:
    failure = plan(probe(video(**changes), SOUND), PlanSettings())

    assert isinstance(failure, Failure)
    assert (failure.code, failure.retryable) == (code, False)
    assert "hours" in failure.message and failure.message.endswith(".")


def test_two_days_are_planned() -> None:
    long = 48 * 3_600_000
    decided = planned(probe(video(duration_ms=long), SOUND.model_copy(update={"duration_ms": long})))

    assert decided.video is not None and 900 < len(decided.video.chunks) <= 1000
    assert decided.duration_ms == long


def test_of_many_tracks_the_first_are_used_and_long_names_are_cut() -> None:
    tracks = [SOUND.model_copy(update={"index": n, "title": f"{n} " + "x" * 5000}) for n in range(1, 949)]
    texts = tuple(SubtitleTrack(index=n, codec="subrip", kind="text", title="y" * 5000) for n in range(1000, 1100))

    decided = planned(probe(VIDEO, *tracks, subtitles=texts), tracks_max=3, name_max=20)

    assert [item.track for item in decided.audio[::2]] == [1, 2, 3]
    assert len(decided.subtitles) == 3
    assert all(len(label) <= 24 for label in (*(item.label for item in decided.audio), *(item.label for item in decided.subtitles)))
    assert len({item.label for item in decided.subtitles}) == 3
    assert "948 sound tracks: the first 3 are used" in decided.notes
    assert "long names of subtitle tracks are cut to 20 characters" in decided.notes


def test_languages_are_kept_and_names_differ() -> None:
    tracks = [
        SOUND.model_copy(update={"language": "eng"}),
        SOUND.model_copy(update={"index": 2, "language": "eng", "channels": 6, "default": True}),
        SOUND.model_copy(update={"index": 3, "title": "Director", "channels": 1}),
    ]

    decided = planned(probe(VIDEO, *tracks))

    best = [a for a in decided.audio if a.kbps == 128]
    assert [(a.track, a.label, a.channels, a.default) for a in best] == [
        (1, "English", 2, False),
        (2, "English (2)", 2, True),
        (3, "Director", 1, False),
    ]
    assert decided.notes == ("sound track 2: 6 channels are mixed down to stereo",)


def test_sound_alone_has_no_pictures() -> None:
    decided = planned(probe(None, SOUND))

    assert (decided.video, decided.thumbnail_ms, decided.segment_ms) == (None, None, 6000)
    assert [a.kbps for a in decided.audio] == [128, 96]
    assert list(jobs_for(SOURCE, decided, probe(None, SOUND))) == ["audio-1", "audio-1-1", "audio-1-2"]


def test_text_becomes_webvtt_and_images_stay() -> None:
    tracks = (
        SubtitleTrack(index=2, codec="subrip", kind="text", language="eng", default=True),
        SubtitleTrack(index=3, codec="hdmv_pgs_subtitle", kind="image"),
        SubtitleTrack(index=4, codec="ttml", kind="text"),
        SubtitleTrack(index=5, codec="ass", kind="text", language="eng", forced=True),
    )

    decided = planned(probe(subtitles=tracks, attachments=(Attachment(index=6, filename="font.ttf"),)))

    assert [(s.track, s.label, s.default, s.forced) for s in decided.subtitles] == [
        (2, "English", True, False),
        (5, "English (2)", False, True),
    ]
    assert len(decided.notes) == 3


@pytest.mark.parametrize(("duration_ms", "moment_ms"), [(600_000, 5000), (10_000, 5000), (9_000, 4500), (40, 20)])
def test_the_thumbnail_is_at_five_seconds_or_in_the_middle(duration_ms: int, moment_ms: int) -> None:
    assert thumbnail_ms(duration_ms) == moment_ms


@pytest.mark.parametrize(
    ("given_probe", "code"),
    [
        (probe(None), "NO_STREAMS"),
        (probe(video(duration_ms=0)), "NO_DURATION"),
        (probe(video(width=8194, display_width=8194)), "VIDEO_TOO_LARGE"),
    ],
)
def test_what_cannot_be_made_is_a_failure(given_probe: Probe, code: str) -> None:
    failure = plan(given_probe, PlanSettings())

    assert isinstance(failure, Failure)
    assert (failure.code, failure.stage, failure.retryable) == (code, "analysis", False)


def test_jobs_make_everything_in_the_plan() -> None:
    given_probe = probe(
        video(hdr="pq", sample_aspect_ratio="4:3"),
        SOUND,
        subtitles=(SubtitleTrack(index=2, codec="subrip", kind="text"),),
    )
    decided = planned(given_probe)
    assert decided.video is not None

    jobs = jobs_for(SOURCE, decided, given_probe)

    soon = ["encode-0", "audio-1", "extras", "encode-1", "audio-1-1", "encode-2", "audio-1-2", "subtitles"]
    assert list(jobs) == [*soon, *(f"encode-{n}" for n in range(3, len(decided.video.chunks)))], "sound soon: play soon"
    encode, audio, extras, texts = jobs["encode-3"], jobs["audio-1"], jobs["extras"], jobs["subtitles"]
    assert isinstance(encode, EncodeSpec)
    assert encode.chunk == decided.video.chunks[3]
    assert encode.plan.listed == (), "a job lists no chunks but its own"
    assert isinstance(audio, AudioSpec)
    assert audio.renditions == decided.audio
    assert isinstance(extras, ExtrasSpec) and isinstance(texts, ExtrasSpec)
    assert (extras.subtitles, texts.subtitles) == ((), decided.subtitles), "the picture does not wait for the text"
    assert (extras.thumbnail_ms, texts.thumbnail_ms) == (decided.thumbnail_ms, None)
    assert not any(text.startswith("fps") for text in extras.filters)
    assert any(text.startswith("tonemap") for text in extras.filters)


def test_the_default_sound_comes_first_whatever_its_place_in_the_file() -> None:
    other = SOUND.model_copy(update={"index": 2, "default": True})
    given_probe = probe(video(), SOUND.model_copy(update={"default": False}), other)
    jobs = jobs_for(SOURCE, planned(given_probe), given_probe)
    assert list(jobs)[:4] == ["encode-0", "audio-2", "audio-1", "extras"]


@given(st.integers(1, 72 * 3_600_000), st.integers(100, 20_000))
def test_pieces_of_sound_follow_each_other_and_cost_little_more_than_one(duration_ms: int, segment_ms: int) -> None:
    pieces = sound_pieces(duration_ms, segment_ms)

    assert pieces[0][0] == 0 and pieces[-1][1] is None
    assert all(end == first for (_, end), (first, _) in pairwise(pieces))
    ends_ms = [min(duration_ms, end * segment_ms) if end else duration_ms for _, end in pieces]
    assert sum(ends_ms[:-1]) <= duration_ms * 0.27, "what is encoded more than once"
    assert len(pieces) == 1 if duration_ms <= 12_000 else ends_ms[0] <= 4 * segment_ms


@given(st.floats(0.2, 60), st.sampled_from(STANDARD_RATES))
def test_key_frames_come_at_least_every_two_seconds_or_so_and_segments_are_whole_groups(segment_s: float, rate: Fraction) -> None:
    decided = planned(probe(video(frame_rate=f"{rate.numerator}/{rate.denominator}")), segment_s=segment_s).video
    assert decided is not None
    if decided.gop_frames is not None:
        assert decided.segment_frames % decided.gop_frames == 0
        assert decided.gop_frames <= 2 * rate + 1
    elif segment_s in (6.0, 4.0, 2.0):
        raise AssertionError("usual lengths have key frames inside")


@pytest.mark.parametrize(("seconds", "first_s"), [(10, 10), (12, 12), (20, 6), (600, 6)])
def test_the_first_chunk_of_all_but_short_videos_is_there_soon(seconds: int, first_s: int) -> None:
    decided = planned(probe(video(frame_rate="25/1", duration_ms=seconds * 1000))).video
    assert decided is not None
    assert decided.chunks[0].frames == first_s * 25
