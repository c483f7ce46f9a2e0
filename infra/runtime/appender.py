"""The appender of every program: opened on Kafka, observed by Prometheus."""

from typing import Any

from infra.runtime import kafka, metrics
from infra.runtime.settings import Settings
from producers.appender import Appender


def appender_of(settings: Settings, **bounds: Any) -> Appender:
    """Return an appender that is not started. `bounds` are those of `Appender`: `timeout_s`, `pending_max` …"""
    return Appender(
        lambda: kafka.open_producer(settings),
        topic_prefix=settings.topic_prefix,
        observe_seconds=metrics.LOG_APPEND_SECONDS.observe,
        observe_failure=metrics.LOG_APPEND_FAILURES.inc,
        **bounds,
    )
