"""A feed on a log in memory: whichever records cannot be handled, every other is, in order and once."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from events.codec import encode
from events.errors import LogUnavailable
from events.pulse import Pulse
from events.topics import PROGRESS, Partition
from infra.runtime.clock import SystemClock
from processors.agents import feed as module
from processors.agents.dead_letters import Grave, Graves, Limit
from processors.agents.feed import Feed, Offer, each
from processors.agents.standing import REPORTED_FAILURES
from projections.folding.log import DeadLetter
from projections.folding.runner import Batch
from tests.support.counting import counting, ticks
from tests.support.feeding import Quiet
from tests.support.memory_log import MemoryLog, Reader
from tests.support.waiting import eventually

PARTITIONS: list[Partition] = [(PROGRESS.name, number) for number in range(PROGRESS.partitions)]
RECORDS = [encode(tick) for tick in ticks(30)]


class Member(Reader):
    """The one member of a group, which has every partition."""

    assigned: frozenset[Partition] = frozenset()
    generation = 0

    async def subscribe(self, topics: Iterable[str]) -> None:
        self.assigned, self.generation = frozenset(PARTITIONS), 1

    async def close(self) -> None:
        self.assigned = frozenset()


class World:
    """A log, and what was made of it: the offsets that were handled, of each partition in order."""

    def __init__(self, counts: Iterable[int], bad: Iterable[tuple[int, int]]) -> None:
        self.log = MemoryLog()
        for partition, count in zip(PARTITIONS, counts, strict=False):
            for number in range(count):
                self.log.put(partition, RECORDS[number])
        self.bad = {(PARTITIONS[number], offset) for number, offset in bad}
        self.away = False
        self.handled: dict[Partition, list[int]] = {partition: [] for partition in PARTITIONS}
        self.letters: list[DeadLetter] = []
        self.stored = dict.fromkeys(PARTITIONS, 0)

    async def handle(self, batch: Batch) -> None:
        """Handle all of a batch or nothing."""
        if self.away:
            raise LogUnavailable("away")
        for record in batch.records:
            if ((record.topic, record.partition), record.offset) in self.bad:
                raise ValueError(f"a bug at {record.offset}")
        for part in batch.slices:
            assert part.start == self.stored[part.topic, part.partition]
            self.stored[part.topic, part.partition] = part.next
        for record in batch.records:
            self.handled[record.topic, record.partition].append(record.offset)

    async def positions(self) -> Mapping[Partition, int]:
        return dict(self.stored)

    async def bury(self, letters: Iterable[DeadLetter]) -> None:
        self.letters += letters

    async def recall(self, reader: str, topic: str) -> list[Grave]:
        return []

    def expected(self) -> dict[Partition, list[int]]:
        """Return what is handled when every partition waits at its first bad record."""
        return {
            partition: [
                record.offset
                for record in self.log.records.get(partition, ())
                if not any(partition == at and offset <= record.offset for at, offset in self.bad)
            ]
            for partition in PARTITIONS
        }

    @asynccontextmanager
    async def feeding(self) -> AsyncIterator[Feed]:
        """Run a feed and its agent."""
        channel: asyncio.Queue[Offer] = asyncio.Queue(1)

        async def offers() -> AsyncIterator[Offer]:
            while True:
                yield await channel.get()

        agent = asyncio.create_task(each(offers(), self.handle, Pulse("agent")))
        feed = Feed(
            counting(),
            channel,
            open_source=lambda group: Member(self.log),
            stored=self.positions,
            graves=Graves(self.bury, self.recall, "counting", Limit(), in_order=True),
            metrics=Quiet(),
            clock=SystemClock(),
            pulse=Pulse("feed"),
        )
        await feed.start()
        try:
            yield feed
        finally:
            await feed.stop()
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)


@pytest.fixture(autouse=True, scope="module")
def soon() -> Iterable[None]:
    """A record that failed is tried again soon, which leaves time for the others."""
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setattr(module, "WAIT_S", 0.001)
        patch.setattr(module, "RETRY_S", (0.05, 0.05))
        patch.setattr(module, "AWAY_S", 0.001)
        yield


COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=PROGRESS.partitions)
BAD = st.sets(st.tuples(st.integers(0, PROGRESS.partitions - 1), st.integers(0, 29)), max_size=4)


@settings(max_examples=20)
@given(COUNTS, BAD)
async def test_a_record_that_fails_holds_up_its_own_partition_alone_until_the_bug_is_mended(
    counts: list[int], bad: set[tuple[int, int]]
) -> None:
    world = World(counts, bad)
    async with world.feeding() as feed:
        await eventually(lambda: world.handled, lambda handled: handled == world.expected())
        first = {at: min(offset for place, offset in world.bad if place == at) for at, _ in world.bad}
        met = {at: offset for at, offset in first.items() if offset < world.log.end(at)}
        where = await eventually(
            lambda: {standing.partition: standing.offset for standing in feed.standings()}, lambda found: found == met
        )
        assert bool(where) == (feed.fault() is not None)
        world.bad.clear()
        await eventually(lambda: world.handled, lambda handled: handled == world.expected())
        await eventually(lambda: feed.fault() is None)


async def test_what_cannot_be_decoded_is_buried_once_though_its_batch_is_offered_again() -> None:
    world = World([5, 5], [(0, 3)])
    world.log.put(PARTITIONS[0], b"{not an event")
    world.log.put(PARTITIONS[1], b"{not an event")
    async with world.feeding() as feed:
        await eventually(lambda: feed.fault())
        world.bad.clear()
        await eventually(lambda: world.stored[PARTITIONS[0]] == world.stored[PARTITIONS[1]] == 6)
    assert sorted((letter.partition, letter.offset, letter.reader) for letter in world.letters) == [
        (0, 5, "counting"),
        (1, 5, "counting"),
    ]


async def test_while_a_service_is_away_no_record_is_to_blame() -> None:
    world = World([10, 10], [])
    world.away = True
    async with world.feeding() as feed:
        await eventually(lambda: feed.standings())
        (standing,) = feed.standings()
        assert "LogUnavailable" in standing.error and standing.failures >= REPORTED_FAILURES
        world.away = False
        await eventually(lambda: world.handled, lambda handled: handled == world.expected())
        assert feed.fault() is None
