"""Headers and packets become a probe; lies and damage are reported."""

import json
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.media import Failure, Probe
from workers.transcode.accepted import refusal, unreadable
from workers.transcode.packets import FrameRate, PacketScan, frame_rate
from workers.transcode.probe import Headers, parse_headers, probe_of, with_languages

VIDEO: dict[str, Any] = {
    "index": 0,
    "codec_name": "h264",
    "profile": "High",
    "codec_type": "video",
    "width": 1920,
    "height": 1080,
    "has_b_frames": 2,
    "sample_aspect_ratio": "1:1",
    "pix_fmt": "yuv420p",
    "color_range": "tv",
    "field_order": "progressive",
    "r_frame_rate": "30000/1001",
    "avg_frame_rate": "30000/1001",
    "time_base": "1/30000",
    "disposition": {"default": 1, "attached_pic": 0},
}
AUDIO: dict[str, Any] = {
    "index": 1,
    "codec_name": "aac",
    "codec_type": "audio",
    "sample_rate": "48000",
    "channels": 2,
    "time_base": "1/48000",
    "disposition": {"default": 1},
    "tags": {"LANGUAGE": "eng", "title": " Commentary\n"},
}
FORMAT = {"format_name": "mov,mp4,m4a,3gp,3g2,mj2", "start_time": "0.000000", "duration": "0.100100", "probe_score": 100}
THREE_PICTURES = ("0,0,-1001,1001,K__", "0,2002,0,1001,___", "0,1001,1001,1001,___")
SOUND = ("1,-1024,-1024,1024,KD_,", "1,0,0,1024,K__", "1,1024,1024,1024,K__")


def headers(*streams: dict[str, Any], **changes: object) -> Headers:
    """Return headers as ffprobe writes them."""
    parsed = parse_headers(json.dumps({"streams": streams, "format": FORMAT | changes}))
    assert parsed is not None
    return parsed


def scan(*lines: str) -> PacketScan:
    """Return a finished scan."""
    packets = PacketScan()
    for line in lines:
        packets.add(line)
    packets.finish()
    return packets


def probe(found: Headers, packets: PacketScan, complaints: str = "") -> Probe:
    """Return the probe of something that can be played."""
    result = probe_of(found, packets, size_bytes=1000, sha256="ab", complaints=complaints)
    assert isinstance(result, Probe), result
    return result


def test_a_plain_file() -> None:
    result = probe(headers(VIDEO, AUDIO), scan(*THREE_PICTURES, *SOUND))

    assert result.video is not None
    assert (result.video.frame_rate, result.video.variable_frame_rate, result.video.frame_count) == ("30000/1001", False, 3)
    assert (result.video.start_ms, result.video.duration_ms) == (0, 100)
    assert (result.audio[0].language, result.audio[0].title, result.audio[0].default) == ("eng", "Commentary", True)
    assert (result.audio[0].start_ms, result.audio[0].duration_ms) == (0, 43)
    assert result.duration_ms == 100
    assert result.warnings == ()


@pytest.mark.parametrize(("rotation", "size"), [(90, (1080, 1920)), (-90, (1080, 1920)), (180, (1920, 1080)), (0, (1920, 1080))])
def test_rotation_turns_the_display_size(rotation: int, size: tuple[int, int]) -> None:
    turned = VIDEO | {"side_data_list": [{"side_data_type": "Display Matrix", "rotation": rotation}]}

    video = probe(headers(turned), scan(*THREE_PICTURES)).video

    assert video is not None
    assert (video.display_width, video.display_height) == size
    assert video.rotation_degrees == rotation % 360


@pytest.mark.parametrize(("aspect", "width"), [("4:3", 2560), ("0:1", 1920), ("1:1000", 1920), (None, 1920)])
def test_pixel_aspect_stretches_the_width(aspect: str | None, width: int) -> None:
    video = probe(headers(VIDEO | {"sample_aspect_ratio": aspect}), scan(*THREE_PICTURES)).video

    assert video is not None
    assert (video.display_width, video.display_height) == (width, 1080)


@pytest.mark.parametrize(
    ("changes", "hdr", "depth"),
    [
        ({"pix_fmt": "yuv420p10le", "color_transfer": "smpte2084"}, "pq", 10),
        ({"pix_fmt": "p010le", "color_transfer": "arib-std-b67"}, "hlg", 10),
        ({"pix_fmt": "yuv422p10le", "color_transfer": "bt709"}, None, 10),
        ({"pix_fmt": "yuv444p12le"}, None, 12),
        ({"pix_fmt": "yuv420p"}, None, 8),
    ],
)
def test_colour_is_read(changes: dict[str, str], hdr: str | None, depth: int) -> None:
    video = probe(headers(VIDEO | changes), scan(*THREE_PICTURES)).video

    assert video is not None
    assert (video.hdr, video.bit_depth) == (hdr, depth)


def test_a_cover_is_an_attachment_and_no_video() -> None:
    cover = VIDEO | {"index": 2, "codec_name": "png", "disposition": {"attached_pic": 1}}

    result = probe(headers(AUDIO, cover), scan(*SOUND, "2,N/A,N/A,N/A,K__"))

    assert result.video is None
    assert [attachment.media_type for attachment in result.attachments] == ["image/png"]


def test_subtitles_are_distinguished() -> None:
    tracks = [
        {"index": 2, "codec_type": "subtitle", "codec_name": "subrip", "disposition": {"forced": 1}},
        {"index": 3, "codec_type": "subtitle", "codec_name": "hdmv_pgs_subtitle", "tags": {"language": "fre"}},
        {"index": 4, "codec_type": "subtitle"},
    ]

    result = probe(headers(VIDEO, *tracks), scan(*THREE_PICTURES))

    assert [(t.kind, t.language, t.forced) for t in result.subtitles] == [
        ("text", "und", True),
        ("image", "fre", False),
        ("image", "und", False),
    ]


def test_a_lying_duration_is_reported_and_not_believed() -> None:
    result = probe(headers(VIDEO, duration="900.0"), scan(*THREE_PICTURES))

    assert (result.duration_ms, result.declared_duration_ms) == (100, 900_000)
    assert result.warnings == ("The declared duration is 900.0 s, the real one 0.1 s.",)


def test_a_cut_off_matroska_file_cannot_be_entered_in_the_middle() -> None:
    found = headers(VIDEO, format_name="matroska,webm", duration="60")

    result = probe(found, scan(*THREE_PICTURES), "[matroska,webm @ 0x1] File ended prematurely")

    assert result.video is not None
    assert not result.video.seekable
    assert "incomplete" in result.warnings[0]


def test_damaged_packets_are_reported_and_their_times_not_trusted() -> None:
    result = probe(headers(VIDEO), scan(*THREE_PICTURES, "0,300300,300300,1001,__C"))

    assert result.video is not None
    assert result.video.duration_ms == 100
    assert "damaged" in result.warnings[-1]


def test_packets_without_presentation_times_count_at_their_decoding_times() -> None:
    video = probe(headers(VIDEO), scan("0,N/A,0,1001,K__", "0,N/A,1001,1001,___")).video

    assert video is not None
    assert video.duration_ms == 67


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_pictures_whose_times_of_showing_are_left_out_last_as_long_as_they_are_shown(groups: list[tuple[int, bool]]) -> None:
    """Given anchors and the B-frames behind each; ffprobe has times of showing for B-frames, and for some anchors."""
    packets = PacketScan(delays={0: 1})
    decoded = 0
    for b_frames, has_time in groups:
        shown = decoded + 1 + b_frames
        packets.add(f"0,{shown if has_time else 'N/A'},{decoded},1,___")
        for at in range(decoded + 1, decoded + 1 + b_frames):
            packets.add(f"0,{at},{at},1,___")
        decoded += 1 + b_frames
    packets.finish()

    assert (packets.streams[0].first, packets.streams[0].end) == (1, decoded + 1)


def test_pictures_without_any_time_follow_one_another() -> None:
    packets = PacketScan(delays={0: 2})
    for _ in range(25):
        packets.add("0,N/A,N/A,40,K__")
    packets.finish()

    assert (packets.streams[0].first, packets.streams[0].end) == (0, 1000)


@pytest.mark.parametrize(
    ("streams", "packets", "code"),
    [
        ((), (), "NO_STREAMS"),
        ((VIDEO,), (), "NO_STREAMS"),
        ((VIDEO | {"codec_name": "unknown"},), THREE_PICTURES, "VIDEO_UNREADABLE"),
        ((VIDEO | {"width": 0},), THREE_PICTURES, "VIDEO_UNREADABLE"),
        ((AUDIO | {"channels": 0},), SOUND, "NO_STREAMS"),
    ],
)
def test_nothing_to_play_is_a_failure(streams: tuple[dict[str, Any], ...], packets: tuple[str, ...], code: str) -> None:
    failure = probe_of(headers(*streams), scan(*packets), size_bytes=1, sha256="ab")

    assert isinstance(failure, Failure)
    assert (failure.code, failure.retryable) == (code, False)


def test_what_was_recognised_by_accident_is_refused() -> None:
    failure = probe_of(headers(AUDIO, probe_score=1), scan(*SOUND), size_bytes=1, sha256="ab")

    assert isinstance(failure, Failure)
    assert failure.code == "FILE_NOT_MEDIA"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"", "FILE_EMPTY"),
        (b"#EXTM3U\n/etc/passwd\n", "PLAYLIST_REFUSED"),
        (b"\xef\xbb\xbf  \n#extm3u\n", "PLAYLIST_REFUSED"),
        (b"ffconcat version 1.0\nfile x\n", "PLAYLIST_REFUSED"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<MPD>', "PLAYLIST_REFUSED"),
        (b"\x00\x00\x00\x18ftypisom", None),
    ],
)
def test_lists_of_other_files_are_refused_before_any_tool_sees_them(head: bytes, code: str | None) -> None:
    failure = refusal(head, len(head))

    assert (failure.code if failure else None) == code


@pytest.mark.parametrize(
    ("complaints", "head", "code"),
    [
        ("[concat @ 0x1] Format not on whitelist 'mov'", b"", "PLAYLIST_REFUSED"),
        ("[png_pipe @ 0x1] Format not on whitelist 'mov'", b"", "FILE_NOT_MEDIA"),
        ("[mov @ 0x1] moov atom not found", b"\x00\x00\x00\x18ftypisom", "FILE_TRUNCATED"),
        ("[mov @ 0x1] moov atom not found", b"hello, world", "FILE_NOT_MEDIA"),
        ("Invalid data found when processing input", b"", "FILE_NOT_MEDIA"),
    ],
)
def test_what_ffprobe_cannot_open_gets_a_reason(complaints: str, head: bytes, code: str) -> None:
    assert unreadable(complaints, head).code == code


MILLISECOND = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("distances", "declared", "rate", "variable"),
    [
        ({33: 20, 34: 10}, "30000/1001", "30000/1001", False),
        ({33: 2000, 34: 1000}, "1000/1", "30", False),
        ({40: 250}, "25", "25", False),
        ({40: 240, 80: 10}, "25", "25", False),
        ({40: 150, 80: 100}, "25", "25", False),
        ({40: 150, 80: 100}, "1000", "25", True),
        ({40: 20, 120: 100, 480: 30}, "25", "25", False),
        ({17: 40, 25: 30, 33: 30}, "1000", "40", True),
        ({80: 100}, "25/2", "25/2", False),
        ({}, "24", "24", False),
    ],
)
def test_the_frame_rate_is_measured(distances: dict[int, int], declared: str, rate: str, variable: bool) -> None:
    assert frame_rate(distances, MILLISECOND, [Fraction(declared)]) == FrameRate(Fraction(rate), variable)


@given(
    st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(25, 2)]),
    st.integers(20, 400),
)
def test_rounding_to_milliseconds_hides_no_constant_rate(rate: Fraction, frames: int) -> None:
    times = [round(1000 * n / rate) for n in range(frames)]
    distances = Counter(later - earlier for earlier, later in pairwise(times))

    assert frame_rate(distances, MILLISECOND, [rate]) == FrameRate(rate, False)


@given(st.permutations(range(16)))
def test_pictures_may_be_stored_in_another_order_than_shown(order: list[int]) -> None:
    packets = scan(*(f"0,{at * 100},{n},100,___" for n, at in enumerate(order)))

    assert packets.streams[0].distances == {100: 15}
    assert (packets.streams[0].first, packets.streams[0].end) == (0, 1600)


@given(st.text())
def test_no_line_breaks_the_scan(line: str) -> None:
    scan(line)


def test_languages_from_elsewhere_leave_all_other_headers_as_they_are() -> None:
    streams = ({"index": 0, "tags": {"language": "por", "title": "x"}}, {"index": 1})
    headers = Headers({"format_name": "matroska,webm"}, streams, chapters=3)

    named = with_languages(headers, {0: "pt-BR"})

    assert named.streams == ({"index": 0, "tags": {"language": "pt-BR", "title": "x"}}, {"index": 1})
    assert (named.format, named.programs, named.chapters) == (headers.format, headers.programs, 3)
