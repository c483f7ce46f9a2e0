"""Contract of a cache of sources: the real one, and the one of a single local file that tests of the tools use."""

import hashlib
from pathlib import Path

import pytest

from events.errors import ObjectMissing
from events.kinds import Source
from tests.support.work import DirectoryStore, LocalSources
from workers.attempts.work import SourceCache, WorkFailed
from workers.sources import Sources

DATA = bytes(range(256))
SHA256 = hashlib.sha256(DATA).hexdigest()
SOURCE = Source(object_key="sources/v/original", size_bytes=len(DATA))


@pytest.fixture(params=["local", "cache"])
async def cache(request: pytest.FixtureRequest, tmp_path: Path) -> SourceCache:
    """Both of them, with one source."""
    if request.param == "local":
        (tmp_path / "original").write_bytes(DATA)
        return LocalSources(tmp_path / "original")
    store = DirectoryStore(tmp_path / "store")
    await store.put_bytes(SOURCE.object_key, DATA, "video/mp4")
    job = tmp_path / "job"
    job.mkdir()
    return Sources(tmp_path / "sources", store, bytes_max=1000).used_in(job)


async def test_a_source_is_a_file_with_its_digest(cache: SourceCache) -> None:
    for announced in (None, SHA256):
        path, digest = await cache.fetch(SOURCE.model_copy(update={"sha256": announced}))
        assert (path.read_bytes(), digest) == (DATA, SHA256)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sha256": "0" * 64}, ("analysis", "validation", "FILE_DIGEST", False)),
        ({"size_bytes": 7}, ("analysis", "file_access", "FILE_CHANGED", False)),
    ],
)
async def test_a_source_that_is_not_the_announced_one_fails_for_good(
    cache: SourceCache, change: dict[str, object], expected: tuple[object, ...]
) -> None:
    with pytest.raises(WorkFailed) as failed:
        await cache.fetch(SOURCE.model_copy(update=change))
    failure = failed.value.failure
    assert (failure.stage, failure.category, failure.code, failure.retryable) == expected


async def test_a_source_that_is_not_there_is_missing(cache: SourceCache, tmp_path: Path) -> None:
    for path in tmp_path.rglob("original"):
        path.unlink()
    with pytest.raises(ObjectMissing):
        await cache.fetch(SOURCE)
