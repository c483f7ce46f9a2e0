"""Choice of a source's streams: one of pictures, and the sound and text that belong to it. Pure.

A stream counts when it has packets that can be decoded; a stream that a header only announces does not count. A single
picture beside a film is a cover. If a file has several programmes (broadcasts), one is used with its own sound, because
each has a clock of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from events.media import Failure
from workers.transcode.accepted import encrypted, failure
from workers.transcode.packets import PacketScan, StreamTimes

Stream = Mapping[str, Any]
ENCRYPTED_TAGS = frozenset(("encv", "enca", "drms", "drmi", "drmt"))
"""QuickTime's names of protected streams: Common Encryption, FairPlay."""


@dataclass(frozen=True, slots=True)
class Program:
    """A programme of a broadcast: its name and the indexes of its streams."""

    name: str
    streams: frozenset[int]


@dataclass(frozen=True, slots=True)
class Choice:
    """The streams in use, the pictures that count as covers, and the remarks about the rest."""

    video: Stream | None
    audio: tuple[Stream, ...]
    subtitles: tuple[Stream, ...]
    covers: tuple[Stream, ...]
    warnings: tuple[str, ...]


def programs_of(parsed: Mapping[str, Any]) -> tuple[Program, ...]:
    """Return the programmes in ffprobe's JSON (`-show_programs`) that have a stream."""
    found = []
    for number, raw in enumerate(parsed.get("programs", ()), 1):
        indexes = frozenset(int(stream["index"]) for stream in raw.get("streams", ()))
        name = "".join(c for c in str(raw.get("tags", {}).get("service_name", "")) if c.isprintable()).strip()[:60]
        if indexes:
            found.append(Program(name or str(number), indexes))
    return tuple(found)


def choose(streams: Sequence[Stream], programs: Sequence[Program], scan: PacketScan) -> Choice | Failure:
    """Return the streams to use; a Failure when there are pictures or sound and none can be decoded."""
    films = [stream for stream in streams if is_video(stream) and _packets(stream, scan)]
    sounds = [stream for stream in streams if stream.get("codec_type") == "audio"]
    audible = [stream for stream in sounds if _packets(stream, scan) and is_audible(stream) and not _is_encrypted(stream, scan)]
    clear = [stream for stream in films if not _is_encrypted(stream, scan)]
    if (films and not clear) or (not films and not audible and any(_is_encrypted(stream, scan) for stream in sounds)):
        return encrypted()
    visible = [stream for stream in clear if is_visible(stream)]
    if clear and not visible:
        codec = clear[0].get("codec_name") or "unknown"
        return failure("codec_issues", "VIDEO_UNREADABLE", f"The pictures cannot be decoded (codec: {codec}).")
    moving = [stream for stream in visible if _packets(stream, scan) > 1] or visible
    video = _default(moving)
    warnings = []
    inside = _inside(video, audible, programs)
    if inside is not None:
        moving = [stream for stream in moving if int(stream["index"]) in inside.streams]
        warnings.append(f"The file has {len(programs)} programmes; “{inside.name}” is used, with its own sound.")
    if len(moving) > 1:
        warnings.append("The file has more than one video track; the default one is used.")
    own = [stream for stream in audible if _belongs(stream, inside, programs)]
    lost = sum(_belongs(stream, inside, programs) for stream in sounds) - len(own)
    if lost:
        warnings.append(f"{lost} sound track(s) cannot be decoded and are left out.")
    subtitles = [stream for stream in streams if stream.get("codec_type") == "subtitle" and _belongs(stream, inside, programs)]
    covers = [stream for stream in visible if _packets(stream, scan) == 1 and stream is not video and stream not in moving]
    return Choice(video, tuple(own), tuple(subtitles), tuple(covers), tuple(warnings))


def is_video(stream: Stream) -> bool:
    """Return whether the stream is moving pictures and not a cover by its container's flag."""
    return stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")


def is_visible(stream: Stream) -> bool:
    """Return whether pictures of the stream can be decoded."""
    sizes = int(stream.get("width") or 0), int(stream.get("height") or 0)
    return stream.get("codec_name") not in (None, "unknown") and stream.get("pix_fmt") not in (None, "unknown") and min(sizes) > 0


def is_audible(stream: Stream) -> bool:
    """Return whether sound of the stream can be decoded."""
    known = stream.get("codec_name") not in (None, "unknown")
    return known and int(stream.get("channels") or 0) > 0 and int(stream.get("sample_rate") or 0) > 0


def _default(videos: Sequence[Stream]) -> Stream | None:
    flagged = (stream for stream in videos if stream.get("disposition", {}).get("default"))
    return next(flagged, videos[0] if videos else None)


def _inside(video: Stream | None, audible: Sequence[Stream], programs: Sequence[Program]) -> Program | None:
    """Return the programme of the pictures, else that of the first sound; None when the file has only one."""
    first = video if video is not None else (audible[0] if audible else None)
    if len(programs) < 2 or first is None:
        return None
    return next((program for program in programs if int(first["index"]) in program.streams), None)


def _belongs(stream: Stream, inside: Program | None, programs: Iterable[Program]) -> bool:
    """Return whether the stream belongs to the programme, or to none."""
    index = int(stream["index"])
    return inside is None or index in inside.streams or not any(index in program.streams for program in programs)


def _packets(stream: Stream, scan: PacketScan) -> int:
    return scan.streams.get(int(stream["index"]), StreamTimes()).packets


def _is_encrypted(stream: Stream, scan: PacketScan) -> bool:
    """Return whether the container says so: by a name, by a key's id (Matroska), or beside packets."""
    if stream.get("codec_tag_string") in ENCRYPTED_TAGS or "enc_key_id" in map(str.lower, stream.get("tags", {})):
        return True
    return scan.streams.get(int(stream["index"]), StreamTimes()).encrypted
