"""Where a feed stands still, and whose fault that is.

A feed that cannot go on says where, at which subject, why and since when: in its log lines, its readiness and its metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka.errors import KafkaError
from psycopg import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests

from events.errors import LogTruncated, PositionConflict, Retryable
from projections.folding.log import Place

_AWAY = (Retryable, PositionConflict, LogTruncated, KafkaError, InterfaceError, PoolTimeout, TooManyRequests, TimeoutError, OSError)
_LIMIT_EXCEEDED = "54"
"""PostgreSQL's class of errors about one value that is too large; psycopg counts them among those of operation."""
ERROR_CHARACTERS_MAX = 300
REPORTED_FAILURES = 5
"""What fails so often in a row is reported, though it is tried again."""
STANDS_AFTER_S = 60.0
"""What takes longer is reported as standing still."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A place of the log that a feed does not get past. `place` is None when the fault is about no single record."""

    feed: str
    place: Place | None
    offset: int | None
    subject: str
    error: str
    since: datetime
    failures: int = 1

    @property
    def is_milestone(self) -> bool:
        """Whether this failure is the first, second, fourth, eighth …: the ones that get a log line."""
        return not self.failures & (self.failures - 1)

    def is_reported(self, now: datetime) -> bool:
        """Tell whether it has failed often or long enough to be reported."""
        return self.failures >= REPORTED_FAILURES or (now - self.since).total_seconds() > STANDS_AFTER_S

    def sentence(self) -> str:
        """Say it for a person."""
        where = f" at {self.place[0]}/{self.place[1]}/{self.offset}" if self.place else ""
        about = f" ({self.subject})" if self.subject else ""
        return f"stands still{where}{about} since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.error}"

    def fields(self) -> dict[str, object]:
        """Return what a log line says of it."""
        topic, partition = self.place or (None, None)
        return {
            "feed": self.feed,
            "topic": topic,
            "partition": partition,
            "offset": self.offset,
            "subject": self.subject,
            "error": self.error,
            "since": self.since.isoformat(),
            "failures": self.failures,
        }


def sentence_of(standings: Sequence[Standing]) -> str | None:
    """Say the first one for a person, and how many more there are; None when there is none."""
    more = f" (and {len(standings) - 1} more)" if len(standings) > 1 else ""
    return standings[0].sentence() + more if standings else None


def seconds_of(standings: Sequence[Standing], now: datetime) -> float:
    """Return for how many seconds the first one has stood still; 0 when there is none."""
    return max(0.001, (now - standings[0].since).total_seconds()) if standings else 0.0


def words_of(error: BaseException) -> str:
    """Return an error as a standing says it."""
    return f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]


async def is_away(error: Exception) -> bool:
    """Tell whether a service is away, or somebody else moved the position: nothing that one record is to blame for."""
    if isinstance(error, OperationalError):
        return not (error.sqlstate or "").startswith(_LIMIT_EXCEEDED)
    return isinstance(error, _AWAY)
