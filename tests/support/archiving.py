"""An archiver inside the test's own process, which writes at once."""

from collections.abc import Callable
from datetime import timedelta

from infra.runtime.clock import SystemClock, system_context
from infra.runtime.fenced_appender import FencedAppender
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from processors.archiver import Archiver, Clients, Store


def archiver(
    settings: Settings,
    store: Store,
    records_max: int,
    archived: Callable[[str, int], None] = lambda topic, records: None,
) -> Archiver:
    """Return it; files have at most `records_max` records."""
    clients = Clients(
        source=lambda: LogConsumer(settings, idle_ms=50),
        appender=lambda: FencedAppender(settings, "kinolog.archiver"),
        store=store,
        context=lambda: system_context("test/archiver"),
    )
    return Archiver(
        clients, SystemClock(), timedelta(milliseconds=1), records_max, settings.archive_memory_bytes, archived=archived
    )
