"""What the tables of second factors promise: on PostgreSQL, and on their stand-in."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.runtime import postgres
from infra.runtime.people.factors import FactorTables
from infra.runtime.sealing import Seal
from infra.runtime.settings import Settings
from producers.factors import Totp
from producers.passkeys import KeptPasskey, Passkey
from tests.support.factors import MemoryFactors

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIFE = timedelta(minutes=5)
Tables = FactorTables | MemoryFactors


@pytest.fixture(params=["memory", "postgres"])
async def tables(request: pytest.FixtureRequest) -> AsyncIterator[Tables]:
    """Both of them."""
    if request.param == "memory":
        yield MemoryFactors()
        return
    settings: Settings = request.getfixturevalue("settings")
    pool = await postgres.open_pool(settings)
    made = FactorTables(pool, Seal(bytes(32)))
    await made.ensure()
    await made.ensure()  # every process does, at each start
    yield made
    await pool.close()


async def test_a_secret_is_replaced_until_it_is_proven(tables: Tables) -> None:
    later = NOW + timedelta(seconds=1)
    assert await tables.totp("anna") is None
    assert await tables.begin_totp("anna", "FIRST", NOW)
    assert await tables.begin_totp("anna", "SECOND", later)
    assert not await tables.prove_totp("anna", NOW, 7, later)
    assert await tables.totp("anna") == Totp("SECOND", later, proven=False)
    assert await tables.prove_totp("anna", later, 7, later)
    assert not await tables.prove_totp("anna", later, 7, later)
    assert not await tables.begin_totp("anna", "THIRD", later)
    assert await tables.totp("anna") == Totp("SECOND", later, proven=True)


async def test_a_step_is_taken_once_and_never_an_older_one(tables: Tables) -> None:
    await tables.begin_totp("anna", "SECRET", NOW)
    assert not await tables.accept_step("anna", 100)
    await tables.prove_totp("anna", NOW, 7, NOW)
    assert not await tables.accept_step("anna", 7)
    assert sorted(await asyncio.gather(*(tables.accept_step("anna", 8) for _ in range(8)))) == [False] * 7 + [True]
    assert not await tables.accept_step("anna", 6)
    assert not await tables.accept_step("berta", 9)
    assert await tables.accept_step("anna", 9)


async def test_a_recovery_code_is_spent_once(tables: Tables) -> None:
    await tables.replace_codes("anna", [b"old"])
    await tables.replace_codes("anna", [b"one", b"two"])
    assert await tables.codes_left("anna") == 2
    assert not await tables.has_code("anna", b"old") and not await tables.has_code("berta", b"one")
    assert await tables.has_code("anna", b"one")
    assert not await tables.spend_code("anna", b"old")
    assert not await tables.spend_code("berta", b"one")
    assert sorted(await asyncio.gather(*(tables.spend_code("anna", b"one") for _ in range(8)))) == [False] * 7 + [True]
    assert await tables.codes_left("anna") == 1


async def test_a_removed_secret_takes_its_recovery_codes_along(tables: Tables) -> None:
    await tables.begin_totp("anna", "SECRET", NOW)
    await tables.replace_codes("anna", [b"one"])
    assert await tables.remove_totp("anna")
    assert not await tables.remove_totp("anna")
    assert await tables.codes_left("anna") == 0


async def test_a_passkey_has_one_owner(tables: Tables) -> None:
    passkey = Passkey(b"credential", b"public key", 3)
    assert await tables.add_passkey("anna", "k1", "phone", passkey, NOW)
    assert not await tables.add_passkey("berta", "k2", "mine", passkey, NOW)
    assert await tables.passkey(b"credential") == KeptPasskey("anna", "k1", passkey)
    assert await tables.passkey(b"other") is None
    assert [(row.passkey_id, row.name, row.added_at, row.used_at) for row in await tables.passkeys("anna")] == [
        ("k1", "phone", NOW, None)
    ]
    assert not await tables.remove_passkey("berta", "k1")
    assert await tables.remove_passkey("anna", "k1")
    assert await tables.passkeys("anna") == []


async def test_a_count_must_grow_unless_the_key_does_not_count(tables: Tables) -> None:
    await tables.add_passkey("anna", "k1", "counts", Passkey(b"counts", b"", 3), NOW)
    await tables.add_passkey("anna", "k2", "does not", Passkey(b"does not", b"", 0), NOW)
    assert not await tables.use_passkey(b"counts", 3, NOW)
    assert not await tables.use_passkey(b"counts", 0, NOW)
    assert sorted(await asyncio.gather(*(tables.use_passkey(b"counts", 4, NOW) for _ in range(8)))) == [False] * 7 + [True]
    assert await tables.use_passkey(b"does not", 0, NOW)
    assert await tables.use_passkey(b"does not", 0, NOW)
    assert [row.used_at for row in await tables.passkeys("anna")] == [NOW, NOW]
    assert sorted(await tables.remove_passkeys("anna")) == ["k1", "k2"]


async def test_an_account_at_a_provider_has_one_owner(tables: Tables) -> None:
    assert await tables.linked("https://a", "s") is None
    assert await tables.link("https://a", "s", "anna", NOW) == "anna"
    assert await tables.link("https://a", "s", "berta", NOW) == "anna"
    assert await tables.link("https://b", "s", "berta", NOW) == "berta"
    assert (await tables.linked("https://a", "s"), await tables.linked("https://b", "s")) == ("anna", "berta")


async def test_forgetting_leaves_others_alone(tables: Tables) -> None:
    for person in ("anna", "berta"):
        await tables.begin_totp(person, "SECRET", NOW)
        await tables.replace_codes(person, [b"code"])
        await tables.add_passkey(person, f"k-{person}", "phone", Passkey(person.encode(), b"", 0), NOW)
        await tables.link("https://a", person, person, NOW)
    await tables.forget("anna")
    left = [
        (await tables.totp(person) is not None, await tables.codes_left(person), len(await tables.passkeys(person)))
        for person in ("anna", "berta")
    ]
    assert left == [(False, 0, 0), (True, 1, 1)]
    assert (await tables.linked("https://a", "anna"), await tables.linked("https://a", "berta")) == (None, "berta")


async def test_a_challenge_is_taken_once_by_its_holder_in_time(tables: Tables) -> None:
    await tables.keep_challenge("login", b"text", "anna", "data", NOW, LIFE)
    assert await tables.take_challenge("login", b"text", "berta", NOW) is None
    assert await tables.take_challenge("registration", b"text", "anna", NOW) is None
    assert await tables.take_challenge("login", b"text", "anna", NOW + LIFE) is None
    assert await tables.take_challenge("login", b"text", "anna", NOW) == "data"
    assert await tables.take_challenge("login", b"text", "anna", NOW) is None
    await tables.keep_challenge("login", b"again", "anna", "data", NOW, LIFE)
    taken = await asyncio.gather(*(tables.take_challenge("login", b"again", "anna", NOW) for _ in range(8)))
    assert [each for each in taken if each] == ["data"]
