"""A small state in memory: read to the end first, then followed, whatever lies on the log."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, Recorded
from events.errors import LogUnavailable
from events.failures import FailureResolved
from events.pulse import Pulse
from events.topics import FAILURES, Partition
from projections.folding.follower import Followed, Follower, following
from projections.folding.log import Source
from tests.support.footage import START
from tests.support.memory_log import MemoryLog, Reader
from tests.support.waiting import eventually

HERE = (FAILURES.name, 0)


class Quick:
    """A clock whose rests are short."""

    def now(self) -> Any:
        """Return a fixed time."""
        return START

    async def sleep(self, seconds: float) -> None:
        """Let others run."""
        await asyncio.sleep(0)


def resolved(number: int) -> Envelope[FailureResolved]:
    """Return an event with a number as its reason."""
    id_ = f"00000000-0000-7000-8000-{number:012d}"
    data = FailureResolved(failure_id=f"{id_}:1", reason=str(number))
    return Envelope(id_, "kinolog/test", data.failure_id, START, data, id_)


def evolve(state: tuple[str, ...], recorded: Recorded[FailureResolved]) -> tuple[str, ...]:
    reason = recorded.envelope.data.reason
    if reason == "13":
        raise ValueError("thirteen")
    return (*state, reason)


def reasons() -> Followed[tuple[str, ...]]:
    return Followed((FAILURES,), (), evolve)


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(0, 12))
async def test_the_state_is_the_fold_of_the_whole_log_before_the_first_reader_and_after(numbers: list[int], late: int) -> None:
    log, followed = MemoryLog(), reasons()
    events = [resolved(number) for number in numbers]
    await log.append(*events[:late])
    foldable = [str(number) for number in numbers if number != 13]
    async with following(Follower((followed,), log.open, Quick())):
        assert followed.state == tuple(str(number) for number in numbers[:late] if number != 13)
        await log.append(*events[late:])
        await eventually(lambda: (list(followed.state), followed.passed_over) == (foldable, numbers.count(13)))


async def test_records_that_nobody_can_read_are_passed_over_and_counted() -> None:
    log, followed, seen = MemoryLog(), reasons(), []
    log.put(HERE, b"no event")
    await log.append(resolved(13), resolved(1))

    def watch(positions: Mapping[Partition, int], lag: Mapping[Partition, int], passed_over: int) -> None:
        seen.append((dict(positions), passed_over))

    follower = Follower((followed,), log.open, Quick(), watch=watch)
    async with following(follower):
        assert followed.state == ("1",)
    assert (follower.passed_over, seen[-1]) == (2, ({HERE: 3}, 2))


async def test_it_goes_on_at_its_position_when_the_log_was_away() -> None:
    log, followed = MemoryLog(), reasons()
    away = asyncio.Event()

    class Flaky(Reader):
        async def read(self, *, records_max: int, wait_s: float) -> Mapping[Partition, Sequence[tuple[int, bytes]]]:
            if away.is_set():
                raise LogUnavailable
            return await super().read(records_max=records_max, wait_s=0.01)

    @asynccontextmanager
    async def open_flaky() -> AsyncIterator[Source]:
        log.opened += 1
        yield Flaky(log)

    follower = Follower((followed,), open_flaky, Quick())
    await log.append(resolved(1))
    async with following(follower):
        away.set()
        await eventually(lambda: follower.fault() is not None)
        await log.append(resolved(2))
        assert list(followed.state) == ["1"]
        away.clear()
        await eventually(lambda: follower.fault() is None and list(followed.state) == ["1", "2"])
    assert log.opened > 1


async def test_it_does_not_begin_without_a_log() -> None:
    @asynccontextmanager
    async def open_nothing() -> AsyncIterator[Source]:
        raise LogUnavailable
        yield  # pragma: no cover

    follower = Follower((reasons(),), open_nothing, Quick())
    with pytest.raises(LogUnavailable):
        async with following(follower):
            raise AssertionError("it began")
    assert follower.fault() == "does not follow the log yet"


async def test_a_reader_that_hangs_is_opened_again() -> None:
    log, followed = MemoryLog(), reasons()
    hangs = [False, True]

    class Hanging(Reader):
        async def read(self, *, records_max: int, wait_s: float) -> Mapping[Partition, Sequence[tuple[int, bytes]]]:
            if hangs and hangs.pop(0):
                await asyncio.Event().wait()
            return await super().read(records_max=records_max, wait_s=0.01)

    @asynccontextmanager
    async def open_hanging() -> AsyncIterator[Source]:
        log.opened += 1
        yield Hanging(log)

    async with following(Follower((followed,), open_hanging, Quick(), pulse=Pulse("the follower", 0.2))):
        await eventually(lambda: log.opened > 1)
        await log.append(resolved(1))
        await eventually(lambda: followed.state == ("1",))


async def test_changes_are_reported_once_per_batch() -> None:
    log, states = MemoryLog(), list[tuple[str, ...]]()
    nothing: tuple[str, ...] = ()
    followed = Followed((FAILURES,), nothing, evolve, states.append)
    await log.append(resolved(1), resolved(2))
    async with following(Follower((followed,), log.open, Quick())):
        await log.append(resolved(13))
        await log.append(resolved(3))
        await eventually(lambda: followed.state == ("1", "2", "3"))
    assert states == [("1", "2"), ("1", "2", "3")]
