"""Reads ffmpeg's output: times, durations and codecs, from the boxes of fragmented MP4 (ISO/IEC 14496-12). Pure.

Written here because the parsers on PyPI model whole files (construct-based, unmaintained since 2023). Four tables are
enough, and their reader must be strict: anything unknown is an error.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from events.media import Chunk, VideoPlan

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex")
SAMPLE_ENTRIES = {b"avc1": 78, b"hvc1": 78, b"av01": 78, b"mp4a": 28}
"""Type of a sample entry -> bytes of the fixed fields before its boxes."""
AAC_IN_MP4 = 0x40


class BadSegment(Exception):
    """The bytes are not the expected initialisation or media segment."""


@dataclass(frozen=True, slots=True)
class Fragments:
    """Contents of one media segment's fragments: first decode time and total duration in ticks, number of samples."""

    decode_time: int
    duration: int
    samples: int


def planned(plan: VideoPlan, chunks: Iterable[Chunk]) -> tuple[Fragments, ...]:
    """Return the required contents of the segments of these chunks, in every rung, to the tick."""
    ticks = plan.timescale / Fraction(plan.frame_rate)
    assert ticks.denominator == 1, "the plan gives every frame a whole number of ticks"
    segments = []
    for chunk in chunks:
        for first in range(0, chunk.frames, plan.segment_frames):
            frames = min(plan.segment_frames, chunk.frames - first)
            segments.append(Fragments((chunk.start_frame + first) * int(ticks), frames * int(ticks), frames))
    return tuple(segments)


def fragments(segment: bytes) -> Fragments:
    """Return the times of a media segment with one track. Raises BadSegment when its fragments do not join."""
    first: int | None = None
    duration = samples = default = 0
    for kind, body, stop in boxes(segment):
        match kind:
            case b"tfhd":
                default = _default_duration(segment, body, stop)
            case b"tfdt":
                time = _number(segment, body + 4, stop, wide=_version(segment, body, stop) == 1)
                first = time if first is None else first
                if time != first + duration:
                    raise BadSegment(f"a fragment begins at {time} ticks instead of {first + duration}")
            case b"trun":
                count, ticks = _run(segment, body, stop, default)
                samples += count
                duration += ticks
            case _:
                pass
    if first is None or not samples:
        raise BadSegment("no fragment with samples")
    return Fragments(first, duration, samples)


def timescale(init: bytes) -> int:
    """Return the ticks per second of the track. Raises BadSegment."""
    for kind, body, stop in boxes(init):
        if kind == b"mdhd":
            return _number(init, body + (20 if _version(init, body, stop) == 1 else 12), stop)
    raise BadSegment("no track in the initialisation segment")


def codec_string(init: bytes) -> str:
    """Return the RFC 6381 codec string: `avc1.64001f`, `hvc1.1.6.L93.B0`, `av01.0.04M.08`, `mp4a.40.2`.

    Raises BadSegment for any other codec.
    """
    entry, inner = _sample_entry(init)
    match entry:
        case b"avc1" if len(inner.get(b"avcC", b"")) >= 4:
            return f"avc1.{inner[b'avcC'][1:4].hex()}"
        case b"hvc1" if len(inner.get(b"hvcC", b"")) >= 13:
            return hevc_codec(inner[b"hvcC"][1:13])
        case b"av01" if len(inner.get(b"av1C", b"")) >= 4:
            return _av1(inner[b"av1C"], inner.get(b"colr", b""))
        case b"mp4a" if b"esds" in inner:
            return _aac(inner[b"esds"])
        case _:
            raise BadSegment(f"an unknown codec: {entry.decode('latin-1')}")


# --- boxes ----------------------------------------------------------------------------------------------------------


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, body start, body end) of the boxes in a range, those inside containers after their parents."""
    end = len(data) if end is None else end
    while start < end:
        if start + 8 > end:
            raise BadSegment(f"{end - start} bytes at {start} are no box")
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            size = _number(data, body, end, wide=True)
            body += 8
        stop = end if size == 0 else start + size
        if stop > end or stop < body:
            raise BadSegment(f"box {kind!r} at {start} leaves its parent")
        yield kind, body, stop
        if kind in CONTAINERS:
            yield from boxes(data, body, stop)
        start = stop


def _number(data: bytes, at: int, end: int, *, wide: bool = False) -> int:
    """Return the big-endian number of 4 or 8 bytes at `at`; it must end before `end`."""
    size = 8 if wide else 4
    if at + size > end:
        raise BadSegment("a box is shorter than its fields")
    return int.from_bytes(data[at : at + size], "big")


def _version(data: bytes, body: int, stop: int) -> int:
    return _number(data, body, stop) >> 24


def _default_duration(data: bytes, body: int, stop: int) -> int:
    flags = _number(data, body, stop) & 0xFFFFFF
    if not flags & 0x8:
        return 0
    return _number(data, body + 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0), stop)


def _run(data: bytes, body: int, stop: int, default: int) -> tuple[int, int]:
    """Return (samples, ticks) of a track run."""
    flags = _number(data, body, stop) & 0xFFFFFF
    count = _number(data, body + 4, stop)
    at = body + 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    step = 4 * (flags >> 8 & 0xF).bit_count()
    if at + count * step > stop:
        raise BadSegment("a track run leaves its box")
    if not flags & 0x100:
        return count, count * default
    return count, sum(_number(data, at + index * step, stop) for index in range(count))


# --- codecs ---------------------------------------------------------------------------------------------------------


def _sample_entry(init: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return type and inner boxes of the first sample entry."""
    for kind, body, stop in boxes(init):
        if kind == b"stsd":
            entry, first, last = next(boxes(init, body + 8, stop), (b"", 0, 0))
            if entry not in SAMPLE_ENTRIES:
                raise BadSegment(f"an unknown codec: {entry.decode('latin-1')}")
            inner = boxes(init, first + SAMPLE_ENTRIES[entry], last)
            return entry, {kind: init[start:end] for kind, start, end in inner}
    raise BadSegment("no track in the initialisation segment")


def hevc_codec(profile: bytes) -> str:
    """Return the codec of a profile_tier_level, 12 bytes: profile, compatibility bits reversed, tier and level, constraints.

    ISO/IEC 14496-15 annex E.
    """
    space = ("", "A", "B", "C")[profile[0] >> 6]
    compatibility = int(f"{int.from_bytes(profile[1:5], 'big'):032b}"[::-1], 2)
    tier = "H" if profile[0] & 0x20 else "L"
    constraints = (f"{byte:X}" for byte in profile[5:11].rstrip(b"\0"))
    return ".".join(["hvc1", f"{space}{profile[0] & 0x1F}", f"{compatibility:X}", f"{tier}{profile[11]}", *constraints])


def _av1(config: bytes, colour: bytes) -> str:
    """AV1 codec ISO media file format binding, section 5; colours only when they are not BT.709, the default."""
    profile, level, tier = config[1] >> 5, config[1] & 0x1F, "H" if config[2] & 0x80 else "M"
    depth = 12 if config[2] & 0x20 else 10 if config[2] & 0x40 else 8
    text = f"av01.{profile}.{level:02d}{tier}.{depth:02d}"
    if colour[:4] != b"nclx" or len(colour) < 11:
        return text
    primaries, transfer, matrix = struct.unpack_from(">HHH", colour, 4)
    if (primaries, transfer, matrix) in ((1, 1, 1), (2, 2, 2)):
        return text
    mono, x, y, position = config[2] >> 4 & 1, config[2] >> 3 & 1, config[2] >> 2 & 1, config[2] & 3
    full = colour[10] >> 7
    return f"{text}.{mono}.{x}{y}{position}.{primaries:02d}.{transfer:02d}.{matrix:02d}.{full}"


def _aac(esds: bytes) -> str:
    """ISO/IEC 14496-1 section 7.2.6: object type of the decoder configuration, then the AAC audio object type."""
    stream = _descriptor(esds, 4, 0x03)
    if len(stream) < 4 or stream[2] & 0xE0:
        raise BadSegment("an elementary stream with parts that nobody writes in MP4")
    config = _descriptor(stream, 3, 0x04)
    if config[0] != AAC_IN_MP4:
        raise BadSegment(f"sound of type {config[0]:#x}")
    return f"mp4a.40.{_descriptor(config, 13, 0x05)[0] >> 3}"


def _descriptor(data: bytes, at: int, tag: int) -> bytes:
    """Return the body of the descriptor with this tag at `at`."""
    if len(data) <= at or data[at] != tag:
        raise BadSegment(f"no descriptor {tag} where one should be")
    size = 0
    for count in range(1, 5):
        if at + count >= len(data):
            break
        byte = data[at + count]
        size = size << 7 | byte & 0x7F
        if not byte & 0x80:
            body = data[at + count + 1 : at + count + 1 + size]
            if len(body) == size and size:
                return body
    raise BadSegment("a descriptor leaves its parent")
