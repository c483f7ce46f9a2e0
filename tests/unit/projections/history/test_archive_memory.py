"""Files of the archive are small and their records large: nobody unpacks more than a part of them at once."""

import pyarrow as pa
import pytest

from events.codec import encode
from events.videos import VideoUploaded
from projections.history import parquet
from projections.history.archive import Segment, joinable
from projections.history.parquet import NO_LINK, check_segment, next_link, parsed, read_batches, read_segment, write_segment
from tests.support.footage import VIDEO_ID, recorded

RECORDS = 30_000


@pytest.fixture(scope="module")
def packed() -> tuple[bytes, int]:
    """A file of the archive, and how many bytes its records are together."""
    event = VideoUploaded(video_id=VIDEO_ID, title="t", description="x" * 1000, filename="f", object_key="k", size_bytes=1)
    value = encode(recorded(event, 0, topic="videos").envelope)
    file, _ = write_segment("videos", 0, parsed((offset, value) for offset in range(RECORDS)), NO_LINK)
    return file, RECORDS * len(value)


def test_a_file_is_unpacked_a_part_at_a_time(packed: tuple[bytes, int]) -> None:
    file, unpacked_bytes = packed
    assert unpacked_bytes > 30 * len(file)
    before = pa.total_allocated_bytes()
    seen = [pa.total_allocated_bytes() - before for _ in read_batches(file, 1000)]
    assert len(seen) == RECORDS // 1000 and max(seen) < unpacked_bytes / 4


def test_a_file_is_checked_a_part_at_a_time(packed: tuple[bytes, int], monkeypatch: pytest.MonkeyPatch) -> None:
    file, unpacked_bytes = packed
    before, seen = pa.total_allocated_bytes(), [0]

    def link(link: bytes, offset: int, value: bytes) -> bytes:
        if offset % 1000 == 0:
            seen.append(pa.total_allocated_bytes() - before)
        return next_link(link, offset, value)

    monkeypatch.setattr(parquet, "next_link", link)
    check_segment(file, NO_LINK, "here")
    assert len(seen) == RECORDS // 1000 + 1 and max(seen) < unpacked_bytes / 4
    assert sum(1 for _ in read_segment(file)) == RECORDS


def segment(number: int, *, day: int = 1, unpacked_bytes: int | None = 10) -> Segment:
    key = f"archive/topic=videos/day=2026-03-0{day}/{number}"
    return Segment("videos", 0, number, number + 1, 1, key, 1, "", "", unpacked_bytes=unpacked_bytes)


def test_files_are_joined_as_far_as_their_records_find_room_in_memory() -> None:
    files = [*map(segment, range(5)), segment(5, day=2)]
    assert joinable(files, 100, 100, 20) == [files[0:2], files[2:4]]
    assert joinable(files, 100, 100, 19) == []
    assert joinable([segment(0, unpacked_bytes=None), *files[1:]], 100, 100, 11) == [[segment(0, unpacked_bytes=None), files[1]]]
