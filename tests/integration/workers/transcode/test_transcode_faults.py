"""What goes wrong while transcoding ends as a classified failure, and leaves nothing running."""

import asyncio
import dataclasses
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from events.errors import StoreUnavailable
from events.kinds import EncodeSpec, JobSpec, MediaResult
from events.media import Failure, ObjectRef, PlanSettings
from tests.support import flashes
from tests.support.clips import clip
from tests.support.transcoding import Video, audio_specs, encode_specs, finish, job_work, planned, transcode, verify
from tests.support.waiting import eventually
from tests.support.work import DirectoryStore
from workers.attempts.work import Limits, Work, WorkFailed
from workers.kinds import RUNNERS

SLOW = PlanSettings(segment_s=0.4, chunk_s=60, preset="veryslow")
"""One chunk that takes some seconds."""


def children() -> set[int]:
    """Return the tools that this process has started and not yet seen the end of, and what they have started.

    Each leads a process group of its own. The platform of other tests, whose worker starts tools as well, does not.
    """
    found: set[int] = set()
    for child in psutil.Process().children():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):  # it has just been seen to end
            if os.getpgid(child.pid) == child.pid:
                found |= {child.pid, *(grandchild.pid for grandchild in child.children(recursive=True))}
    return found


async def slow_job(folder: Path, **limits: Any) -> tuple[EncodeSpec, Work]:
    """Return a chunk of 1280x720 that takes some seconds to encode."""
    source = flashes.made("heavy")
    _, _, specs = await planned(source, folder, SLOW)
    (spec,) = encode_specs(specs)
    return spec, job_work(folder, source, "slow", Limits(threads=1, **limits))


async def failure_of(spec: JobSpec, work: Work) -> Failure:
    """Run a job that must fail; no process of it is left."""
    before = children()
    with pytest.raises(WorkFailed) as caught:
        await finish(spec, work)
    assert children() <= before
    return caught.value.failure


@pytest.mark.parametrize("when", ["at once", "with segments", "between updates"])
async def test_cancellation_ends_ffmpeg_and_leaves_no_child(when: str, tmp_path: Path) -> None:
    spec, work = await slow_job(tmp_path)
    before, updated = children(), asyncio.Event()

    async def consume() -> None:
        updates = cast(AsyncIterator[object], RUNNERS["encode"](spec, work))
        async with aclosing(updates):  # type: ignore[type-var]
            async for _ in updates:
                updated.set()
                if when == "between updates":
                    await asyncio.Event().wait()

    running = asyncio.create_task(consume())
    await eventually(lambda: children() - before)
    if when == "with segments":
        await eventually(lambda: list(work.directory.rglob("*.m4s")))
    if when == "between updates":
        await updated.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert children() == before
    assert not (tmp_path / "store" / work.prefix / "result.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 9 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)], capture_output=True, check=False)
    assert mounted.returncode == 0, f"a small disk cannot be mounted: {mounted.stderr.decode()}"
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_reported_and_worth_another_try(small_disk: Path, tmp_path: Path) -> None:
    spec, work = await slow_job(tmp_path)
    (small_disk / "filler").write_bytes(bytes(2 * 2**20))

    failure = await failure_of(spec, dataclasses.replace(work, directory=small_disk))

    assert (failure.stage, failure.category, failure.code) == ("encoding", "resource_exhaustion", "RESOURCE_DISK")
    assert failure.retryable


@pytest.mark.parametrize(
    ("limits", "category", "code", "retryable"),
    [
        ({"output_max_bytes": 2000}, "resource_exhaustion", "RESOURCE_OUTPUT", False),
        ({"stall_s": 0.01}, "timeout", "TIMEOUT", True),
    ],
)
async def test_a_run_is_bounded(limits: dict[str, Any], category: str, code: str, retryable: bool, tmp_path: Path) -> None:
    failure = await failure_of(*await slow_job(tmp_path, **limits))

    assert (failure.stage, failure.category, failure.code, failure.retryable) == ("encoding", category, code, retryable)


class FailingStore(DirectoryStore):
    """A store that refuses everything after its first objects."""

    def __init__(self, root: Path, accepts: int) -> None:
        super().__init__(root)
        self.accepts = accepts

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef:
        """Store a file, or refuse it."""
        self.accepts -= 1
        if self.accepts < 0:
            raise StoreUnavailable("the object store refuses writes")
        return await super().put_file(key, path, content_type)


async def test_a_store_that_refuses_ends_the_run_at_once(tmp_path: Path) -> None:
    spec, work = await slow_job(tmp_path)
    before = children()

    with pytest.raises(StoreUnavailable):
        await finish(spec, dataclasses.replace(work, store=FailingStore(tmp_path / "failing", 1)))

    assert children() == before


async def test_a_source_that_is_mostly_noise_fails_for_good(tmp_path: Path) -> None:
    source = flashes.made("pal")
    _, _, specs = await planned(source, tmp_path)
    noisy = tmp_path / "noisy.mkv"
    data = bytearray(source.read_bytes())
    for at in range(len(data) // 5, len(data), 40):
        data[at] ^= 0x5A
    noisy.write_bytes(data)
    spec = encode_specs(specs)[1].model_copy(update={"source": encode_specs(specs)[1].source.model_copy(update={"sha256": None})})

    failure = await failure_of(spec, job_work(tmp_path, noisy, "noisy"))

    assert failure.stage == "encoding"
    assert failure.message.endswith(".")


# --- verification ---------------------------------------------------------------------------------------------------


async def complaint(video: Video, folder: Path) -> str:
    """Return the code with which verification fails."""
    with pytest.raises(WorkFailed) as caught:
        await verify(video, folder)
    assert caught.value.failure.stage == "post_processing"
    return caught.value.failure.code


@pytest.fixture
async def video(tmp_path: Path) -> Video:
    """A right video of three chunks with sound."""
    made = await transcode(clip("mp4"), tmp_path)
    await verify(made, tmp_path)
    return made


async def test_an_altered_object_is_found(video: Video, tmp_path: Path) -> None:
    path = video.store.path_of(video.segments("240p")[1].object.key)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    assert await complaint(video, tmp_path) == "OBJECT_ALTERED"


async def test_a_missing_object_is_found(video: Video, tmp_path: Path) -> None:
    video.store.path_of(video.segments("audio-1-96k")[0].object.key).unlink()

    assert await complaint(video, tmp_path) == "OBJECT_MISSING"


async def test_a_chunk_of_another_encoder_build_is_found(video: Video, tmp_path: Path) -> None:
    spec = encode_specs(video.specs)[1]
    other = spec.model_copy(update={"plan": spec.plan.model_copy(update={"preset": "veryfast"})})
    work = dataclasses.replace(job_work(tmp_path, clip("mp4"), "other"), store=video.store)
    video.results["encode-1"], _ = await finish(other, work)

    assert await complaint(video, tmp_path) == "INIT_MISMATCH"


async def test_a_chunk_in_the_wrong_place_is_found(video: Video, tmp_path: Path) -> None:
    first, second = (video.results[f"encode-{index}"] for index in (0, 1))
    assert isinstance(first, MediaResult) and isinstance(second, MediaResult)
    swapped = video.store.path_of(second.renditions[0].segments[0].object.key)
    swapped.write_bytes(video.data(first.renditions[0].segments[0].object))

    assert await complaint(video, tmp_path) == "OBJECT_ALTERED"


async def test_a_missing_chunk_is_found(video: Video, tmp_path: Path) -> None:
    del video.results["encode-1"]

    assert await complaint(video, tmp_path) == "SEGMENTS_MISSING"


async def test_a_sound_track_without_memory_may_be_tried_again(tmp_path: Path) -> None:
    source = clip("mp4")
    _, _, specs = await planned(source, tmp_path)
    (spec,) = audio_specs(specs)

    failure = await failure_of(spec, job_work(tmp_path, source, "sound", Limits(threads=1, memory_max_bytes=2**24)))

    assert failure.retryable
