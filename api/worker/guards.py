"""Files that a worker may send for its job: names, and the matching first bytes. Pure."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from events.errors import InvalidRequest

NAME_CHARS_MAX = 255
HEAD_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RENDITION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_BOXES = (b"moof", b"styp", b"sidx", b"emsg", b"ftyp")

_MAGIC: Mapping[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        ".ts": lambda head: head[:1] == b"\x47",
        ".m4s": lambda head: head[4:8] in _BOXES,
        ".mp4": lambda head: head[4:8] == b"ftyp",
        ".m3u8": lambda head: head.startswith(b"#EXTM3U"),
        ".mpd": lambda head: head.startswith((b"<?xml", b"<MPD")),
        ".jpg": lambda head: head.startswith(b"\xff\xd8\xff"),
        ".vtt": lambda head: head.removeprefix(b"\xef\xbb\xbf").startswith(b"WEBVTT"),
        ".json": lambda head: head.startswith(b"{"),
    }
)
_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        ".ts": ("video/mp2t",),
        ".m4s": ("video/iso.segment", "audio/iso.segment"),
        ".mp4": ("video/mp4", "audio/mp4"),
        ".m3u8": ("application/vnd.apple.mpegurl",),
        ".mpd": ("application/dash+xml",),
        ".jpg": ("image/jpeg",),
        ".vtt": ("text/vtt",),
        ".json": ("application/json",),
    }
)
SEGMENTS = (".ts", ".m4s", ".mp4", ".m3u8", ".mpd")
"""File names inside the folder of a rendition."""
EXTRAS = (".jpg", ".vtt", ".json")
"""File names beside these folders."""


def checked_path(path: str) -> str:
    """Return the path of a file below its job's prefix, `720p/00000.m4s` or `thumbnail.jpg`. Raises InvalidRequest."""
    rendition, slash, name = path.rpartition("/")
    if slash and not _RENDITION.fullmatch(rendition):
        raise InvalidRequest("a rendition is named with up to 64 small letters, digits and dashes")
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name) or ".." in name:
        raise InvalidRequest(f"a file is named with up to {NAME_CHARS_MAX} letters, digits, dots, dashes and underscores")
    allowed = SEGMENTS if slash else EXTRAS
    if suffix_of(name) not in allowed:
        raise InvalidRequest(f"such a file ends in one of {', '.join(allowed)}")
    return path


def check_magic(name: str, head: bytes) -> None:
    """Raise InvalidRequest unless the first bytes match the file's type."""
    if not _MAGIC[suffix_of(name)](head):
        raise InvalidRequest(f"these are not the first bytes of a {suffix_of(name)} file")


def content_type(name: str, said: str | None) -> str:
    """Return the content type to store a file with: the declared one, if such a file may have it."""
    allowed = _TYPES[suffix_of(name)]
    return said if said in allowed else allowed[0]


def suffix_of(name: str) -> str:
    """Return `.m4s` of `00000.m4s`; empty when there is none."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem else ""
