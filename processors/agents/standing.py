"""Standings: positions at which feeds stand still, and whose fault it is.

A feed that cannot go on reports position, subject, reason and duration in its log lines, its readiness and its metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka.errors import KafkaError
from psycopg import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests

from events.errors import LogTruncated, PositionConflict, Retryable
from events.topics import Partition

_AWAY = (Retryable, PositionConflict, LogTruncated, KafkaError, InterfaceError, PoolTimeout, TooManyRequests, TimeoutError, OSError)
_LIMIT_EXCEEDED = "54"
"""PostgreSQL's class of errors about one value that is too large; psycopg counts them among those of operation."""
ERROR_CHARACTERS_MAX = 300
REPORTED_FAILURES = 5
"""Failures in a row after which a standing is reported; it is still tried again."""
STANDS_AFTER_S = 60.0
"""Maximum time before a standing is reported."""
BEGUN_AGAIN_S = (1.0, 60.0)
"""Shortest and longest wait of a service that begins again."""


@dataclass
class Restarts:
    """Failures in a row of a service that begins again after each; `fault` has the last one after several."""

    failures: int = 0
    fault: str | None = None

    def failed(self, error: Exception) -> float:
        """Count a failure; return the seconds until the service begins again."""
        self.failures += 1
        self.fault = f"begins again: {words_of(error)}" if self.failures >= REPORTED_FAILURES else None
        return min(BEGUN_AGAIN_S[1], BEGUN_AGAIN_S[0] * 2.0 ** min(self.failures - 1, 20))

    def worked(self) -> None:
        """Forget the failures."""
        self.failures, self.fault = 0, None


@dataclass(frozen=True, slots=True)
class Standing:
    """The position on the log that a feed does not get past. `partition` is None when the fault is about no single record."""

    feed: str
    partition: Partition | None
    offset: int | None
    subject: str
    error: str
    since: datetime
    failures: int = 1

    @property
    def is_milestone(self) -> bool:
        """Whether this failure gets a log line: the first, second, fourth, eighth …"""
        return not self.failures & (self.failures - 1)

    def is_reported(self, now: datetime) -> bool:
        """Return whether it failed often or long enough to be reported."""
        return self.failures >= REPORTED_FAILURES or (now - self.since).total_seconds() > STANDS_AFTER_S

    def sentence(self) -> str:
        """Return a sentence for a person."""
        where = f" at {self.partition[0]}/{self.partition[1]}/{self.offset}" if self.partition else ""
        about = f" ({self.subject})" if self.subject else ""
        return f"stands still{where}{about} since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.error}"

    def fields(self) -> dict[str, object]:
        """Return the fields of a log line."""
        topic, number = self.partition or (None, None)
        return {
            "feed": self.feed,
            "topic": topic,
            "partition": number,
            "offset": self.offset,
            "subject": self.subject,
            "error": self.error,
            "since": self.since.isoformat(),
            "failures": self.failures,
        }


def sentence_of(standings: Sequence[Standing]) -> str | None:
    """Return a sentence about the first standing and the number of others; None without any."""
    more = f" (and {len(standings) - 1} more)" if len(standings) > 1 else ""
    return standings[0].sentence() + more if standings else None


def seconds_of(standings: Sequence[Standing], now: datetime) -> float:
    """Return the age of the first standing in seconds; 0 without any."""
    return max(0.001, (now - standings[0].since).total_seconds()) if standings else 0.0


def words_of(error: BaseException) -> str:
    """Return an error's type and message, cut."""
    return f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]


async def is_away(error: Exception) -> bool:
    """Return whether the error is no record's fault: a service is away, or another process moved the position."""
    if isinstance(error, OperationalError):
        return not (error.sqlstate or "").startswith(_LIMIT_EXCEEDED)
    return isinstance(error, _AWAY)
