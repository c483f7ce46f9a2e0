"""Small topics, folded in memory: read to their end before a process serves, then followed.

A projection in the database answers questions. This is for state that each request needs in every process, such as settings and
rights: it is read from memory, and a change is there milliseconds after it was appended. Folds are pure, as those of projections.

    settings = Followed((SETTINGS,), NOTHING_STORED, evolve)
    follower = Follower((settings,), open_source, clock)
    async with following(follower):
        ...  # settings.state

A record that cannot be decoded or folded is passed over, counted and logged; the state goes on without it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar

import structlog

from events.clock import Clock
from events.envelope import Recorded
from events.errors import Retryable, Stalled
from events.pulse import Pulse
from events.topics import Partition, Topic
from projections.folding.log import LogReader, Source

S = TypeVar("S")
BATCH_RECORDS = 2_000
WAIT_S = 1.0
RETRY_S = 1.0
log = structlog.get_logger(__name__)


class Followed(Generic[S]):
    """The state of some topics. `changed` is called with each new state, once per batch."""

    def __init__(
        self,
        topics: Sequence[Topic],
        state: S,
        evolve: Callable[[S, Recorded[Any]], S],
        changed: Callable[[S], None] = lambda state: None,
    ) -> None:
        self.partitions: list[Partition] = [(topic.name, number) for topic in topics for number in range(topic.partitions)]
        self.state = state
        self.passed_over = 0
        self._evolve = evolve
        self._changed = changed
        self._names = frozenset(topic.name for topic in topics)

    def take(self, records: Sequence[Recorded[Any]]) -> None:
        """Fold the records that are of these topics."""
        before = self.state
        for recorded in records:
            if recorded.topic not in self._names:
                continue
            try:
                self.state = self._evolve(self.state, recorded)
            except Exception as error:  # one record must not hold up all later ones
                self.passed_over += 1
                log.exception("record_not_folded", topic=recorded.topic, offset=recorded.offset, error=str(error))
        if self.state is not before:
            self._changed(self.state)


Watch = Callable[[Mapping[Partition, int], Mapping[Partition, int], int], None]
"""Gets the positions, the lag of each partition, and the number of records passed over."""


class Follower:
    """Reads the topics of all `followed` with one consumer."""

    def __init__(
        self,
        followed: Sequence[Followed[Any]],
        open_source: Callable[[], AbstractAsyncContextManager[Source]],
        clock: Clock,
        *,
        pulse: Pulse | None = None,
        watch: Watch = lambda positions, lag, passed_over: None,
    ) -> None:
        self._followed = followed
        self._open = open_source
        self._clock = clock
        self._pulse = pulse or Pulse("the follower")
        self._watch = watch
        self._undecodable = 0
        self._fault: str | None = None
        self.positions: dict[Partition, int] = {}
        self.started = asyncio.Event()
        """Set when everything is folded that was on the log at the beginning."""

    @property
    def passed_over(self) -> int:
        """Number of records that could not be decoded or folded."""
        return self._undecodable + sum(followed.passed_over for followed in self._followed)

    def fault(self) -> str | None:
        """Return a sentence about why the state may be old; None while the log is followed."""
        return "does not follow the log yet" if not self.started.is_set() else self._fault

    async def run(self) -> None:
        """Follow until cancelled; when the log is away or the reader hangs, go on at the same position.

        Raises LogTruncated when that position is gone, and Retryable when the log is away at the beginning.
        """
        while True:
            try:
                async with self._pulse.limited(), self._open() as source:
                    await self._follow(source)
            except (Retryable, Stalled) as error:
                if not self.started.is_set():
                    raise
                self._fault = f"the log cannot be followed: {error}"
                log.warning("follower_stumbled", error=str(error))
                await self._clock.sleep(RETRY_S)

    async def _follow(self, source: Source) -> None:
        partitions = sorted({partition for followed in self._followed for partition in followed.partitions})
        if not self.positions:
            self.positions = dict(await source.starts(partitions))
        ends = await source.ends(partitions)  # before there is a fetch, behind which it would wait
        reader = LogReader(source)
        await reader.seek(self.positions)
        while True:
            self._pulse.beat()
            if not self.started.is_set() and not reader.missing(ends):
                self.started.set()
            batch, dead = await reader.read(records_max=BATCH_RECORDS, wait_s=WAIT_S)
            self._undecodable += len(dead)
            for letter in dead:
                log.error("record_not_decoded", topic=letter.topic, offset=letter.offset, reason=letter.reason)
            for followed in self._followed:
                followed.take(batch.records if batch else ())
            self.positions, self._fault = reader.positions, None
            self._watch(self.positions, await reader.lag(), self.passed_over)


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator["asyncio.Task[None]"]:
    """Follow while the block runs, which begins when the state is as new as the log. Yields the task: its end is a bug.

    Raises LogTruncated, and Retryable when the log is away at the beginning.
    """
    task = asyncio.create_task(follower.run(), name="follower")
    started = asyncio.create_task(follower.started.wait())
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield task
    finally:
        started.cancel()
        task.cancel()
        await asyncio.gather(task, started, return_exceptions=True)
