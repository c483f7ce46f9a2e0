"""What a clip is made of, and what must become of it: recipes, their ingredients, and edits of bytes."""

import random
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.support.work import ffmpeg_path


@dataclass(frozen=True, slots=True)
class Published:
    """The video is published with these rungs, highest first, and so many audio tracks and text subtitles.

    `warnings` are parts of sentences that the probe's warnings or the plan's notes must hold, `silent_about` words that
    none of them may hold. `sizes` are the width
    and height of each rung, `frame_rate` that of the plan.
    """

    rungs: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = ()
    frame_rate: str = "25/1"
    audio_tracks: int = 0
    subtitles: int = 0
    duration_ms: int = 1000
    warnings: tuple[str, ...] = ()
    silent_about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The video fails in this stage with this code."""

    code: str
    stage: str = "analysis"


def published(*rungs: str, **details: object) -> Published:
    """Return the answer with these rungs."""
    return Published(rungs, **details)  # type: ignore[arg-type]


TALKIE = published("240p", sizes=((320, 240),), audio_tracks=1)
"""What becomes of a second of pictures and sound."""
Edit = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a clip is made.

    `arguments` go to ffmpeg; `{name}` in them is the path of one of `files`, `{clip:other}` that of another clip. The
    result, or nothing when there are no arguments, then passes through `edit`. `upload_name` is the file name that the
    sender claims, when it is not one that a disk can hold.
    """

    filename: str
    about: str
    expected: Published | Failed
    arguments: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    edit: Edit | None = None
    upload_name: str | None = None

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Return the names of the clips that this one is made from."""
        return tuple(word[6:-1] for word in self.arguments if word.startswith("{clip:"))


# --- ingredients ----------------------------------------------------------------------------------------------------


def picture(size: str = "320x240", rate: str = "25", seconds: str = "1") -> tuple[str, ...]:
    """Return ffmpeg's arguments for moving pictures."""
    return ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}")


def tone(hertz: int = 440, seconds: str = "1", layout: str = "stereo") -> tuple[str, ...]:
    """Return ffmpeg's arguments for a tone."""
    return ("-f", "lavfi", "-i", f"sine=f={hertz}:r=48000:d={seconds},aformat=channel_layouts={layout}")


PATCHES = ((180, 20, 20), (20, 180, 20), (20, 20, 180), (224, 128, 64), (128, 128, 128), (235, 235, 235))
"""Red, green and blue of the six patches, from left to right."""


def patches(size: str = "120x360", seconds: str = "0.2") -> tuple[str, ...]:
    """Return ffmpeg's arguments for a picture of six patches, each of this size, in RGB."""
    colors = "".join(f"color=c=#{r:02x}{g:02x}{b:02x}:s={size}:r=25:d={seconds}[{n}];" for n, (r, g, b) in enumerate(PATCHES))
    return ("-f", "lavfi", "-i", f"{colors}[0][1][2][3][4][5]hstack=6,format=gbrp")


def in_yuv(matrix: str, color_range: str, pixel_format: str, *tags: str) -> tuple[str, ...]:
    """Return ffmpeg's arguments that convert exactly, and write these tags (matrix, primaries, transfer) or none."""
    space, primaries, transfer = tags or ("unknown",) * 3
    exact = f"scale=out_color_matrix={matrix}:out_range={color_range}:flags=accurate_rnd+full_chroma_int,format={pixel_format}"
    return ("-vf", f"{exact},setparams=colorspace={space}:color_primaries={primaries}:color_trc={transfer}")


def marked(size: str = "640x360", seconds: str = "0.2") -> tuple[str, ...]:
    """Return ffmpeg's arguments for a white square of a sixth of the height, in the middle of the upper left quarter."""
    box = "drawbox=x=iw/4-ih/12:y=ih/4-ih/12:w=ih/6:h=ih/6:t=fill:color=white"
    return ("-f", "lavfi", "-i", f"color=black:s={size}:r=25:d={seconds},{box}")


def fields(order: str, seconds: str = "0.4") -> tuple[str, ...]:
    """Return ffmpeg's arguments for a bar that moves 8 pixels a field, interlaced and not flagged as such."""
    bar = f"nullsrc=s=720x576:r=50:d={seconds},geq=lum='if(between(mod(X-T*400,720),0,100),235,40)':cb=128:cr=128"
    rows = {"tff": "interleave_top", "bff": "interleave_bottom"}[order]
    return ("-f", "lavfi", "-i", f"{bar},tinterlace={rows},setfield=prog")


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2")
AAC = ("-c:a", "aac", "-b:a", "64k")


def talkie(*inputs: str) -> tuple[str, ...]:
    """Return ffmpeg's arguments for a second of 320x240 at 25 frames a second, with stereo sound, and for more inputs."""
    return (*picture(), *tone(), *inputs, *X264, *AAC)


SRT = b"1\n00:00:00,100 --> 00:00:00,500\nHello, <i>world</i>\n\n2\n00:00:00,600 --> 00:00:00,900\nZwei: \xc3\xa4\xc3\xb6\n"


MARKS = (
    "1\n00:00:00,100 --> 00:00:00,300\nAT&T <3 you & me\n\n"
    "2\n00:00:00,300 --> 00:00:00,500\nif a < b and b > c then a --> c\n\n"
    '3\n00:00:00,500 --> 00:00:00,700\n{\\an8}<i>top <b>both</i> italics</b> <font color="red">red</font> {text}\n\n'
    "4\n00:00:00,700 --> 00:00:00,900\n\u202bשלום, עולם!\u202c\n\n"
).encode()
ASS = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 640
PlayResY: 480

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,28,&H00FFFFFF,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,{unseen}plain & <simple>
Dialogue: 0,0:00:00.30,0:00:00.50,Default,,0,0,0,,first\\N\\Nthird {\\i1}after{\\i0} an empty line
Dialogue: 0,0:00:00.50,0:00:00.70,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100 0 100{\\p0}
Comment: 0,0:00:00.50,0:00:00.70,Default,,0,0,0,,a note of the author
Dialogue: 0,0:00:00.70,0:00:00.90,Default,,0,0,0,,{\\pos(320,48)}sign
"""
WEBVTT = b"""WEBVTT

first
00:00:00.100 --> 00:00:00.500 line:10% position:10% align:start
<v Anna>Hello &amp; welcome

00:00:00.500 --> 00:00:00.900
<c.yellow>yellow</c> &lt;tag&gt; & more
"""
SCC = b"Scenarist_SCC V1.0\n\n00:00:00:05\t9420 9420 9470 9470 c8e5 ecec ef80 942f 942f\n\n00:00:00:20\t942c 942c\n"


def captioned(data: bytes) -> bytes:
    """Put closed captions (CEA-608, "Hello" from 0.36 s to 0.8 s) into the H.264 pictures of an MP4 file in fragments."""
    words = dict(enumerate(("9420", "9420", "9470", "9470", "c8e5", "ecec", "ef80", "942f", "942f"), 1)) | {20: "942c", 21: "942c"}
    delimiter = b"\0\0\0\1\x09"
    stream = _remuxed(data, "mov", "h264", "-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert")
    captions = b""
    for number, picture in enumerate(stream.split(delimiter)[1:]):
        body = bytes.fromhex(f"b5003147413934 03c1ff fc{words.get(number, '8080')} ff")
        message = b"\x04" + bytes([len(body)]) + body + b"\x80"
        captions += delimiter + picture[:1] + b"\0\0\0\1\x06" + message + picture[1:]
    return _remuxed(captions, "h264", "mp4", "-movflags", "frag_keyframe+empty_moov")


def _remuxed(data: bytes, source: str, target: str, *more: str) -> bytes:
    argv = [ffmpeg_path(), "-v", "error", "-r", "25", "-f", source, "-i", "pipe:0", "-c", "copy", *more, "-f", target, "pipe:1"]
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


def pgs() -> bytes:
    """Return a Blu-ray subtitle stream (.sup): one 8x4 white box from 0.2 s to 0.8 s."""

    def segment(at_s: float, kind: int, body: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", round(at_s * 90000), 0, kind, len(body)) + body

    def composition(number: int, state: int, objects: bytes, count: int) -> bytes:
        return struct.pack(">HHBHBBBB", 320, 240, 0x10, number, state, 0, 0, count) + objects

    shown = struct.pack(">HBBHH", 0, 0, 0, 16, 200)
    window = struct.pack(">BBHHHH", 1, 0, 16, 200, 8, 4)
    palette = bytes((0, 0, 1, 235, 128, 128, 255))
    bitmap = (b"\x01" * 8 + b"\x00\x00") * 4
    drawn = struct.pack(">HBB", 0, 0, 0xC0) + (len(bitmap) + 4).to_bytes(3, "big") + struct.pack(">HH", 8, 4) + bitmap
    parts = [(0x16, composition(0, 0x80, shown, 1)), (0x17, window), (0x14, palette), (0x15, drawn), (0x80, b"")]
    gone = [(0x16, composition(1, 0x00, b"", 0)), (0x17, window), (0x80, b"")]
    return b"".join(segment(0.2, *part) for part in parts) + b"".join(segment(0.8, *part) for part in gone)


# --- edits of bytes -------------------------------------------------------------------------------------------------


def cut_at_90_percent(data: bytes) -> bytes:
    """Leave the last tenth out."""
    return data[: len(data) * 9 // 10]


def constant(content: bytes) -> Edit:
    """Return an edit that puts this instead of everything."""

    def edit(_: bytes) -> bytes:
        return content

    return edit


def random_bytes(_: bytes) -> bytes:
    """Return noise, always the same."""
    return random.Random(4).randbytes(20_000)


def lying_mp4(data: bytes) -> bytes:
    """Multiply the durations in mvhd, tkhd, mdhd and elst (version 0) by ten; the sample tables stay true."""
    patched = bytearray(data)
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = patched.find(box)
        while at >= 0:
            (value,) = struct.unpack_from(">I", patched, at + offset)
            struct.pack_into(">I", patched, at + offset, value * 10)
            at = patched.find(box, at + 4)
    at = patched.find(b"elst")
    while at >= 0:
        (count,) = struct.unpack_from(">I", patched, at + 8)
        for entry in range(count):
            (value,) = struct.unpack_from(">I", patched, at + 12 + 12 * entry)
            struct.pack_into(">I", patched, at + 12 + 12 * entry, value * 10)
        at = patched.find(b"elst", at + 4)
    return bytes(patched)


def lying_mkv(data: bytes) -> bytes:
    """Multiply the Duration of the segment's Info (element 0x4489, a double) by ten."""
    at = data.index(b"\x44\x89\x88")
    (value,) = struct.unpack_from(">d", data, at + 3)
    return data[: at + 3] + struct.pack(">d", value * 10) + data[at + 11 :]


def cropped_mkv(data: bytes) -> bytes:
    """Crop 48 rows above and below: PixelCropTop and PixelCropBottom instead of FlagInterlaced and Colour, as long."""
    at = data.index(b"\x9a\x81\x02\x55\xb0\x84")
    return data[:at] + b"\x54\xbb\x82\x00\x30\x54\xaa\x82\x00\x30" + data[at + 10 :]


def cropped_mp4(data: bytes) -> bytes:
    """Give the first sample entry a clean aperture of 640x264; the index (moov) must come last."""
    aperture = struct.pack(">I4s8I", 40, b"clap", 640, 1, 264, 1, 0, 1, 0, 1)
    at = 0
    patched = bytearray(data)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = patched.index(box, at)
        (size,) = struct.unpack_from(">I", patched, at - 4)
        struct.pack_into(">I", patched, at - 4, size + len(aperture))
    end = at - 4 + size
    return bytes(patched[:end] + aperture + patched[end:])


def corrupt_middle(data: bytes) -> bytes:
    """Overwrite 6 % of the file, in the middle of its pictures, with noise."""
    start, length = len(data) * 47 // 100, len(data) * 6 // 100
    return data[:start] + random.Random(5).randbytes(length) + data[start + length :]
