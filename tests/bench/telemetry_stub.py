"""`python -m tests.bench.telemetry_stub telemetry`: the telemetry app on a producer that acknowledges at once, without a log."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from api import __main__ as app


class Nowhere:
    """Takes what `AIOKafkaProducer` takes, and keeps nothing."""

    def create_batch(self) -> BatchBuilder:
        """Return a batch like the producer's."""
        return BatchBuilder(1 << 20, 0)

    async def send_batch(self, _batch: BatchBuilder, _topic: str, *, partition: int) -> "asyncio.Future[Any]":
        """Acknowledge in the next turn of the loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(future.set_result, SimpleNamespace(offset=0))
        return future

    async def stop(self) -> None:
        """Do nothing."""


async def nothing(*_: Any, **__: Any) -> Any:
    """Open nothing."""
    return Nowhere()


if __name__ == "__main__":
    vars(app)["kafka"] = SimpleNamespace(ensure_topics=nothing, open_producer=nothing)
    app.main()
