"""A tiny projection and a tiny history, for tests of the machinery that folds."""

from datetime import UTC, datetime, timedelta

from events.envelope import Envelope, Event, Recorded
from events.progress import ProgressTicked
from events.topics import PROGRESS
from infra.runtime.clock import new_id
from projections.folding.fold import Projection, Table, table_row

START = datetime(2100, 1, 1, tzinfo=UTC)
"""In the future: Kafka deletes ticks that are older than a week, whenever it happens to look."""


@table_row
class Seen:
    """The ids that were folded of one job, in order."""

    job_id: str
    ids: tuple[str, ...] = ()


def evolve(row: Seen | None, recorded: Recorded[Event]) -> Seen:
    """Append the event's id, unless it was seen."""
    row = row or Seen(recorded.envelope.subject)
    if recorded.envelope.id in row.ids:
        return row
    return Seen(row.job_id, (*row.ids, recorded.envelope.id))


def counting(name: str = "counting") -> Projection:
    """Return the projection."""
    table = Table("seen", Seen, ("job_id",), lambda recorded: ((recorded.envelope.subject,),), evolve)
    return Projection(name, (PROGRESS,), (table,), "CREATE TABLE seen (job_id text PRIMARY KEY, ids jsonb NOT NULL)")


def ticks(count: int, jobs: int = 3, start: datetime = START) -> list[Envelope[Event]]:
    """Return progress ticks of some jobs, in order, a second apart."""
    ids = [new_id() for _ in range(jobs)]
    return [
        Envelope(
            new_id(),
            "test",
            ids[n % jobs],
            start + timedelta(seconds=n),
            ProgressTicked(
                job_id=ids[n % jobs],
                video_id=ids[0],
                worker_id="w",
                epoch=1,
                kind="encode",
                step="encode",
                percent=float(n % 100),
            ),
            ids[0],
        )
        for n in range(count)
    ]
