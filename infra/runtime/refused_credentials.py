"""Distinguishes a service that refuses its user from one that is away; checked only after a failure."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from aiokafka.errors import KafkaError as ClientError
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from psycopg_pool import PoolTimeout

from events.errors import LogUnavailable
from infra.runtime import kafka
from infra.runtime.settings import Settings

ASKED_S = 5
FAULTS = (ClientError, KafkaException, psycopg.OperationalError, PoolTimeout, LogUnavailable)
"""After these it is worth asking."""
_SILENT = logging.Logger("nobody", logging.CRITICAL + 1)
"""The sentence is enough."""
_PASSING = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection slots")
"""Words of a PostgreSQL that takes nobody at the moment."""


def refusal(settings: Settings) -> str | None:
    """Return which service refuses its user, and which settings to look at; None when none does."""
    return _of_kafka(settings) or _of_postgres(settings)


@contextmanager
def explained(settings: Settings, name: str) -> Iterator[None]:
    """End the process with a sentence when a service refuses it; any other fault goes on."""
    try:
        yield
    except FAULTS as error:
        if (sentence := refusal(settings)) is None:
            raise
        raise SystemExit(f"kinolog {name}: {sentence}") from error


def _of_kafka(settings: Settings) -> str | None:
    if not settings.kafka_bootstrap:
        return None
    found: list[KafkaError] = []
    options: dict[str, Any] = {**kafka.librdkafka(settings), "error_cb": found.append}
    client = AdminClient(options, logger=_SILENT)
    try:
        client.list_topics(timeout=ASKED_S)
    except KafkaException:
        client.poll(0)
    where = f"Kafka at {settings.kafka_bootstrap}"
    if any(error.code() == KafkaError._AUTHENTICATION for error in found):
        mechanism = settings.kafka_mechanism
        return f"{where} refuses the user or the password: look at KINOLOG_KAFKA_USER and KINOLOG_KAFKA_PASSWORD ({mechanism})"
    if any(error.code() == KafkaError._SSL for error in found):
        return f"{where} and this machine do not agree on TLS: look at KINOLOG_KAFKA_SECURITY and KINOLOG_KAFKA_CA"
    return None


def _of_postgres(settings: Settings) -> str | None:
    if not (url := settings.postgres_url.get_secret_value()):
        return None
    try:
        psycopg.connect(url, connect_timeout=ASKED_S).close()
    except psycopg.OperationalError as error:
        _, fatal, words = str(error).partition("FATAL:")
        if fatal and not any(passing in words for passing in _PASSING):
            return f"PostgreSQL refuses KINOLOG_POSTGRES_URL: {words.strip().splitlines()[0]}"
    except psycopg.Error:
        return None
    return None
