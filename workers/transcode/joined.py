"""Files joined end to end, as `cat` does it, in containers of which ffmpeg reads the first: MP4, Flash video, Windows Media.

Programme and transport streams, Ogg, Matroska and AVI may be joined so: ffmpeg reads on, and `clock` joins their clocks.
"""

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

FLV, FLV_HEAD_BYTES, FLV_TAG_BYTES = b"FLV\x01", 13, 15
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
STEPS_MAX = 2_000_000
"""Parts of a container that are looked at: the tags of a day of Flash video."""

Head = bytes
Part = tuple[bool, int]
"""Whether a file begins here, and the length of the part in bytes; 0 for nonsense."""


def recordings_in(path: Path) -> int:
    """Return how many files lie one after the other, 1 for containers that ffmpeg reads to the end."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return 1
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return recordings(data)


def recordings(data: mmap.mmap | bytes) -> int:
    """Return how many files lie in these bytes, as `recordings_in` does."""
    part = _reader(data[:24])
    if part is None:
        return 1
    at = found = 0
    for _ in range(STEPS_MAX):
        begins, length = part(data[at : at + 24])
        found += begins
        at += length
        if not length or at >= len(data):
            break
    return max(1, found)


def _reader(head: Head) -> Callable[[Head], Part] | None:
    if head[4:8] == b"ftyp":
        return _box
    if head.startswith(FLV):
        return _tag
    return _object if head.startswith(ASF) else None


def _box(head: Head) -> Part:
    """Read an MP4 box (ISO/IEC 14496-12): its size is 32 or 64 bits long, 0 up to the end of the file."""
    if len(head) < 16:
        return False, 0
    (size,) = struct.unpack_from(">I", head)
    (long_size,) = struct.unpack_from(">Q", head, 8)
    length = long_size if size == 1 else size
    return head[4:8] == b"ftyp", length if length >= 8 else 0


def _tag(head: Head) -> Part:
    """Read an FLV header, or a tag with the size that follows it."""
    if head.startswith(FLV):
        return True, FLV_HEAD_BYTES
    return False, FLV_TAG_BYTES + int.from_bytes(head[1:4], "big") if len(head) >= 4 else 0


def _object(head: Head) -> Part:
    """Read an ASF object: a GUID and a size."""
    if len(head) < 24:
        return False, 0
    (length,) = struct.unpack_from("<Q", head, 16)
    return head.startswith(ASF), length if length >= 24 else 0
