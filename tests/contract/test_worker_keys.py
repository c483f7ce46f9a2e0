"""What the table of workers' keys promises: on PostgreSQL, and on its stand-in."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from api.access import Keys
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from infra.runtime.worker_keys import KeyTable
from producers.keys import Key
from tests.support.keys import MemoryKeys

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"


@pytest.fixture(params=["memory", "postgres"])
async def keys(request: pytest.FixtureRequest) -> AsyncIterator[Keys]:
    """Both of them."""
    if request.param == "memory":
        yield MemoryKeys()
        return
    settings: Settings = request.getfixturevalue("settings")
    pool = await postgres.open_pool(settings)
    table = KeyTable(pool)
    await table.ensure()
    await table.ensure()  # every process does, at each start
    yield table
    await pool.close()


def key(prefix: str = "Zk3xQ9aB", **more: object) -> Key:
    return Key(key_id=new_id(), worker_id=new_id(), purpose="work", prefix=prefix, issued_at=NOW).model_copy(update=more)


async def test_keys_are_found_by_how_they_begin(keys: Keys) -> None:
    first, second, other = key(name="attic", pools=("a", "b"), kinds=("encode",), expires_at=NOW), key(), key("other---")
    for one in (first, second, other):
        await keys.add(one, HASH)
    found = {one.key_id: (one, hash_) for one, hash_ in await keys.with_prefix("Zk3xQ9aB")}
    assert found == {first.key_id: (first, HASH), second.key_id: (second, HASH)}
    assert await keys.with_prefix("'; DROP ") == []


async def test_a_worker_or_a_key_is_revoked_once(keys: Keys) -> None:
    first = key()
    second, other = key(worker_id=first.worker_id), key()
    for one in (first, second, other):
        await keys.add(one, HASH)
    later = NOW + timedelta(hours=1)
    assert [one.key_id for one in await keys.revoke(first.key_id, NOW, "sold")] == [first.key_id]
    assert [one.key_id for one in await keys.revoke(first.worker_id, later, "lost")] == [second.key_id]
    assert await keys.revoke(first.worker_id, later, "lost") == []
    assert {first.key_id, second.key_id} <= await keys.changed(10.0)
    assert other.key_id not in await keys.changed(10.0)
    ((found, _),) = [row for row in await keys.with_prefix(first.prefix) if row[0].key_id == first.key_id]
    assert found.revoked_at == NOW
    assert {one.key_id: one.revoked_at for one in await keys.listing(10)}[other.key_id] is None


async def test_a_revocation_is_unpublished_until_it_was_published(keys: Keys) -> None:
    first, second = key(), key()
    for one in (first, second):
        await keys.add(one, HASH)
        await keys.revoke(one.key_id, NOW, "sold")
    assert {(one.key_id, reason) for one, reason in await keys.unpublished()} == {(first.key_id, "sold"), (second.key_id, "sold")}
    await keys.mark_published([first.key_id])
    assert [one.key_id for one, _ in await keys.unpublished()] == [second.key_id]


async def test_an_end_is_only_brought_nearer(keys: Keys) -> None:
    endless, ending = key(), key(expires_at=NOW + timedelta(days=1))
    for one in (endless, ending):
        await keys.add(one, HASH)
        await keys.expire(one.key_id, NOW + timedelta(days=2))
    ends = {one.key_id: one.expires_at for one in await keys.listing(10)}
    assert ends == {endless.key_id: NOW + timedelta(days=2), ending.key_id: NOW + timedelta(days=1)}
    assert {endless.key_id, ending.key_id} <= await keys.changed(10.0)


async def test_use_is_noted_and_lists_are_newest_first(keys: Keys) -> None:
    made = [key(issued_at=NOW + timedelta(seconds=number)) for number in range(3)]
    for one in made:
        await keys.add(one, HASH)
    await keys.used([made[0].key_id], NOW)
    listed = await keys.listing(2)
    assert [one.key_id for one in listed] == [made[2].key_id, made[1].key_id]
    assert {one.key_id: one.used_at for one in await keys.listing(3)}[made[0].key_id] == NOW
