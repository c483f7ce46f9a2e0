"""Contract of an object store: of the real one and, as far as work and uploads need it, of the directory that stands in for it."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from events.errors import Conflict, ObjectChanged, ObjectMissing, StoreUnavailable
from events.kinds import Source
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from tests.support.cutting import cutting
from tests.support.work import DirectoryStore
from workers.attempts import work
from workers.attempts.work import WorkFailed
from workers.sources import Sources

DATA = bytes(range(256)) * 64
SHA256 = hashlib.sha256(DATA).hexdigest()
PART_BYTES = 5 * 2**20
"""S3's smallest part but the last."""
Multiparts = ObjectStore | DirectoryStore
AWKWARD = ["videos/a b/ü.m4s", "videos/plus+and&.m4s", "videos/%41/x.m4s", "videos/" + "l" * 200]


@pytest.fixture
async def store(settings: Settings) -> ObjectStore:
    """The real store with a bucket of its own."""
    made = ObjectStore(settings)
    await made.ensure_bucket()
    return made


@pytest.fixture(params=["real", "directory"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Multiparts:
    """The real store and its stand-in."""
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    real: ObjectStore = request.getfixturevalue("store")
    return real


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["videos/v/j/1/720p/00000.m4s", *AWKWARD])
async def test_what_is_put_comes_back(either: work.ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "sent").write_bytes(DATA)
    ref = await either.put_file(key, tmp_path / "sent", "video/iso.segment")
    assert (ref.key, ref.size_bytes, ref.sha256) == (key, len(DATA), SHA256)
    assert await either.get_bytes(key, len(DATA)) == DATA
    assert await either.get_file(key, tmp_path / "got") == SHA256
    assert (tmp_path / "got").read_bytes() == DATA


async def test_an_object_that_was_replaced_is_known_by_its_etag(either: work.ObjectStore, tmp_path: Path) -> None:
    etag = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    await either.put_bytes("sources/v/original", DATA, "video/mp4")
    assert await either.get_file("sources/v/original", tmp_path / "got", etag) == SHA256
    await either.put_bytes("sources/v/original", DATA[::-1], "video/mp4")
    with pytest.raises(ObjectChanged):
        await either.get_file("sources/v/original", tmp_path / "got", etag)


async def test_bytes_and_nothing_at_all_are_objects_too(either: work.ObjectStore, tmp_path: Path) -> None:
    for data in (b"", b"x"):
        ref = await either.put_bytes("videos/v/small", data, "text/plain")
        assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert await either.get_bytes("videos/v/small", 10) == data
        assert await either.get_file("videos/v/small", tmp_path / "small") == ref.sha256


async def test_a_read_is_never_longer_than_it_may_be(either: work.ObjectStore) -> None:
    """Who expects n bytes asks for n + 1 and sees that there are more."""
    await either.put_bytes("videos/v/long", DATA, "text/plain")
    assert await either.get_bytes("videos/v/long", 100) == DATA[:100]


async def test_the_last_write_counts(either: work.ObjectStore) -> None:
    await either.put_bytes("videos/v/x", b"first and longer", "text/plain")
    await either.put_bytes("videos/v/x", b"second", "text/plain")
    assert await either.get_bytes("videos/v/x", 100) == b"second"


async def test_what_is_not_there_is_missing(either: work.ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing):
        await either.get_bytes("videos/nothing", 10)
    with pytest.raises(ObjectMissing):
        await either.get_file("videos/nothing", tmp_path / "got")


# --- the real one: stat, list, delete, ranges -----------------------------------------------------------------------


async def test_a_bucket_may_be_wanted_twice_and_by_several_at_once(settings: Settings) -> None:
    await asyncio.gather(*(ObjectStore(settings).ensure_bucket() for _ in range(4)))
    assert await ObjectStore(settings).ready()


async def test_stat_returns_size_type_and_a_tag_that_follows_the_bytes(store: ObjectStore) -> None:
    await store.put_bytes("videos/v/x", DATA, "video/mp4")
    first = await store.stat("videos/v/x")
    assert (first.key, first.size_bytes, first.content_type) == ("videos/v/x", len(DATA), "video/mp4")
    assert first.modified_at is not None and '"' not in first.etag
    await store.put_bytes("videos/v/x", DATA[1:], "video/mp4")
    assert (await store.stat("videos/v/x")).etag != first.etag
    with pytest.raises(ObjectMissing):
        await store.stat("videos/nothing")


async def test_a_prefix_is_listed_and_deleted_alone(store: ObjectStore) -> None:
    for name in ("v1/b", "v1/a/c", "v1/a/b", "v10/a"):
        await store.put_bytes(f"videos/{name}", b"x", "text/plain")
    assert [found.key for found in await store.under("videos/v1/")] == ["videos/v1/a/b", "videos/v1/a/c", "videos/v1/b"]
    assert await store.delete_prefix("videos/v1/") == 3
    assert [found.key for found in await store.under("")] == ["videos/v10/a"]
    assert await store.delete_prefix("videos/v1/") == 0


async def test_deleting_takes_any_keys_there_or_not(store: ObjectStore) -> None:
    for key in ("a", "b", *AWKWARD):
        await store.put_bytes(key, b"x", "text/plain")
    await store.delete(key for key in ["a", "not there", *AWKWARD])
    assert [found.key for found in await store.under("")] == ["b"]


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 1), (5, 10), (100, None), (len(DATA) - 1, 1), (len(DATA) - 1, None)])
async def test_ranges_are_streamed(store: ObjectStore, start: int, length: int | None) -> None:
    await store.put_bytes("videos/v/x", DATA, "text/plain")
    got = b"".join([piece async for piece in store.stream("videos/v/x", start, length)])
    assert got == DATA[start : None if length is None else start + length]


async def test_a_stream_may_be_left_early(store: ObjectStore) -> None:
    """More often than there are threads and connections: none of them stays taken."""
    await store.put_bytes("videos/v/x", b"x" * (4 << 20), "text/plain")
    for _ in range(40):
        stream = store.stream("videos/v/x")
        assert await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
    assert len(await store.get_bytes("videos/v/x", 10)) == 10


async def test_streaming_what_is_missing(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        await anext(store.stream("videos/nothing"))


# --- presigned addresses and parts ----------------------------------------------------------------------------------


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has an address and no key."""
    async with httpx.AsyncClient(timeout=30) as opened:
        yield opened


KEY = "sources/v/original"


async def test_an_address_sends_one_part_to_one_key_and_does_nothing_else(store: ObjectStore, client: httpx.AsyncClient) -> None:
    upload = await store.create_multipart(KEY, "video/mp4")
    other = await store.create_multipart("sources/w/original", "video/mp4")
    address = await store.presign_part(KEY, upload, 1, 60)
    turned = {
        "another key": ("PUT", address.replace("/v/", "/w/")),
        "another part": ("PUT", address.replace("partNumber=1", "partNumber=2")),
        "another upload": ("PUT", address.replace(upload, other)),
        "the whole object": ("PUT", "&".join(word for word in address.split("&") if upload not in word)),
        "its end": ("POST", address),
        "its parts": ("GET", address),
        "giving it up": ("DELETE", address),
    }
    assert len(set(turned.values())) == len(turned)

    answers = {name: (await client.request(method, url, content=DATA)).status_code for name, (method, url) in turned.items()}

    assert answers == dict.fromkeys(turned, 403)
    assert (await client.put(address, content=DATA)).status_code == 200
    assert [size for _number, _etag, size in await store.list_parts(KEY, upload)] == [len(DATA)]
    assert await store.list_parts("sources/w/original", other) == []


async def test_an_address_copies_nothing_and_gives_no_rights(
    store: ObjectStore, client: httpx.AsyncClient, settings: Settings
) -> None:
    """Given headers that S3 obeys, and that nobody signed."""
    await store.put_bytes("videos/secret", b"secret" * 1000, "video/mp4")
    upload = await store.create_multipart(KEY, "video/mp4")
    address = await store.presign_part(KEY, upload, 1, 60)
    copying = {"x-amz-copy-source": f"/{settings.s3_bucket}/videos/secret"}

    for headers in (copying, copying | {"x-amz-copy-source-range": "bytes=0-99"}, {"x-amz-acl": "public-read-write"}):
        await client.put(address, headers=headers, content=DATA)
    parts = [(number, etag) for number, etag, _size in await store.list_parts(KEY, upload)]
    if parts:
        await store.complete_multipart(KEY, upload, parts)
        assert b"secret" not in await store.get_bytes(KEY, 10**6)

    assert (await client.get(address.split("?")[0])).status_code == 403
    assert (await client.put(address.split("?")[0], content=DATA)).status_code == 403


async def test_an_address_ends_with_its_upload(store: ObjectStore, client: httpx.AsyncClient) -> None:
    upload = await store.create_multipart(KEY, "video/mp4")
    address = await store.presign_part(KEY, upload, 1, 60)
    await client.put(address, content=DATA)
    parts = [(number, etag) for number, etag, _size in await store.list_parts(KEY, upload)]
    await store.complete_multipart(KEY, upload, parts)

    await client.put(address, content=DATA[::-1])  # some stores answer that they do not know the upload, s3proxy with 200

    assert await store.get_bytes(KEY, 10**6) == DATA
    assert [stat.key for stat in await store.under("")] == [KEY]


async def test_presigned_addresses_name_the_public_endpoint(settings: Settings) -> None:
    public = ObjectStore(settings.model_copy(update={"s3_public_endpoint": "https://media.kinolog.example"}))
    assert (await public.presign_get("k", 60)).startswith(f"https://media.kinolog.example/{settings.s3_bucket}/k?")
    assert (await public.presign_part("k", "upload", 3, 60)).startswith("https://media.kinolog.example/")


async def test_parts_may_come_in_any_order_and_from_both_sides(store: ObjectStore, client: httpx.AsyncClient) -> None:
    data = b"1" * PART_BYTES + b"2" * PART_BYTES + b"3"
    key = "sources/v/original"
    upload = await store.create_multipart(key, "application/octet-stream")
    third = await store.upload_part(key, upload, 3, data[2 * PART_BYTES :])
    sent = await client.put(await store.presign_part(key, upload, 1, 60), content=data[:PART_BYTES])
    assert [(number, size) for number, _, size in await store.list_parts(key, upload)] == [(1, PART_BYTES), (3, 1)]
    second = await store.upload_part(key, upload, 2, data[PART_BYTES : 2 * PART_BYTES])
    await store.complete_multipart(key, upload, [(3, third), (1, sent.headers["etag"]), (2, f'"{second}"')])
    digest = hashlib.sha256()
    async for piece in store.stream(key):
        digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    assert await parts_of_ended(store, upload) == []


async def test_a_part_that_is_another_or_not_there_is_a_conflict(either: Multiparts) -> None:
    upload = await either.create_multipart("sources/v/original", "application/octet-stream")
    etag = await either.upload_part("sources/v/original", upload, 1, DATA)
    for parts in ([(1, "0" * 32)], [(1, etag), (2, etag)]):
        with pytest.raises(Conflict):
            await either.complete_multipart("sources/v/original", upload, parts)
    with pytest.raises(ObjectMissing):
        await either.get_bytes("sources/v/original", 1)
    await either.complete_multipart("sources/v/original", upload, [(1, etag)])


async def test_more_parts_than_one_page_lists(either: Multiparts) -> None:
    upload = await either.create_multipart("sources/v/original", "application/octet-stream")
    numbers = [*range(1, 6), *range(9_990, 10_001)]
    await asyncio.gather(*(either.upload_part("sources/v/original", upload, number, b"x") for number in numbers))
    assert [number for number, _, _ in await either.list_parts("sources/v/original", upload)] == numbers
    await either.abort_multipart("sources/v/original", upload)


async def test_giving_up_deletes_the_parts_and_may_be_said_twice(either: Multiparts) -> None:
    upload = await either.create_multipart("sources/v/original", "application/octet-stream")
    etag = await either.upload_part("sources/v/original", upload, 1, DATA)
    for _ in range(2):
        await either.abort_multipart("sources/v/original", upload)
    assert await parts_of_ended(either, upload) == []
    with pytest.raises(ObjectMissing):
        await either.complete_multipart("sources/v/original", upload, [(1, etag)])


async def parts_of_ended(store: Multiparts, upload: str) -> list[tuple[int, str, int]]:
    """Return the parts of an upload that has ended; stores may also say that they do not know it."""
    try:
        return await store.list_parts("sources/v/original", upload)
    except ObjectMissing:
        return []


async def test_completing_at_the_same_moment_makes_one_whole_object(store: ObjectStore) -> None:
    key, data = "sources/v/original", b"1" * PART_BYTES + b"2"
    upload = await store.create_multipart(key, "application/octet-stream")
    parts = [(n, await store.upload_part(key, upload, n, data[(n - 1) * PART_BYTES :][:PART_BYTES])) for n in (1, 2)]
    await asyncio.gather(*(store.complete_multipart(key, upload, parts) for _ in range(3)), return_exceptions=True)
    assert await store.get_bytes(key, len(data) + 1) == data


# --- faults ---------------------------------------------------------------------------------------------------------


async def test_an_answer_that_is_cut_off_is_asked_for_again(settings: Settings, store: ObjectStore, tmp_path: Path) -> None:
    data = DATA * 64
    await store.put_bytes("videos/v/x", data, "text/plain")
    async with cutting(settings.s3_endpoint, 0, 1000, len(data) // 2) as proxy:
        behind = ObjectStore(settings.model_copy(update={"s3_endpoint": proxy.endpoint}))
        assert await behind.get_file("videos/v/x", tmp_path / "got") == hashlib.sha256(data).hexdigest()
        assert proxy.connections == 4


async def test_a_write_whose_answer_is_lost_is_repeated(settings: Settings, store: ObjectStore) -> None:
    async with cutting(settings.s3_endpoint, 0, 10) as proxy:
        behind = ObjectStore(settings.model_copy(update={"s3_endpoint": proxy.endpoint}))
        await behind.put_bytes("videos/v/x", DATA, "text/plain")
    assert await store.get_bytes("videos/v/x", len(DATA)) == DATA


async def test_keys_that_are_given_once_are_all_deleted_though_it_is_tried_twice(settings: Settings, store: ObjectStore) -> None:
    await store.put_bytes("videos/v/x", DATA, "text/plain")
    async with cutting(settings.s3_endpoint, 0) as proxy:
        behind = ObjectStore(settings.model_copy(update={"s3_endpoint": proxy.endpoint}))
        await behind.delete(iter(["videos/v/x"]))
    assert await store.under("") == []


async def test_a_stream_that_breaks_says_so(settings: Settings, store: ObjectStore) -> None:
    """What was passed on cannot be taken back: the reader learns that this was not all."""
    await store.put_bytes("videos/v/x", b"x" * (4 << 20), "text/plain")
    async with cutting(settings.s3_endpoint, 2 << 20) as proxy:
        behind = ObjectStore(settings.model_copy(update={"s3_endpoint": proxy.endpoint}))
        with pytest.raises(StoreUnavailable):
            _ = [piece async for piece in behind.stream("videos/v/x")]


@pytest.mark.parametrize(
    "call", [lambda s: s.stat("k"), lambda s: s.put_bytes("k", b"x", "text/plain"), lambda s: s.ready(), lambda s: s.under("")]
)
async def test_a_store_that_is_away_is_unavailable_soon(settings: Settings, call: Callable[[ObjectStore], object]) -> None:
    away = ObjectStore(settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"}))
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call(away)  # type: ignore[misc]
    assert time.monotonic() - started < 60


async def test_a_wrong_secret_and_a_missing_bucket_are_said_and_not_repeated(settings: Settings, store: ObjectStore) -> None:
    for change in ({"s3_access_key": "somebody"}, {"s3_bucket": "no-such-bucket"}):
        async with cutting(settings.s3_endpoint) as proxy:
            wrong = ObjectStore(settings.model_copy(update={"s3_endpoint": proxy.endpoint, **change}))
            with pytest.raises((StoreUnavailable, ObjectMissing)):
                await wrong.put_bytes("k", b"x", "text/plain")
            assert proxy.connections == 1


async def test_a_source_that_is_replaced_in_the_store_is_refused_with_a_code(store: ObjectStore, tmp_path: Path) -> None:
    """By another of the same size, or not."""
    for number, second in enumerate((b"b" * 1000, b"b" * 10)):
        await store.put_bytes(KEY, b"a" * 1000, "video/mp4")
        stat = await store.stat(KEY)
        source = Source(object_key=KEY, size_bytes=stat.size_bytes, etag=stat.etag)
        assert await Sources(tmp_path / f"first-{number}", store, bytes_max=10**6).fetch(source, tmp_path)
        await store.put_bytes(KEY, second, "video/mp4")
        with pytest.raises(WorkFailed) as caught:
            await Sources(tmp_path / f"second-{number}", store, bytes_max=10**6).fetch(source, tmp_path)
        assert caught.value.failure.code == "FILE_CHANGED"
        assert not caught.value.failure.retryable


async def test_big_files_pass_with_flat_memory(store: ObjectStore, tmp_path: Path) -> None:
    """96 MiB through a client that may hold a few parts."""
    size = 96 * 2**20
    with (tmp_path / "big").open("wb") as file:
        file.truncate(size)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _peak_bytes()
    ref = await store.put_file("sources/v/original", tmp_path / "big", "application/octet-stream")
    assert await store.get_file("sources/v/original", tmp_path / "back") == ref.sha256
    assert ref.size_bytes == size
    assert _peak_bytes() - before < 64 * 2**20


def _peak_bytes() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024
