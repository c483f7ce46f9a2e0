"""Reads the log in whole batches, from stored positions on."""

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from events.codec import decode
from events.envelope import Event, Recorded
from events.errors import InvalidEvent, LogTruncated
from projections.runner import Batch, Slice


class DeadLetter(NamedTuple):
    """A record that could not be decoded, and why."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes


class LogReader:
    """Turns what a consumer fetches into batches that start where the last one ended.

    Topics carry the installation's prefix on the broker and none in what is returned.
    """

    def __init__(self, consumer: AIOKafkaConsumer, *, topic_prefix: str = "") -> None:
        self._consumer = consumer
        self._prefix = topic_prefix
        self._next: dict[TopicPartition, int] = {}

    async def seek(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Go on from these positions. Raises LogTruncated when the log starts after one of them."""
        partitions = {
            TopicPartition(self._prefix + topic, partition): position for (topic, partition), position in positions.items()
        }
        starts = await self._consumer.beginning_offsets(list(partitions))
        for partition, position in partitions.items():
            if starts[partition] > position:
                raise LogTruncated(
                    f"{partition.topic}/{partition.partition} starts at {starts[partition]}; events from {position} on are needed"
                )
            self._consumer.seek(partition, position)
        self._next = partitions

    def missing(self, target: Mapping[tuple[str, int], int]) -> int:
        """Return how many offsets lie between what was read and `target`."""
        here = {(tp.topic[len(self._prefix) :], tp.partition): position for tp, position in self._next.items()}
        return sum(max(0, position - here[place]) for place, position in target.items())

    async def read(
        self, *, records_max: int, wait_ms: int, until: Mapping[tuple[str, int], int] | None = None
    ) -> tuple[Batch | None, list[DeadLetter]]:
        """Return the next batch, None when there was nothing for `wait_ms`, and what in it could not be decoded.

        With `until`, nothing at or past these positions is read.
        """
        fetched = await self._consumer.getmany(timeout_ms=wait_ms, max_records=records_max)
        slices: list[Slice] = []
        records: list[Recorded[Event]] = []
        dead: list[DeadLetter] = []
        skip = len(self._prefix)
        for partition, messages in fetched.items():
            if partition not in self._next:
                continue  # it was taken from us while the fetch was under way
            topic, number = partition.topic[skip:], partition.partition
            if until is not None and messages[-1].offset >= until[topic, number]:
                messages = [message for message in messages if message.offset < until[topic, number]]
                self._consumer.seek(partition, messages[-1].offset + 1 if messages else self._next[partition])
                if not messages:
                    continue
            newest = None
            for message in messages:
                try:
                    envelope = decode(message.value or b"")
                except InvalidEvent as error:
                    dead.append(DeadLetter(topic, number, message.offset, str(error), message.value or b""))
                    continue
                records.append(Recorded(topic, number, message.offset, envelope))
                if newest is None or envelope.time > newest:
                    newest = envelope.time
            end = messages[-1].offset + 1
            slices.append(Slice(topic, number, self._next[partition], end, len(messages), newest))
            self._next[partition] = end
        if not slices:
            return None, dead
        return Batch(tuple(slices), records), dead

    async def lag(self) -> dict[tuple[str, int], int]:
        """Return, per partition, how many offsets lie between what was read and the last stable end."""
        behind = {}
        for partition in self._next:
            end = self._consumer.last_stable_offset(partition)
            here = await self._consumer.position(partition)
            behind[partition.topic[len(self._prefix) :], partition.partition] = max(0, (end or here) - here)
        return behind
