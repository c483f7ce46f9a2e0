"""Reading the log up to limits: whatever the limits, each record once, in order, none past the limit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import decode, encode
from events.envelope import REGISTRY, Envelope
from events.topics import TOPIC_OF, TOPICS, Partition
from infra.reference.schemas import ROOT, examples_of
from projections.folding import log as reading
from projections.folding.log import LogReader, decoded
from tests.support.counting import counting, ticks
from tests.support.memory_log import MemoryLog

PARTITIONS = [("progress", number) for number in range(3)]
TICKS = ticks(31, jobs=12)
RECORDS = [encode(tick) for tick in TICKS]


@pytest.fixture(autouse=True, scope="module")
def small_turns() -> Iterator[None]:
    """A batch takes several turns of the event loop to decode."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "TURN_RECORDS", 3)
        yield


def log_of(offsets: Iterable[Sequence[int]]) -> MemoryLog:
    """Return a log with records at these offsets of each partition; gaps and ends are markers."""
    log = MemoryLog()
    for partition, numbers in zip(PARTITIONS, offsets, strict=True):
        for number in numbers:
            log.put(partition, RECORDS[number], offset=number)
        if numbers:
            log.mark(partition)
    return log


def offsets_of(log: MemoryLog) -> dict[Partition, list[int]]:
    """Return the offsets of a log's records."""
    return {partition: [record.offset for record in log.records.get(partition, ())] for partition in PARTITIONS}


offsets = st.lists(st.integers(0, 30), unique=True).map(sorted)
limits = st.lists(st.tuples(*(st.integers(0, 35) for _ in PARTITIONS)), min_size=1, max_size=4)


@given(st.tuples(*(offsets for _ in PARTITIONS)), limits, st.integers(1, 5))
async def test_up_to_any_limits(logs: tuple[list[int], ...], wanted: list[tuple[int, ...]], records_max: int) -> None:
    log = log_of(logs)
    reader = LogReader(log.reader())
    await reader.seek(dict.fromkeys(PARTITIONS, 0))
    until = dict.fromkeys(PARTITIONS, 0)
    seen: dict[Partition, list[int]] = {partition: [] for partition in PARTITIONS}
    for step in wanted:
        until = {one: min(log.end(one), max(until[one], limit)) for one, limit in zip(PARTITIONS, step, strict=True)}
        rounds = 0
        while reader.missing(until):
            rounds += 1
            assert rounds < 200, f"no end: {until}"
            batch, dead = await reader.read(records_max=records_max, wait_s=0, until=until)
            assert not dead
            for recorded in batch.records if batch else ():
                seen[recorded.topic, recorded.partition].append(recorded.offset)
        for partition in PARTITIONS:
            assert seen[partition] == [offset for offset in offsets_of(log)[partition] if offset < until[partition]]


@given(st.tuples(*(offsets for _ in PARTITIONS)), st.lists(st.booleans(), max_size=30), st.integers(1, 5))
async def test_what_is_begun_is_read_next_and_seeking_throws_it_away(
    logs: tuple[list[int], ...], fails: list[bool], records_max: int
) -> None:
    log = log_of(logs)
    reader = LogReader(log.reader())
    stored = dict.fromkeys(PARTITIONS, 0)
    await reader.seek(stored)
    seen: dict[Partition, list[int]] = {partition: [] for partition in PARTITIONS}
    failing = iter(fails)
    while (batch := (await reader.read(records_max=records_max, wait_s=0))[0]) is not None:
        reader.begin(records_max=records_max, wait_s=0)
        if next(failing, False):
            await reader.seek(stored)
            continue
        for part in batch.slices:
            assert stored[part.topic, part.partition] == part.start
            stored[part.topic, part.partition] = part.next
        for recorded in batch.records:
            seen[recorded.topic, recorded.partition].append(recorded.offset)
    assert seen == offsets_of(log)


class Ids:
    """Gathers nothing but the ids."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, envelopes: Iterable[Envelope[Any]]) -> None:
        self.found += [envelope.id for envelope in envelopes]

    def items(self) -> Sequence[str]:
        """Return them."""
        return self.found


@given(
    st.tuples(*(offsets for _ in PARTITIONS)), st.lists(st.sets(st.integers(0, 30)), max_size=30), st.booleans(), st.integers(1, 5)
)
async def test_what_is_gathered_is_each_event_once_and_may_be_read_again_without_some(
    logs: tuple[list[int], ...], known: list[set[int]], ahead: bool, records_max: int
) -> None:
    """The same event may stand in several partitions here; whatever is read again, the next batch begins where this one ends."""
    log = log_of(logs)
    reader = LogReader(log.reader(), replace(counting(), gathering=Ids, seen="seen"))
    await reader.seek(dict.fromkeys(PARTITIONS, 0))
    passed = dict.fromkeys(PARTITIONS, 0)
    unwanted = iter(known)
    while (batch := (await reader.read(records_max=records_max, wait_s=0))[0]) is not None:
        if ahead:
            reader.begin(records_max=records_max, wait_s=0)
        inside: set[str] = set()
        for part in batch.slices:
            assert passed[part.topic, part.partition] == part.start
            passed[part.topic, part.partition] = part.next
            there = offsets_of(log)[part.topic, part.partition]
            inside |= {TICKS[offset].id for offset in there if part.start <= offset < part.next}
        gathered = batch.gathered
        assert gathered is not None and not batch.records
        assert (sorted(gathered.items()), gathered.ids) == (sorted(inside), inside)
        if left_out := {TICKS[number].id for number in next(unwanted, set())} & inside:
            rest = await gathered.without(left_out)
            assert (sorted(rest.items()), rest.ids) == (sorted(inside - left_out), inside - left_out)
    assert all(passed[partition] > max(offsets_of(log)[partition], default=-1) for partition in PARTITIONS)


@pytest.mark.parametrize("half", [{"gathering": Ids}, {"seen": "seen"}])
def test_a_projection_cannot_gather_without_knowing_what_came_before(half: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="counting: a projection that gathers"):
        replace(counting(), **half)


@pytest.mark.parametrize("topic", TOPICS)
def test_an_event_that_its_topic_does_not_carry_is_a_dead_letter(topic: str) -> None:
    """Folds match the events of their topics to the end; a stray one must not stand in their way."""
    records = [(ROOT / path).read_bytes() for event in REGISTRY.values() for path in examples_of(event)]
    events, dead = decoded(topic, 0, list(enumerate(records)))
    carried = [number for number, record in enumerate(records) if TOPIC_OF[decode(record).data.TYPE].name == topic]
    assert [event.offset for event in events] == carried
    assert len(dead) == len(records) - len(carried) and all(f"not belong on topic {topic}" in letter.reason for letter in dead)
