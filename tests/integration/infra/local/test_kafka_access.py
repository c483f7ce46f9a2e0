"""The local Kafka serves users with a password, each within its rights, and nobody else."""

from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from events.errors import InvalidRequest
from events.topics import JOBS, SETTINGS, TOPICS, VIDEOS
from infra.local import supervision
from infra.local.engine import access
from infra.local.engine.endpoints import resolve
from infra.runtime import kafka
from infra.runtime.settings import Settings
from tests.support.engine import running_engine

DENIED = KafkaError.TOPIC_AUTHORIZATION_FAILED


def written(settings: Settings, topic: str) -> int | None:
    """Write a record as the settings' user; return the code of the refusal, None when it was taken."""
    refused: list[int | None] = []
    producer = Producer({**kafka.librdkafka(settings), "message.timeout.ms": 20_000}, logger=kafka.LOGGER)
    producer.produce(
        kafka.topic_name(settings, topic),
        b"{}",
        partition=0,
        on_delivery=lambda error, _: refused.append(error.code() if error else None),
    )
    producer.flush(30)
    return refused[0]


def read(settings: Settings, topic: str) -> bytes:
    """Return the first record of a topic as the settings' user."""
    consumer = Consumer(
        {**kafka.librdkafka(settings), "group.id": kafka.NO_GROUP, "session.timeout.ms": 10_000}, logger=kafka.LOGGER
    )
    consumer.assign([TopicPartition(kafka.topic_name(settings, topic), 0, 0)])
    try:
        message = consumer.poll(30)
        assert message is not None
        if (error := message.error()) is not None:
            raise KafkaException(error)
        return message.value() or b""
    finally:
        consumer.close()


@pytest.fixture
async def world(settings: Settings) -> Settings:
    await kafka.ensure_topics(settings)
    return settings


@pytest.mark.parametrize(
    "change",
    [
        {"kafka_security": "plaintext"},
        {"kafka_user": "stranger"},
        {"kafka_password": SecretStr("guessed")},
        {"kafka_mechanism": "PLAIN"},
    ],
)
async def test_a_stranger_neither_reads_nor_writes(world: Settings, change: dict[str, object]) -> None:
    stranger = world.model_copy(update=change)
    producer = Producer({**kafka.librdkafka(stranger), "message.timeout.ms": 1000}, logger=kafka.LOGGER)
    failed: list[KafkaError | None] = []
    producer.produce(kafka.topic_name(world, VIDEOS), b"{}", on_delivery=lambda error, _: failed.append(error))
    with pytest.raises(KafkaException):
        producer.list_topics(timeout=1)
    producer.flush(10)
    assert failed and failed[0] is not None


@pytest.mark.parametrize("user", access.WRITES)
async def test_a_program_reads_the_log_and_writes_only_the_topics_that_name_it(world: Settings, user: str) -> None:
    program = access.as_user(world, user)
    assert program.kafka_user == user
    for topic in TOPICS.values():
        may = bool(set(access.WRITES[user]) & set(topic.producers))
        assert written(program, topic.name) == (None if may else DENIED), (user, topic.name)
        assert written(program, topic.dead_letters) == (None if user in access.BURIES else DENIED)
    assert written(world, SETTINGS.name) is None
    assert read(program, SETTINGS.name) == b"{}"
    seen = AdminClient(kafka.librdkafka(program), logger=kafka.LOGGER).list_topics(timeout=20).topics
    assert (kafka.topic_name(world, JOBS) in seen) == (user not in access.READS)


async def test_a_program_sees_no_topics_of_others(world: Settings) -> None:
    engine = access.as_user(world, access.ENGINE)
    await kafka.ensure_topics(engine.model_copy(update={"topic_prefix": f"other.{world.topic_prefix}"}), [VIDEOS])
    for user in access.WRITES:
        admin = AdminClient(kafka.librdkafka(access.as_user(world, user)), logger=kafka.LOGGER)
        seen = admin.list_topics(timeout=20).topics
        assert kafka.topic_name(world, SETTINGS) in seen
        assert not [name for name in seen if name.startswith("other.")]


def test_a_log_of_before_there_were_passwords_gets_them_and_loses_nothing(tmp_path: Path) -> None:
    with running_engine(tmp_path / "var") as local:
        assert written(resolve(local), VIDEOS.name) is None
        for process in marked(local):
            line = " ".join(process.cmdline())
            assert not [name for name, secret in access.passwords(local).items() if secret in line]
        supervision.stop(local)
        access.passwords_file(local).unlink()
        supervision.start(local, engine_only=True)
        assert read(resolve(local), VIDEOS.name) == b"{}"
        assert written(access.as_user(local, "telemetry").model_copy(update=bootstrap(local)), VIDEOS.name) == DENIED
        supervision.restart(local, "kafka")
        assert read(resolve(local), VIDEOS.name) == b"{}"


def test_a_kafka_that_is_not_ours_gets_users_with_the_same_rights(tmp_path: Path) -> None:
    with running_engine(tmp_path / "var") as local:
        owner = access.as_user(local, access.ENGINE).model_copy(update=bootstrap(local))
        outside = owner.model_copy(update={"topic_prefix": "theirs."})
        with pytest.raises(InvalidRequest, match="USER=PASSWORD"):
            access.provide_outside(outside)
        wanted = outside.model_copy(update={"kafka_passwords": SecretStr("admin=one, worker=two")})
        for _ in range(2):
            assert access.provide_outside(wanted) == ["admin", "worker"]
        for user, password in (("admin", "one"), ("worker", "two")):
            program = outside.model_copy(update={"kafka_user": user, "kafka_password": SecretStr(password)})
            for topic in TOPICS.values():
                may = bool(set(access.WRITES[user]) & set(topic.producers))
                assert written(program, topic.name) == (None if may else DENIED), (user, topic.name)
        ours = access.as_user(local, access.OPERATOR).model_copy(update=bootstrap(local))
        assert written(ours, VIDEOS.name) is None


def bootstrap(local: Settings) -> dict[str, str]:
    return {"kafka_bootstrap": f"127.0.0.1:{local.kafka_port}"}


def marked(local: Settings) -> list[psutil.Process]:
    """Return the processes of an installation."""
    return [process for process in psutil.process_iter() if str(local.var_dir) in " ".join(_cmdline(process))]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
