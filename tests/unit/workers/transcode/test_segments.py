"""What ffmpeg wrote is read strictly: the right numbers, or BadSegment, never another error."""

import contextlib
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.media import Chunk, Rung, VideoPlan
from workers.transcode import mpegts
from workers.transcode.segments import BadSegment, Fragments, boxes, codec_string, fragments, planned, timescale


def box(kind: bytes, *bodies: bytes) -> bytes:
    """Return an ISO box."""
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def moof(decode_time: int, durations: list[int] | int, *, count: int = 0, wide: bool = True) -> bytes:
    """Return a fragment; with one number for `durations`, all `count` samples last as long (tfhd's default)."""
    each = isinstance(durations, list)
    tfhd = struct.pack(">II", 0x020000 | (0 if each else 0x8), 1) + (b"" if each else struct.pack(">I", durations))
    tfdt = struct.pack(">IQ" if wide else ">II", 0x01000000 if wide else 0, decode_time)
    if isinstance(durations, list):
        trun = struct.pack(">IIi", 0x000301, len(durations), 0) + b"".join(struct.pack(">II", d, 99) for d in durations)
    else:
        trun = struct.pack(">IIi", 0x000201, count, 0) + struct.pack(">I", 99) * count
    return box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", box(b"tfhd", tfhd), box(b"tfdt", tfdt), box(b"trun", trun)))


def init(entry: bytes, ticks: int = 30000) -> bytes:
    """Return an initialisation segment with one sample entry."""
    mdhd = box(b"mdhd", struct.pack(">IIIII", 0, 0, 0, ticks, 0))
    stsd = box(b"stsd", struct.pack(">II", 0, 1), entry)
    minf = box(b"minf", box(b"stbl", stsd))
    return box(b"ftyp", b"iso5") + box(b"moov", box(b"mvhd", bytes(100)), box(b"trak", box(b"mdia", mdhd, minf)))


def picture(kind: bytes, *inner: bytes) -> bytes:
    """Return a sample entry for pictures."""
    return box(kind, bytes(78), *inner)


AVC = picture(b"avc1", box(b"avcC", bytes.fromhex("0164001fffe1")))
HEVC = picture(b"hvc1", box(b"hvcC", bytes.fromhex("0101600000009000000000005d") + bytes(10)))
HEVC_B0 = picture(b"hvc1", box(b"hvcC", bytes.fromhex("010160000000b000000000005d") + bytes(10)))
AV1 = picture(b"av01", box(b"av1C", bytes.fromhex("8104 0c00".replace(" ", ""))))
AV1_10 = picture(b"av01", box(b"av1C", bytes((0x81, 8, 0x4E, 0))), box(b"colr", b"nclx" + struct.pack(">HHHB", 9, 16, 9, 0)))
ESDS = bytes(4) + b"\x03\x80\x80\x80\x22\0\1\0" + b"\x04\x80\x80\x80\x14\x40" + bytes(12) + b"\x05\x80\x80\x80\x02\x11\x90"
AAC = box(b"mp4a", bytes(28), box(b"esds", ESDS + b"\x06\x80\x80\x80\x01\x02"))


def test_a_fragment_is_read_with_default_and_with_own_durations() -> None:
    assert fragments(moof(360360, 1001, count=180)) == Fragments(360360, 180180, 180)
    assert fragments(moof(7, [1024, 1024, 512], wide=False)) == Fragments(7, 2560, 3)


def test_the_fragments_of_a_segment_add_up() -> None:
    data = box(b"styp", b"msdh") + moof(100, [10, 10]) + box(b"mdat", b"x") + moof(120, 5, count=4) + box(b"mdat", b"y")

    assert fragments(data) == Fragments(100, 40, 6)


def test_a_gap_between_fragments_is_refused() -> None:
    with pytest.raises(BadSegment, match="begins at 121 ticks instead of 120"):
        fragments(moof(100, [10, 10]) + moof(121, [5]))


@pytest.mark.parametrize(
    ("entry", "codec"),
    [
        (AVC, "avc1.64001f"),
        (HEVC, "hvc1.1.6.L93.90"),
        (HEVC_B0, "hvc1.1.6.L93.B0"),
        (AV1, "av01.0.04M.08"),
        (AV1_10, "av01.0.08M.10.0.112.09.16.09.0"),
        (AAC, "mp4a.40.2"),
    ],
)
def test_a_codec_has_its_rfc_6381_name(entry: bytes, codec: str) -> None:
    assert codec_string(init(entry)) == codec
    assert timescale(init(entry, 12800)) == 12800


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(BadSegment, match="unknown codec: vp09"):
        codec_string(init(picture(b"vp09")))


def test_boxes_leave_their_place_to_no_other() -> None:
    with pytest.raises(BadSegment, match="leaves its parent"):
        list(boxes(struct.pack(">I4s", 50, b"free") + bytes(8)))
    assert [kind for kind, _, _ in boxes(struct.pack(">I4sQ", 1, b"mdat", 20) + bytes(4))] == [b"mdat"]
    assert [kind for kind, _, _ in boxes(struct.pack(">I4s", 0, b"mdat") + bytes(4))] == [b"mdat"]


WHOLE = [moof(5, [1, 2]), moof(5, 3, count=4), *(init(entry) for entry in (AVC, HEVC, AV1_10, AAC))]


@given(st.sampled_from(WHOLE), st.data())
def test_damaged_bytes_are_bad_segments_and_nothing_else(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 6)) :]
    for read in (fragments, timescale, codec_string):
        with contextlib.suppress(BadSegment):
            read(damaged)


# --- transport streams ----------------------------------------------------------------------------------------------


def pes(time: int, body: bytes, *, stream: int = 0xE0, pid: int = 256) -> bytes:
    """Return one transport packet that begins a PES packet with a presentation time, stuffed to its length."""
    stamp = bytes(
        (0x21 | time >> 29 & 0xE, time >> 22 & 0xFF, time >> 14 & 0xFE | 1, time >> 7 & 0xFF, time << 1 & 0xFE | 1),
    )
    payload = b"\0\0\1" + bytes((stream, 0, 0, 0x80, 0x80, 5)) + stamp + body
    stuffing = 184 - len(payload)
    adaptation = bytes((stuffing - 1, 0)) + b"\xff" * (stuffing - 2)
    return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x30)) + adaptation + payload


SPS = b"\0\0\0\1\x09\xf0\0\0\0\1\x67\x64\0\x0d\xac"


def test_a_transport_stream_has_times_and_codec() -> None:
    found = mpegts.packets(pes(2**33 - 1, SPS) + pes(126_000, b"x") + pes(129_003, b"y"))

    assert found.times == (2**33 - 1, 126_000, 129_003)
    assert (found.kind, mpegts.codec_string(found)) == ("video", "avc1.64000d")


def test_sound_in_a_transport_stream_is_aac() -> None:
    adts = b"\xff\xf1\x4c\x80\0\0\0"

    assert mpegts.codec_string(mpegts.packets(pes(0, adts, stream=0xC0))) == "mp4a.40.2"
    with pytest.raises(BadSegment, match="not AAC"):
        mpegts.codec_string(mpegts.packets(pes(0, b"\xff\xfb\x90\0", stream=0xC0)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "whole number"),
        (b"\x47" * 187, "whole number"),
        (bytes(188), "no transport packet at 0"),
        (pes(0, b"", stream=0xBD), "no stream"),
        (pes(0, b"") + pes(0, b"", stream=0xC0, pid=257), "more than one stream"),
    ],
)
def test_other_bytes_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadSegment, match=why):
        mpegts.packets(data)


@given(st.binary(min_size=187, max_size=187), st.booleans())
@example(bytes(187), True)
def test_damaged_packets_are_bad_segments_and_nothing_else(rest: bytes, second: bool) -> None:
    data = (pes(5, SPS) if second else b"") + b"\x47" + rest
    with contextlib.suppress(BadSegment):
        mpegts.codec_string(mpegts.packets(data))


# --- the plan's own times -------------------------------------------------------------------------------------------


def test_the_plan_says_what_every_segment_holds_to_the_tick() -> None:
    plan = VideoPlan(
        track=0,
        codec="h264",
        encoder="libx264",
        preset="veryfast",
        pixel_format="yuv420p",
        frame_rate="30000/1001",
        timescale=30000,
        segment_frames=180,
        rungs=(Rung(name="360p", width=640, height=360, video_kbps=600, audio_kbps=96),),
        chunks=(
            Chunk(index=0, start_frame=0, frames=360, first_segment=0, segments=2),
            Chunk(index=1, start_frame=360, frames=200, first_segment=2, segments=2),
        ),
    )

    assert planned(plan, plan.chunks) == (
        Fragments(0, 180180, 180),
        Fragments(180180, 180180, 180),
        Fragments(360360, 180180, 180),
        Fragments(540540, 20020, 20),
    )
    assert planned(plan, plan.chunks[1:]) == planned(plan, plan.chunks)[2:]
