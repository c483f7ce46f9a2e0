"""Records that no reader can use are put aside, whole, with where they stood and why: topic `<topic>.dead`.

Not without limit: where much of what is read cannot be used, the code is at fault and not the records, for example after
a deployment that went wrong. Then the feed stands still and says so, instead of burying a whole topic.
"""

import base64
from collections.abc import Awaitable, Callable, Sequence

import orjson
from aiokafka import AIOKafkaProducer

from events.errors import KinologError
from events.topics import TOPICS
from projections.folding.log import DeadLetter

VALUE_BYTES_MAX = 600_000
"""So much of a record stands in its letter: in base64 it becomes a third longer, and a letter must fit on the log as well."""
SHARE_MAX = 0.1
REMEMBERED = 100_000
"""Records over which the share is reckoned: at so many, both counts are halved."""


class TooManyDeadLetters(KinologError):
    """More of what is read cannot be used than a few bad records would explain; nothing more is put aside."""


class Graves:
    """Buries what one feed cannot use, each record once, and refuses when it is too much.

    More than `letters_max` and more than a tenth of what was read is too much. Raises TooManyDeadLetters then, and whatever
    `bury` raises.
    """

    def __init__(self, bury: Callable[[Sequence[DeadLetter]], Awaitable[None]], letters_max: int) -> None:
        self._bury = bury
        self._letters_max = letters_max
        self._buried: set[tuple[str, int, int]] = set()
        self._letters = self._read = 0.0

    async def bury(self, letters: Sequence[DeadLetter], *, read: int) -> None:
        """Bury what was not buried when this stretch of the log was read before; it has so many records."""
        new = [letter for letter in letters if (letter.topic, letter.partition, letter.offset) not in self._buried]
        dead, total = self._letters + len(new), self._read + read
        if new and dead > self._letters_max and dead > SHARE_MAX * total:
            first = new[0]
            raise TooManyDeadLetters(
                f"{dead:.0f} of {total:.0f} records cannot be used, more than {self._letters_max}; the next would be"
                f" {first.topic}/{first.partition}/{first.offset}: {first.reason}. Is this code older than the events?"
                " Start the right one, or raise KINOLOG_DEAD_LETTERS_MAX"
            )
        if new:
            await self._bury(new)
        self._buried |= {(letter.topic, letter.partition, letter.offset) for letter in new}
        self._letters, self._read = dead, total
        if total > REMEMBERED:
            self._letters, self._read = dead / 2, total / 2

    def forget(self) -> None:
        """Say that the stretch is durable: it is not read again."""
        self._buried.clear()


def encode(letter: DeadLetter, reader: str) -> bytes:
    """Return the dead letter's JSON; `value` is base64 of the record's bytes, of a long one's the first of `value_bytes`."""
    return orjson.dumps(
        {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "reason": letter.reason,
            "reader": letter.reader or reader,
            "value": base64.b64encode(letter.value[:VALUE_BYTES_MAX]).decode(),
            "value_bytes": len(letter.value),
        }
    )


def bury_with(
    producer: AIOKafkaProducer, reader: str, *, topic_prefix: str, observe: Callable[[str, str], None]
) -> Callable[[Sequence[DeadLetter]], Awaitable[None]]:
    """Return a function that appends dead letters and returns when all are acknowledged."""

    async def bury(letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            topic = topic_prefix + TOPICS[letter.topic].dead_letters
            await producer.send_and_wait(topic, encode(letter, reader), partition=0)
            observe(letter.topic, letter.reader or reader)

    return bury
