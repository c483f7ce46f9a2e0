"""Records that no reader can use are put aside, whole, with where they stood and why: topic `<topic>.dead`.

Not without limit: where much of what is read cannot be used, the code is at fault and not the records, for example after
a deployment that went wrong. Then the feed stands still and says so, instead of burying a whole topic.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence

import orjson
from aiokafka import AIOKafkaProducer

from events.errors import KinologError
from events.topics import TOPICS
from projections.folding.log import DeadLetter

VALUE_BYTES_MAX = 600_000
"""So much of a record stands in its letter: in base64 it becomes a third longer, and a letter must fit on the log as well."""
REMEMBERED = 100_000
"""Records over which the share is reckoned: at so many, both counts are halved."""


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

    def count(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Count what was put aside, of so many records that were read."""
        self._letters, self._read = self._letters + len(letters), self._read + read
        if self._read > REMEMBERED:
            self._letters, self._read = self._letters / 2, self._read / 2


class Graves:
    """Buries what the reader of this name cannot use, each record once, and refuses when it is too much (`Limit`).

    Raises TooManyDeadLetters then, and whatever `bury` raises.
    """

    def __init__(
        self, bury: Callable[[Sequence[DeadLetter]], Awaitable[None]], reader: str, letters_max: int, share_max: float
    ) -> None:
        self._bury = bury
        self._reader = reader
        self._limit = Limit(letters_max, share_max)
        self._buried: set[tuple[str, int, int]] = set()

    async def bury(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Bury what was not buried when this stretch of the log was read before; it has so many records."""
        new = [letter for letter in letters if (letter.topic, letter.partition, letter.offset) not in self._buried]
        if too_many := self._limit.exceeded(new, read=read):
            raise too_many
        if new:
            await self._bury([letter._replace(reader=self._reader) for letter in new])
        self._buried |= {(letter.topic, letter.partition, letter.offset) for letter in new}
        self._limit.count(new, read=read)

    def forget(self) -> None:
        """Say that the stretch is durable: it is not read again."""
        self._buried.clear()


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
