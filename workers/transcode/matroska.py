"""Language tags of Matroska tracks that ffprobe does not show: `LanguageBCP47`, which overrides the older `Language`.

Reads only the headers of elements and the Tracks element, within bounds. A malformed file gives no tags and no error.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SEGMENT, TRACKS, TRACK_ENTRY, TRACK_TYPE, LANGUAGE_BCP47 = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x22B59D
STREAM_TYPES = frozenset((1, 2, 0x11, 0x21))
"""Pictures, sound, subtitles and metadata: ffmpeg counts these, in order."""
TRACKS_MAX_BYTES = 4 * 2**20
ELEMENTS_MAX = 1000


def languages_of(path: Path) -> dict[int, str]:
    """Return the BCP 47 tag of each stream that has one, by ffmpeg's index."""
    with path.open("rb") as file:
        return languages(file)


def languages(file: BinaryIO) -> dict[int, str]:
    """Return the BCP 47 tags of an open file, as `languages_of` does."""
    data = _tracks(file)
    found: dict[int, str] = {}
    index = 0
    for entry in (body for kind, body in _elements(data) if kind == TRACK_ENTRY):
        values = dict(_elements(entry))
        if int.from_bytes(values.get(TRACK_TYPE, b"")[-1:], "big") in STREAM_TYPES:
            if tag := values.get(LANGUAGE_BCP47, b"").rstrip(b"\0").decode("ascii", "replace"):
                found[index] = tag
            index += 1
    return found


def _tracks(file: BinaryIO) -> bytes:
    """Return the body of the Tracks element, empty when it is not among the first elements of the segment."""
    for _ in range(ELEMENTS_MAX):
        head = file.read(12)
        kind, size, used = _head(head)
        if kind is None:
            return b""
        file.seek(used - len(head), 1)
        if kind == TRACKS:
            return file.read(min(size, TRACKS_MAX_BYTES)) if size is not None else b""
        if kind != SEGMENT:
            if size is None:
                return b""
            file.seek(size, 1)
    return b""


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    for _ in range(ELEMENTS_MAX):
        kind, size, used = _head(data[at : at + 12])
        if kind is None or size is None or at + used + size > len(data):
            return
        yield kind, data[at + used : at + used + size]
        at += used + size


def _head(data: bytes) -> tuple[int | None, int | None, int]:
    """Return an element's id, size and head length; None as id at the end or for nonsense, None as an unknown size."""
    if len(data) < 2 or data[0] < 0x10:
        return None, None, 0
    id_length = 9 - data[0].bit_length()
    if len(data) <= id_length or data[id_length] == 0:
        return None, None, 0
    size_length = 9 - data[id_length].bit_length()
    raw = data[id_length : id_length + size_length]
    if len(raw) < size_length:
        return None, None, 0
    size = int.from_bytes(raw, "big") & ((1 << 7 * size_length) - 1)
    unknown = size == (1 << 7 * size_length) - 1
    return int.from_bytes(data[:id_length], "big"), None if unknown else size, id_length + size_length
