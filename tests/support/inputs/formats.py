"""Awkward formats: those of discs, phones and broadcasts, and their protections."""

import random
import struct

from tests.support.recipes import X264, Failed, Recipe, picture, published, talkie, tone

PACKET_BYTES = 188
HEVC_10 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1")
WITH_SURROUND = (*picture(), *tone(layout="5.1"), *X264, "-strict", "-2")


def scrambled(data: bytes) -> bytes:
    """Scramble the pictures and sound of a transport stream, as pay television does: noise, under the bits that say so."""
    noise, made = random.Random(6), bytearray(data)
    for at in range(0, len(made), PACKET_BYTES):
        if (made[at + 1] & 31) << 8 | made[at + 2] in (0x100, 0x101):
            skip = 4 + (1 + made[at + 4] if made[at + 3] & 0x20 else 0)
            made[at + 3] |= 0x80
            made[at + skip : at + PACKET_BYTES] = noise.randbytes(PACKET_BYTES - skip)
    return bytes(made)


def encrypted_mkv(data: bytes) -> bytes:
    """Say that the first track is encrypted: ContentEncodings (AES, a key's id) in place of uid, lacing and language, as long."""
    at = data.index(b"\x73\xc5\x88")
    encodings = bytes.fromhex("6d8092 62408f 50338101 503588 47e18105 47e28142")
    return data[:at] + encodings + data[at + len(encodings) :]


def dolby_vision(data: bytes) -> bytes:
    """Give the first sample entry the record of Dolby Vision profile 5: no other player knows its colours."""
    profile, level, has_metadata, has_base_layer = 5, 1, 1 << 2, 1
    record = bytes((1, 0)) + struct.pack(">HB", profile << 9 | level << 3 | has_metadata | has_base_layer, 0) + bytes(19)
    box = struct.pack(">I4s", 8 + len(record), b"dvcC") + record
    at, made = 0, bytearray(data)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"):
        at = made.index(name, at)
        (size,) = struct.unpack_from(">I", made, at - 4)
        struct.pack_into(">I", made, at - 4, size + len(box))
    return bytes(made[: at - 4 + size] + box + made[at - 4 + size :])


def with_teletext(data: bytes) -> bytes:
    """Announce teletext subtitles (ETSI EN 300 468) in a transport stream, and send a packet of them that is empty."""
    pid, map_pid = 0x120, 0x1000
    units = b"\x10" + (b"\xff\x2c" + b"\xff" * 44) * 3
    packet = b"\0\0\1\xbd" + (3 + 36 + len(units)).to_bytes(2) + b"\x84\0\x24" + b"\xff" * 36 + units
    sent = bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10)) + packet
    parts = [data[at : at + PACKET_BYTES] for at in range(0, len(data), PACKET_BYTES)]
    tables = [_announcing(part, pid) if (part[1] & 31) << 8 | part[2] == map_pid else part for part in parts]
    middle = len(tables) // 2
    return b"".join([*tables[:middle], sent.ljust(PACKET_BYTES, b"\xff"), *tables[middle:]])


def _announcing(packet: bytes, pid: int) -> bytes:
    """Return the programme map with one more stream: private data, described as subtitles on page 888."""
    table = packet[5 : 5 + 3 + ((packet[6] & 0x0F) << 8 | packet[7])]
    descriptor = b"\x56\x05eng\x10\x88"
    body = table[3:-4] + bytes((6, 0xE0 | pid >> 8, pid & 0xFF, 0xF0, len(descriptor))) + descriptor
    made = table[:1] + (0xB000 | len(body) + 4).to_bytes(2) + body
    return (packet[:5] + made + _crc(made).to_bytes(4)).ljust(PACKET_BYTES, b"\xff")


def _crc(data: bytes) -> int:
    """Return the CRC-32 of MPEG's tables."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


TALKIE = published("240p", sizes=((320, 240),), audio_tracks=1)
SURROUND = published("240p", audio_tracks=1, warnings=("mixed down",))

FORMATS: dict[str, Recipe] = {
    "mbaff": Recipe(
        "mbaff.mkv",
        "interlaced H.264, fields and frames mixed (MBAFF)",
        published("480p", "360p", sizes=((600, 480), (450, 360)), warnings=("deinterlaced",)),
        (*picture("720x576", rate="50"), "-vf", "setsar=1,interlace=scan=tff", *X264, "-flags", "+ilme+ildct"),
    ),
    "dolby_vision_5": Recipe(
        "dolby_vision.mp4",
        "Dolby Vision whose colours nothing else knows (profile 5)",
        Failed("VIDEO_DOLBY_VISION"),
        (*picture(seconds="0.2"), *HEVC_10, "-x265-params", "log-level=error:pools=1:frame-threads=1"),
        edit=dolby_vision,
    ),
    "dts": Recipe("dts.mkv", "DTS sound", SURROUND, (*WITH_SURROUND, "-c:a", "dca")),
    "dts_alone": Recipe(
        "alone.dts",
        "DTS sound without a container",
        published(audio_tracks=1, warnings=("mixed down",)),
        (*tone(layout="5.1"), "-strict", "-2", "-c:a", "dca"),
    ),
    "truehd": Recipe("truehd.mkv", "Dolby TrueHD sound", SURROUND, (*WITH_SURROUND, "-c:a", "truehd")),
    "amr_3gp": Recipe(
        "amr.3gp",
        "a phone's 3GP with AMR sound",
        TALKIE,
        (*picture(), *tone(), *X264, "-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1"),
    ),
    "wtv": Recipe(
        "recording.wtv",
        "a recording of Windows Media Center",
        TALKIE,
        (*picture(), *tone(), "-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2"),
    ),
    "teletext": Recipe(
        "teletext.ts",
        "a broadcast with teletext subtitles",
        published("240p", audio_tracks=1, warnings=("dvb_teletext",)),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=with_teletext,
    ),
    "scrambled": Recipe(
        "scrambled.ts",
        "a broadcast that is scrambled",
        Failed("FILE_ENCRYPTED"),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=scrambled,
    ),
    "encrypted_mkv": Recipe(
        "encrypted.mkv",
        "pictures that are encrypted (Matroska, WebM)",
        Failed("FILE_ENCRYPTED"),
        talkie(),
        edit=encrypted_mkv,
    ),
}
"""Name -> how it is made and what becomes of it."""
