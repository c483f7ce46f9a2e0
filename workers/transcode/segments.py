"""Reads what ffmpeg wrote: times, durations and codecs, from the boxes of fragmented MP4 (ISO/IEC 14496-12). Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex")


class BadSegment(Exception):
    """The bytes are not the initialisation or media segment that they should be."""


@dataclass(frozen=True, slots=True)
class Fragments:
    """What the fragments of one media segment hold: first decode time and total duration in ticks, number of samples."""

    decode_time: int
    duration: int
    samples: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, body start, body end) of the boxes in a range, those inside containers after their parents."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            size = struct.unpack_from(">Q", data, body)[0]
            body += 8
        stop = end if size == 0 else start + size
        if stop > end or stop < body:
            raise BadSegment(f"box {kind!r} at {start} leaves its place")
        yield kind, body, stop
        if kind in CONTAINERS:
            yield from boxes(data, body, stop)
        start = stop


def fragments(segment: bytes) -> Fragments:
    """Return the times of a media segment with one track. Raises BadSegment."""
    first: int | None = None
    duration = samples = default = 0
    for kind, body, _stop in boxes(segment):
        if kind == b"tfhd":
            default = _default_duration(segment, body)
        elif kind == b"tfdt":
            time = struct.unpack_from(">Q" if segment[body] else ">I", segment, body + 4)[0]
            first = time if first is None else first
        elif kind == b"trun":
            count, ticks = _run(segment, body, default)
            samples += count
            duration += ticks
    if first is None or not samples:
        raise BadSegment("no fragment with samples")
    return Fragments(first, duration, samples)


def _default_duration(data: bytes, body: int) -> int:
    flags = int.from_bytes(data[body + 1 : body + 4], "big")
    at = body + 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    return int(struct.unpack_from(">I", data, at)[0]) if flags & 0x8 else 0


def _run(data: bytes, body: int, default: int) -> tuple[int, int]:
    """Return (samples, ticks) of a track run."""
    flags = int.from_bytes(data[body + 1 : body + 4], "big")
    count = struct.unpack_from(">I", data, body + 4)[0]
    if not flags & 0x100:
        return count, count * default
    at = body + 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    step = 4 * (flags >> 8 & 0xF).bit_count()
    return count, sum(struct.unpack_from(">I", data, at + n * step)[0] for n in range(count))


def timescale(init: bytes) -> int:
    """Return the ticks per second of the track. Raises BadSegment."""
    for kind, body, _stop in boxes(init):
        if kind == b"mdhd":
            return int(struct.unpack_from(">I", init, body + (20 if init[body] else 12))[0])
    raise BadSegment("no track in the initialisation segment")


def codec_string(init: bytes) -> str:
    """Return the codec as RFC 6381 wants it: `avc1.64001f`, `hvc1.1.6.L93.B0`, `av01.0.04M.08`, `mp4a.40.2`."""
    for entry, build in ((b"avcC", _avc), (b"hvcC", _hevc), (b"av1C", _av1), (b"esds", _aac)):
        at = init.find(entry)
        if at >= 0:
            return build(init[at + 4 :])
    raise BadSegment("an unknown codec")


def _avc(config: bytes) -> str:
    return f"avc1.{config[1:4].hex()}"


def _hevc(config: bytes) -> str:
    """ISO/IEC 14496-15 annex E: profile space and profile, compatibility bits reversed, tier and level, constraints."""
    space = ("", "A", "B", "C")[config[1] >> 6]
    compatibility = int(f"{int.from_bytes(config[2:6], 'big'):032b}"[::-1], 2)
    tier = "H" if config[1] & 0x20 else "L"
    constraints = config[6:12].rstrip(b"\0")
    return ".".join(
        ["hvc1", f"{space}{config[1] & 0x1F}", f"{compatibility:X}", f"{tier}{config[12]}", *(f"{byte:X}" for byte in constraints)]
    )


def _av1(config: bytes) -> str:
    """AV1 codec ISO media file format binding, section 5."""
    profile, level, tier = config[1] >> 5, config[1] & 0x1F, "H" if config[2] & 0x80 else "M"
    depth = 12 if config[2] & 0x20 else 10 if config[2] & 0x40 else 8
    return f"av01.{profile}.{level:02d}{tier}.{depth:02d}"


def _aac(_config: bytes) -> str:
    return "mp4a.40.2"
