"""The telemetry app inside the test's own process, on a log that the test holds in its hands."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.addresses import Addresses, Network
from api.health import Lacks
from api.limiter import Limiter
from api.telemetry.app import IngestApp, create_telemetry
from api.telemetry.ingest import OPEN, Ingest
from api.telemetry.insights import Snapshots
from api.telemetry.intake import Intake
from events.codec import decode
from events.envelope import Envelope, Event, Record
from events.errors import LogUnavailable
from events.topics import TELEMETRY, Partition, Topic, partition_of
from infra.runtime import metrics
from infra.runtime.clock import new_id
from producers.appender import Offsets, OutcomeUnknown
from tests.support.apps import Seen, refusals_of, refuse
from tests.support.shelf import Shelf

NOON_S = 1_772_000_000.75
"""The present of these apps, in seconds since 1970."""
FINISHED = {
    "app_version": "1.0.0",
    "event_type": "job_finished",
    "status": "success",
    "hardware_model": "Intel Arc A380",
    "encoder": "av1_qsv",
    "video_codec": "av1",
    "resolution": "1080p",
    "duration_ms": 2500,
    "input_size_bytes": 1024000,
    "output_size_bytes": 600100,
    "speed_factor": 2.65,
}


@dataclass
class Log:
    """Takes records as `Appender.offer` does; tests/contract/test_producers_of_records.py holds it to that.

    `away` refuses what comes; `silent` keeps it without an answer.
    """

    records: list[Record] = field(default_factory=list)
    away: bool = False
    silent: bool = False
    outcome: "asyncio.Future[Offsets] | None" = None
    _ends: Counter[Partition] = field(default_factory=Counter)

    def offer(self, topic: Topic, records: Sequence[Record]) -> "asyncio.Future[Offsets]":
        """Put the records on the log, or not."""
        assert topic is TELEMETRY
        loop = asyncio.get_running_loop()
        caller: asyncio.Future[Offsets] = loop.create_future()
        if self.away:
            raise LogUnavailable("too many events wait for the log; try again in a moment")
        offsets: Offsets = defaultdict(list)
        for record in records:
            partition = topic.name, partition_of(record[0], topic.partitions)
            offsets[partition].append(self._ends[partition])
            self._ends[partition] += 1
        self.records += records
        if self.silent:
            self.outcome = self.outcome or loop.create_future()
            caller.set_exception(OutcomeUnknown(self.outcome))
        else:
            caller.set_result(offsets)
        return caller

    @property
    def events(self) -> list[Envelope[Event]]:
        """What is on the log, read."""
        return [decode(value) for _, value, _ in self.records]


@dataclass
class Tally:
    """Remembers the metrics of the hot routes."""

    answers: list[tuple[str, int]] = field(default_factory=list)
    accepted: int = 0
    refused: int = 0

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Remember an answer."""
        assert seconds >= 0
        self.answers.append((path, status))

    def count(self, accepted: int, refused: int) -> None:
        """Remember events."""
        self.accepted += accepted
        self.refused += refused


def make(
    log: Log,
    *,
    per_minute: float = 1e9,
    burst: int = 10**9,
    trusted: Sequence[Network] = (),
    tally: Tally | None = None,
    missing: Mapping[str, str] | None = None,
    now_s: float = NOON_S,
    shelf: Shelf | None = None,
    append: Any = refuse,
) -> IngestApp:
    """Return the telemetry app. It reads a `shelf` of insights, which is empty unless one is given."""
    tally = tally or Tally()
    intake = Intake(log.offer, lambda: now_s, new_id)
    limiter = Limiter(per_minute, burst, b"salt")
    shelf = shelf or Shelf()
    snapshots = Snapshots(shelf.look, OPEN)
    snapshots.current = shelf.snapshot()
    ingest = Ingest(
        intake, intake, limiter, Addresses(trusted), snapshots, tally.observe, tally.count, refusals_of("telemetry", append)
    )

    async def lacks() -> Lacks:
        return Lacks({}, missing or {})

    return create_telemetry(
        ingest,
        observer=Seen(),
        exposition=metrics.exposition,
        metrics_type=metrics.CONTENT_TYPE,
        lacks=lacks,
        new_id=new_id,
        readings=shelf,
    )
