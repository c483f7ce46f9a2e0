"""Reads ffmpeg's output for legacy players: the pictures of MPEG transport stream segments (ISO/IEC 13818-1). Pure.

One elementary stream per segment, as the plan asks for: pictures or sound.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from workers.transcode.segments import BadSegment, hevc_codec

PACKET_BYTES = 188
SYNC = 0x47
TICKS_PER_S = 90_000
CLOCK = 2**33
VIDEO_IDS = range(0xE0, 0xF0)
AUDIO_IDS = range(0xC0, 0xE0)
HEAD_BYTES = 512
"""Bytes of the first picture that are kept to find its parameters."""


@dataclass(frozen=True, slots=True)
class Packets:
    """The PES packets of one stream: presentation times (90 kHz ticks, in order of decoding) and the head of the first packet.

    ffmpeg writes one picture, or some 0.1 s of sound, per PES packet.
    """

    kind: str
    times: tuple[int, ...]
    head: bytes


def packets(segment: bytes) -> Packets:
    """Return the PES packets of a segment. Raises BadSegment."""
    if not segment or len(segment) % PACKET_BYTES:
        raise BadSegment(f"{len(segment)} bytes are no whole number of transport packets")
    times: list[int] = []
    kind, media_pid, head = "", -1, b""
    for pid, starts, payload in _payloads(segment):
        if starts and len(payload) >= 14 and payload[:3] == b"\0\0\1" and (payload[3] in VIDEO_IDS or payload[3] in AUDIO_IDS):
            if media_pid not in (-1, pid):
                raise BadSegment("more than one stream")
            media_pid, kind = pid, "video" if payload[3] in VIDEO_IDS else "audio"
            times.append(_time(payload))
            if len(times) == 1:
                head = payload[9 + payload[8] :]
        elif pid == media_pid and len(times) == 1 and len(head) < HEAD_BYTES:
            head += payload
    if not times:
        raise BadSegment("no stream")
    return Packets(kind, tuple(times), head[:HEAD_BYTES])


def codec_string(found: Packets) -> str:
    """Return the RFC 6381 codec string, from the parameters at the start of every segment. Raises BadSegment."""
    if found.kind == "audio":
        if len(found.head) < 3 or found.head[0] != 0xFF or found.head[1] & 0xF6 != 0xF0:
            raise BadSegment("sound that is not AAC")
        return f"mp4a.40.{(found.head[2] >> 6) + 1}"
    for unit in found.head.split(b"\0\0\1"):
        if len(unit) >= 4 and unit[0] & 0x9F == 0x07:  # H.264 sequence parameter set
            return f"avc1.{unit[1:4].hex()}"
        if unit[:1] == b"\x42" and len(profile := _unescaped(unit)[3:15]) == 12:  # H.265: two bytes, ids, profile_tier_level
            return hevc_codec(profile)
    raise BadSegment("pictures without parameters")


def _unescaped(unit: bytes) -> bytes:
    """Return a NAL unit without its emulation prevention bytes."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _payloads(segment: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Yield (packet id, whether a PES packet or table starts here, payload) of each transport packet."""
    for at in range(0, len(segment), PACKET_BYTES):
        if segment[at] != SYNC:
            raise BadSegment(f"no transport packet at {at}")
        control = segment[at + 3] >> 4 & 3
        if control & 1:
            skip = 4 + (1 + segment[at + 4] if control & 2 else 0)
            pid = (segment[at + 1] & 0x1F) << 8 | segment[at + 2]
            yield pid, bool(segment[at + 1] & 0x40), segment[at + skip : at + PACKET_BYTES]


def _time(payload: bytes) -> int:
    """Return the presentation time of a PES packet."""
    if not payload[7] & 0x80:
        raise BadSegment("a packet without a time")
    a, b, c, d, e = payload[9:14]
    return (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
