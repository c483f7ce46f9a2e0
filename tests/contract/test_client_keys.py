"""Hashes of addresses: equal within a period, different after it, and of an old one nobody has the key any more."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from infra.runtime import postgres
from infra.runtime.client_keys import ClientKeys
from infra.runtime.settings import Settings

ADDRESS = "192.0.2.7"


@dataclass
class Calendar:
    """A clock that a test turns forward."""

    day: datetime = datetime(2026, 3, 2, tzinfo=UTC)

    def now(self) -> datetime:
        return self.day

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[postgres.Pool]:
    async with await postgres.open_pool(settings) as opened:
        yield opened


async def test_an_address_has_one_hash_in_every_app_for_a_period(pool: postgres.Pool) -> None:
    clock = Calendar()
    first, second = (ClientKeys(pool, clock, period_days=7) for _ in range(2))
    known = await first.hash(ADDRESS)
    assert known is not None and ADDRESS not in known
    assert known == await second.hash(ADDRESS) != await second.hash("192.0.2.8")
    clock.day += timedelta(days=7)
    later = await first.hash(ADDRESS)
    assert later is not None and later.split(":")[1] != known.split(":")[1]


async def test_the_keys_before_the_last_one_are_deleted(pool: postgres.Pool) -> None:
    clock = Calendar()
    keys = ClientKeys(pool, clock, period_days=7)
    for _ in range(5):
        await keys.hash(ADDRESS)
        clock.day += timedelta(days=7)
    async with pool.connection() as connection:
        ((left,),) = await (await connection.execute("SELECT count(*) FROM periodic_keys.keys")).fetchall()
    assert left == 2


async def test_while_the_database_is_away_the_client_is_unknown(pool: postgres.Pool) -> None:
    keys = ClientKeys(pool, Calendar(), period_days=7)
    await pool.close()
    assert await keys.hash(ADDRESS) is None
