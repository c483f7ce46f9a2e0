"""A producer of batches in memory; tests/contract/test_producers_of_records.py holds it to what aiokafka's does."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import BatchBuilder


@dataclass
class MemoryProducer:
    """Takes batches as aiokafka's producer does. `answers` off keeps them; `broken` refuses the next ones."""

    answers: bool = True
    broken: bool = False
    sent: list[tuple[int, int]] = field(default_factory=list)
    open: "list[asyncio.Future[Any]]" = field(default_factory=list)
    stopped: bool = False

    def create_batch(self) -> BatchBuilder:
        """Return an empty batch of 1000 bytes."""
        return BatchBuilder(1000, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        """Take a batch; its records stand at the offsets after those before."""
        if self.broken:
            raise KafkaConnectionError("away")
        count = batch.record_count()
        base = sum(records for number, records in self.sent if number == partition)
        self.sent.append((partition, count))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.answers:
            future.set_result(SimpleNamespace(offset=base))
        else:
            self.open.append(future)
        return future

    async def stop(self) -> None:
        """Remember it."""
        self.stopped = True
