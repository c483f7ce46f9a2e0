"""Appends under a transactional id: only its latest owner can append.

confluent-kafka, because aiokafka's sender ends when it is fenced, and its callers then wait for ever.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Producer

from events.codec import HEADERS
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from events.topics import TOPIC_OF, partition_of
from infra.runtime.kafka import LOGGER, librdkafka
from infra.runtime.settings import Settings
from producers.appender import record_of

TIMEOUT_S = 20.0


class FencedAppender:
    """An appender of one owner. Opening it fences the previous owner of the id."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self._prefix = settings.topic_prefix
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fenced-appender")
        self._producer = Producer(
            {
                **librdkafka(settings),
                "transactional.id": settings.topic_prefix + transactional_id,
                "transaction.timeout.ms": int(TIMEOUT_S * 1000),
                "linger.ms": 0,
                "message.max.bytes": 4 << 20,
            },
            logger=LOGGER,
        )

    async def open(self) -> None:
        """Fence older owners; their uncommitted events are gone. Raises LogUnavailable."""
        await self._run(lambda: self._producer.init_transactions(TIMEOUT_S))

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        """Append all or nothing. Raises InvalidEvent for an event that cannot be encoded.

        Raises LogUnavailable; then the outcome is unknown, and this appender is unusable.
        """
        await self._run(lambda: self._append(envelopes))

    def _append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        records = [(TOPIC_OF[envelope.data.TYPE], record_of(envelope)) for envelope in envelopes]
        self._producer.begin_transaction()
        for topic, (key, value, time_ms) in records:
            partition = partition_of(key, topic.partitions)
            self._producer.produce(self._prefix + topic.name, value, key, partition, timestamp=time_ms, headers=list(HEADERS))
        self._producer.commit_transaction(TIMEOUT_S)

    async def close(self) -> None:
        """Let go; an open transaction is aborted by the broker."""
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except KafkaException as error:
            failure: KafkaError = error.args[0]
            raise LogUnavailable(f"the log did not acknowledge: {failure.str()}") from error
