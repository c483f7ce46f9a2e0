"""Records that no reader can use are put aside, whole, with where they stood and why: topic `<topic>.dead`.

Not without limit: where much of what is read cannot be used, the code is at fault and not the records, for example after
a deployment that went wrong. Then the feed stands still and says so, instead of burying a whole topic. The letters themselves are
the memory of that: a process that is started again counts what it buried before.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from events.errors import InvalidEvent, KinologError
from events.topics import TOPICS
from projections.folding.log import DeadLetter, Place, Source, stretches

VALUE_BYTES_MAX = 600_000
"""So much of a record stands in its letter: in base64 it becomes a third longer, and a letter must fit on the log as well."""
REMEMBERED = 100_000
"""Records over which the share is reckoned: at so many, both counts are halved."""
RECALLED = 10_000
"""Latest letters of a topic in which a process that was started again looks for those of its readers."""


class Grave(NamedTuple):
    """The place of a record that was buried."""

    topic: str
    partition: int
    offset: int


Recall = Callable[[str, str], Awaitable[Collection[Grave]]]
"""Returns what a reader has buried of a topic lately, in this process or an earlier one."""


class TooManyDeadLetters(KinologError):
    """More of what is read cannot be used than a few bad records would explain; nothing more is put aside."""


class Limit:
    """Counts what a reader could not use of what it read.

    More than `letters_max` and more than the share `share_max` of what was read is too much.
    """

    def __init__(self, letters_max: int = 100, share_max: float = 0.1) -> None:
        self._letters_max = letters_max
        self._share_max = share_max
        self._letters = self._read = 0.0

    def exceeded(self, letters: Sequence[DeadLetter], *, read: int) -> "TooManyDeadLetters | None":
        """Return the error that says so when these, of so many records that were read, are too many."""
        dead, total = self._letters + len(letters), self._read + read
        if not letters or dead <= self._letters_max or dead <= self._share_max * total:
            return None
        last = letters[-1]
        return TooManyDeadLetters(
            f"{dead:.0f} of {total:.0f} records cannot be used, more than {self._letters_max}; one is"
            f" {last.topic}/{last.partition}/{last.offset}: {last.reason}. Is this code older than the events?"
            " Start the right one, or raise KINOLOG_DEAD_LETTERS_MAX"
        )

    def count_earlier(self, graves: Collection[Grave], ends: Mapping[Place, int] | None = None) -> None:
        """Count what an earlier process has buried, of all records before `ends`; without these, it had read nothing else."""
        near = [grave for grave in graves if ends is None or grave.offset >= ends[grave[:2]] - REMEMBERED]
        read = len(near) if ends is None else sum(min(REMEMBERED, end) for end in ends.values())
        self._letters, self._read = self._letters + len(near), max(self._read, read)

    def count(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Count what was put aside, of so many records that were read."""
        self._letters, self._read = self._letters + len(letters), self._read + read
        if self._read > REMEMBERED:
            self._letters, self._read = self._letters / 2, self._read / 2


class Graves:
    """Buries what the reader of this name cannot use, each record once, and refuses when it is too much (`Limit`).

    A reader `in_order` reads every record of its topics, so what it has buried once stays buried. Raises TooManyDeadLetters when
    it is too much, and whatever `bury` and `recall` raise.
    """

    def __init__(
        self,
        bury: Callable[[Sequence[DeadLetter]], Awaitable[None]],
        recall: Recall,
        reader: str,
        limit: Limit,
        *,
        in_order: bool,
    ) -> None:
        self._bury = bury
        self._recall = recall
        self._reader = reader
        self._limit = limit
        self._in_order = in_order
        self._recalled: set[str] = set()
        self._earlier: set[Grave] = set()
        self._buried: set[Grave] = set()

    async def bury(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Bury what was not buried when this stretch of the log was read before; it has so many records."""
        for topic in {letter.topic for letter in letters} - self._recalled:
            await self._remember(topic, [grave_of(letter) for letter in letters if letter.topic == topic])
        new = [letter for letter in letters if grave_of(letter) not in self._buried | self._earlier]
        if too_many := self._limit.exceeded(new, read=read):
            raise too_many
        if new:
            await self._bury([letter._replace(reader=self._reader) for letter in new])
        self._buried |= {grave_of(letter) for letter in new}
        self._limit.count(new, read=0)

    async def _remember(self, topic: str, new: Sequence[Grave]) -> None:
        """Count what was buried of a topic before this process began."""
        earlier = await self._recall(self._reader, topic)
        if self._in_order:
            ends: dict[Place, int] = {}
            for grave in sorted([*new, *earlier]):
                ends[grave.topic, grave.partition] = grave.offset
            self._earlier |= set(earlier)
            self._limit.count_earlier(earlier, ends)
        else:
            self._limit.count_earlier(earlier)
        self._recalled.add(topic)

    def passed(self, read: int) -> None:
        """Say that a stretch of so many records is durable: it is not read again."""
        self._buried.clear()
        self._limit.count((), read=read)


def grave_of(letter: DeadLetter) -> Grave:
    """Return where the record of a letter is."""
    return Grave(letter.topic, letter.partition, letter.offset)


def encode(letter: DeadLetter) -> bytes:
    """Return the dead letter's JSON; `value` is base64 of the record's bytes, of a long one's the first of `value_bytes`."""
    return orjson.dumps(
        {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "reason": letter.reason,
            "reader": letter.reader,
            "value": base64.b64encode(letter.value[:VALUE_BYTES_MAX]).decode(),
            "value_bytes": len(letter.value),
        }
    )


def decode(value: bytes) -> tuple[DeadLetter, int]:
    """Return a letter, and the length of its record, of which it may have the beginning only. Raises InvalidEvent for no letter.

    Letters of older versions may name no reader, and have their records whole.
    """
    try:
        said: Any = orjson.loads(value)
        record = base64.b64decode(said["value"])
        place = said["topic"], said["partition"], said["offset"]
        return DeadLetter(*place, said["reason"], record, said.get("reader", "")), said.get("value_bytes", len(record))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidEvent(f"it is no dead letter: {error}") from error


def recall_with(open_log: Callable[[], AbstractAsyncContextManager[Source]]) -> Recall:
    """Return a function that reads the latest letters of a topic."""

    async def recall(reader: str, topic: str) -> Collection[Grave]:
        place = (TOPICS[topic].dead_letters, 0)
        found = set()
        async with open_log() as source:
            starts, ends = await source.starts([place]), await source.ends([place])
            begin = {place: max(starts[place], ends[place] - RECALLED)}
            async for _, records in stretches(source, begin, ends, records_max=100):
                for _, value in records:
                    with suppress(InvalidEvent):
                        letter, _ = decode(value)
                        found |= {grave_of(letter)} if letter.reader == reader else set()
        return found

    return recall


def bury_with(
    producer: AIOKafkaProducer, *, topic_prefix: str, observe: Callable[[str, str], None]
) -> Callable[[Sequence[DeadLetter]], Awaitable[None]]:
    """Return a function that appends dead letters, all at once, and returns when they are acknowledged."""

    async def bury(letters: Sequence[DeadLetter]) -> None:
        sent = [
            await producer.send(topic_prefix + TOPICS[letter.topic].dead_letters, encode(letter), partition=0) for letter in letters
        ]
        await asyncio.gather(*sent)
        for letter in letters:
            observe(letter.topic, letter.reader)

    return bury
