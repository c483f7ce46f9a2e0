"""Dead letters: unusable records are copied to topic `<topic>.dead`, with their position and the reason.

Their number is limited. When many records cannot be used, the code is at fault and not the records, for example after a bad
deployment. The feed then stands still and reports it, instead of burying a whole topic. A restarted process counts the letters
on the topic as well.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from events.errors import InvalidEvent, KinologError
from events.topics import TOPICS, Partition
from projections.folding.log import DeadLetter, Source, stretches

VALUE_BYTES_MAX = 600_000
"""Maximum bytes of a record in its letter: base64 makes it a third longer, and the letter must fit on the log as well."""
REMEMBERED = 100_000
"""Records over which the share is computed: beyond this number both counts are halved."""
RECALLED = 10_000
"""Latest letters of a topic that a restarted process reads to find those of its readers."""


class Grave(NamedTuple):
    """The position of a buried record."""

    topic: str
    partition: int
    offset: int


Recall = Callable[[str, str], Awaitable[Collection[Grave]]]
"""Returns the recent graves of a reader in a topic, of this process and earlier ones."""


class TooManyDeadLetters(KinologError):
    """More records cannot be used than a few bad ones would explain; no more are buried."""


class Limit:
    """Counts the records that a reader read and could not use.

    The limit is exceeded by more than `letters_max` letters that are also more than the share `share_max` of the records read.
    """

    def __init__(self, letters_max: int = 100, share_max: float = 0.1) -> None:
        self._letters_max = letters_max
        self._share_max = share_max
        self._letters = self._read = 0.0

    def exceeded(self, letters: Sequence[DeadLetter], *, read: int) -> "TooManyDeadLetters | None":
        """Return an error when these letters, among `read` further records, exceed the limit; else None."""
        dead, total = self._letters + len(letters), self._read + read
        if not letters or dead <= self._letters_max or dead <= self._share_max * total:
            return None
        last = letters[-1]
        return TooManyDeadLetters(
            f"{dead:.0f} of {total:.0f} records cannot be used, more than {self._letters_max}; one is"
            f" {last.topic}/{last.partition}/{last.offset}: {last.reason}. Is this code older than the events?"
            " Start the right one, or raise KINOLOG_DEAD_LETTERS_MAX"
        )

    def count_earlier(self, graves: Collection[Grave], ends: Mapping[Partition, int] | None = None) -> None:
        """Count the graves of earlier processes among all records before `ends`; without `ends`, they read no other records."""
        near = [grave for grave in graves if ends is None or grave.offset >= ends[grave[:2]] - REMEMBERED]
        read = len(near) if ends is None else sum(min(REMEMBERED, end) for end in ends.values())
        self._letters, self._read = self._letters + len(near), max(self._read, read)

    def count(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Count the letters among `read` further records."""
        self._letters, self._read = self._letters + len(letters), self._read + read
        if self._read > REMEMBERED:
            self._letters, self._read = self._letters / 2, self._read / 2


class Graves:
    """Buries the unusable records of one reader, each once, up to its `Limit`.

    A reader `in_order` reads every record of its topics, so a record once buried stays buried.
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
        self._buried: set[Grave] = set()

    async def bury(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Bury the letters of a stretch of `read` records, but for those buried when it was read before.

        Raises TooManyDeadLetters over the limit, and the errors of `bury` and `recall`.
        """
        for topic in {letter.topic for letter in letters} - self._recalled:
            await self._remember(topic, [grave_of(letter) for letter in letters if letter.topic == topic])
        new = [letter for letter in letters if grave_of(letter) not in self._buried]
        if too_many := self._limit.exceeded(new, read=read):
            raise too_many
        if new:
            await self._bury([letter._replace(reader=self._reader) for letter in new])
        if self._in_order:
            self._buried |= {grave_of(letter) for letter in new}
        self._limit.count(new, read=0)

    async def _remember(self, topic: str, new: Sequence[Grave]) -> None:
        """Count the graves of a topic from before this process."""
        earlier = await self._recall(self._reader, topic)
        if self._in_order:
            ends: dict[Partition, int] = {}
            for grave in sorted([*new, *earlier]):
                ends[grave.topic, grave.partition] = grave.offset
            self._buried |= set(earlier)
            self._limit.count_earlier(earlier, ends)
        else:
            self._limit.count_earlier(earlier)
        self._recalled.add(topic)

    def passed(self, read: int, ends: Mapping[Partition, int] | None = None) -> None:
        """Count a stretch of `read` records that is durable: in these partitions nothing before `ends` will be read again."""
        if ends:
            self._buried = {grave for grave in self._buried if grave.offset >= ends.get(grave[:2], 0)}
        self._limit.count((), read=read)


def grave_of(letter: DeadLetter) -> Grave:
    """Return the position of a letter's record."""
    return Grave(letter.topic, letter.partition, letter.offset)


def encode(letter: DeadLetter) -> bytes:
    """Return the dead letter's JSON. `value` is base64 of the record's bytes, at most `VALUE_BYTES_MAX` of its `value_bytes`."""
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
    """Return a letter and the length of its record, of which the letter may have only the beginning. Raises InvalidEvent.

    Letters of older versions may name no reader, and have whole records.
    """
    try:
        said: Any = orjson.loads(value)
        record = base64.b64decode(said["value"])
        position = str(said["topic"]), int(said["partition"]), int(said["offset"])
        letter = DeadLetter(*position, str(said["reason"]), record, str(said.get("reader", "")))
        return letter, int(said.get("value_bytes", len(record)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidEvent(f"it is no dead letter: {error}") from error


def recall_with(open_log: Callable[[], AbstractAsyncContextManager[Source]]) -> Recall:
    """Return a function that reads the latest letters of a topic and returns a reader's graves."""

    async def recall(reader: str, topic: str) -> Collection[Grave]:
        partition = (TOPICS[topic].dead_letters, 0)
        found = set()
        async with open_log() as source:
            starts, ends = await source.starts([partition]), await source.ends([partition])
            begin = {partition: max(starts[partition], ends[partition] - RECALLED)}
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
    """Return a function that appends dead letters in one go and waits for their acknowledgement."""

    async def bury(letters: Sequence[DeadLetter]) -> None:
        sent = [
            await producer.send(topic_prefix + TOPICS[letter.topic].dead_letters, encode(letter), partition=0) for letter in letters
        ]
        await asyncio.gather(*sent)
        for letter in letters:
            observe(letter.topic, letter.reader)

    return bury
