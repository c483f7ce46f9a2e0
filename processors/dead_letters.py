"""Records that no reader can use are put aside, whole, with where they stood and why: topic `<topic>.dead`."""

import base64
from collections.abc import Awaitable, Callable, Sequence

import orjson
from aiokafka import AIOKafkaProducer

from events.topics import TOPICS
from projections.log import DeadLetter

VALUE_BYTES_MAX = 600_000
"""So much of a record stands in its letter: in base64 it becomes a third longer, and a letter must fit on the log as well."""


def encode(letter: DeadLetter, reader: str) -> bytes:
    """Return the dead letter's JSON; `value` is base64 of the record's bytes, of a long one's the first of `value_bytes`."""
    return orjson.dumps(
        {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "reason": letter.reason,
            "reader": reader,
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
            observe(letter.topic, reader)

    return bury
