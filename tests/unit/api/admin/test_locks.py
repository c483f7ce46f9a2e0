"""A lock per name: one at a time, others beside it, and nothing is kept."""

import asyncio

import pytest

from api.admin.locks import Locks


async def test_one_at_a_time_of_a_name_and_others_beside_it() -> None:
    locks, inside, most = Locks(), dict.fromkeys("ab", 0), dict.fromkeys("ab", 0)
    both = asyncio.Event()

    async def hold(name: str) -> None:
        async with locks.of(name):
            inside[name] += 1
            most[name] = max(most[name], inside[name])
            if all(inside.values()):
                both.set()
            await asyncio.sleep(0)
            inside[name] -= 1

    await asyncio.gather(*(hold(name) for name in "abababab"))
    assert most == {"a": 1, "b": 1}
    assert both.is_set()
    assert locks._held == {}


async def test_a_name_is_free_after_a_fault_and_after_who_waits_is_gone() -> None:
    locks = Locks()
    with pytest.raises(ValueError):
        async with locks.of("a"):
            waiting = asyncio.create_task(locks.of("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            raise ValueError
    async with asyncio.timeout(1), locks.of("a"):
        assert len(locks._held) == 1
    assert locks._held == {}
