"""Files joined end to end are noticed where ffmpeg would read the first one only."""

import struct
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.joined import ASF, recordings

Make = Callable[[list[int]], bytes]
SIZES = st.lists(st.integers(8, 200), min_size=1, max_size=6)


def mp4(sizes: list[int]) -> bytes:
    """Return an MP4 file of boxes with so many bytes."""
    boxes = [struct.pack(">I4s", 8 + size, b"mdat") + b"ftyp" * (size // 4) + bytes(size % 4) for size in sizes]
    return struct.pack(">I4s8x", 16, b"ftyp") + b"".join(boxes)


def flv(sizes: list[int]) -> bytes:
    """Return Flash video of tags with so many bytes; their content looks like headers."""
    tags = [b"\x09" + size.to_bytes(3, "big") + bytes(7) + (b"FLV\x01" * 50)[:size] + (size + 11).to_bytes(4) for size in sizes]
    return b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + b"".join(tags)


def asf(sizes: list[int]) -> bytes:
    """Return Windows Media of objects with so many bytes."""
    objects = [bytes(15) + b"\x01" + struct.pack("<Q", 24 + size) + (ASF * 20)[:size] for size in sizes]
    return ASF + struct.pack("<Q", 24) + b"".join(objects)


@given(st.sampled_from([mp4, flv, asf]), st.lists(SIZES, min_size=1, max_size=4))
def test_joined_files_are_counted_by_their_structure(make: Make, files: list[list[int]]) -> None:
    assert recordings(b"".join(make(sizes) for sizes in files)) == len(files)


@given(st.sampled_from([mp4, flv, asf]), SIZES, st.binary(max_size=60))
def test_nonsense_ends_the_count(make: Make, sizes: list[int], noise: bytes) -> None:
    assert recordings(make(sizes) + b"\0" * 30 + noise) >= 1


@given(st.binary(max_size=200))
def test_any_bytes_are_one_file(data: bytes) -> None:
    assert recordings(data) >= 1
