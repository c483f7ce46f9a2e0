"""Kafka: the one module that opens its sockets."""

import logging
import platform
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from events.topics import TOPICS, Topic
from infra.runtime.settings import Settings

LOGGER = logging.getLogger("kafka")
NO_GROUP = "kinolog-no-group"
"""librdkafka wants a name also of consumers that never join a group."""
DEAD_LETTER_RETENTION_MS = 90 * 24 * 3600 * 1000
RETRY_MS = 100
"""Pause between connection attempts of a client: at a tenth of it, clients kept a broker from starting."""


def librdkafka(settings: Settings) -> dict[str, str | int | float | bool]:
    """Return how a client of confluent-kafka reaches the broker."""
    found: dict[str, str | int | float | bool] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security,
    }
    if settings.kafka_security.startswith("sasl"):
        found["sasl.mechanism"] = settings.kafka_mechanism
        found["sasl.username"] = settings.kafka_user
        found["sasl.password"] = settings.kafka_password.get_secret_value()
    if settings.kafka_ca is not None:
        found["ssl.ca.location"] = str(settings.kafka_ca)
    return found


def aiokafka(settings: Settings) -> Mapping[str, Any]:
    """Return how a client of aiokafka reaches the broker."""
    found: dict[str, Any] = {"bootstrap_servers": settings.kafka_bootstrap, "security_protocol": settings.kafka_security.upper()}
    if settings.kafka_security.startswith("sasl"):
        found["sasl_mechanism"] = settings.kafka_mechanism
        found["sasl_plain_username"] = settings.kafka_user
        found["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    if settings.kafka_security.endswith("ssl"):
        found["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ca)
    return found


def topic_name(settings: Settings, topic: Topic | str) -> str:
    """Return the name of a declared topic on this installation's broker."""
    return settings.topic_prefix + (topic if isinstance(topic, str) else topic.name)


def member_name(port: int) -> str:
    """Return the name under which the process that listens at a port of this machine is a member of consumer groups.

    A member that returns under its name gets its partitions at once. Without a name the broker would first wait until the
    session of the killed process has timed out.
    """
    return f"{platform.node()}-{port}"


async def open_consumer(
    settings: Settings, *, group: str | None = None, idle_ms: int = 1000, **options: object
) -> AIOKafkaConsumer:
    """Return a started consumer that sees only committed events and never commits by itself.

    `idle_ms` bounds how long the broker holds a fetch that finds nothing; data is answered at once.
    """
    consumer = AIOKafkaConsumer(
        **aiokafka(settings),
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=idle_ms,
        max_partition_fetch_bytes=4 << 20,
        request_timeout_ms=20_000,
        retry_backoff_ms=RETRY_MS,
        metadata_max_age_ms=60_000,
        **{"auto_offset_reset": "earliest", **options},
    )
    try:
        await consumer.start()
    except BaseException:
        await consumer.stop()
        raise
    return consumer


async def open_producer(settings: Settings, *, transactional_id: str | None = None) -> AIOKafkaProducer:
    """Return a started producer: acks=all, idempotent; transactional when an id is given."""
    producer = AIOKafkaProducer(
        **aiokafka(settings),
        acks="all",
        enable_idempotence=True,
        transactional_id=transactional_id,
        linger_ms=0,
        retry_backoff_ms=4 if transactional_id else RETRY_MS,  # a transaction may begin before the last one is quite over
        max_batch_size=1 << 20,
        max_request_size=4 << 20,
        request_timeout_ms=10_000,
        metadata_max_age_ms=60_000,
    )
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


async def ensure_topics(settings: Settings, topics: Iterable[Topic] = TOPICS.values()) -> None:
    """Create the declared topics and their dead-letter topics that are missing; idempotent."""
    admin = AIOKafkaAdminClient(**aiokafka(settings), request_timeout_ms=20_000)
    await admin.start()
    try:
        wanted = {}
        for topic in topics:
            name = topic_name(settings, topic)
            configs = {
                "retention.ms": str(topic.retention_ms),
                "max.message.bytes": str(4 << 20),
                "message.timestamp.after.max.ms": str(2**63 - 1),  # its default refuses records of a clock that is an hour ahead
            }
            wanted[name] = NewTopic(name, topic.partitions, settings.kafka_replication, topic_configs=configs)
            dead = topic_name(settings, topic.dead_letters)
            wanted[dead] = NewTopic(
                dead, 1, settings.kafka_replication, topic_configs={"retention.ms": str(DEAD_LETTER_RETENTION_MS)}
            )
        missing = [new for name, new in wanted.items() if name not in set(await admin.list_topics())]
        if missing:
            response: Any = await admin.create_topics(missing)
            for name, code, *rest in response.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise for_code(code)(f"creating topic {name}: {rest}")
    finally:
        await admin.close()
