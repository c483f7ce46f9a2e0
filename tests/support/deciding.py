"""A process without log and database: rows as dictionaries, and what it decides."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from events.envelope import Envelope, Event, Recorded
from events.media import Failure, ObjectRef
from events.videos import VideoUploaded
from processors.agents.process import Process, due
from projections.folding.fold import Key
from projections.folding.runner import fold, touches

VIDEO = "01890000-0000-7000-8000-000000000001"
BROKEN = Failure(stage="encoding", category="process_failure", code="EXIT_1", message="ffmpeg ended with 1")


class Live:
    """Folds records and decides, as `run_batch` does; `rows` by table."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.rows: dict[str, dict[Key, Any]] = {table.name: {} for table in process.projection.tables}
        self._decided: dict[str, dict[str, str]] = {rule.table.name: {} for rule in process.rules}

    def handle(self, records: Sequence[Recorded[Event]], now: datetime) -> list[Envelope[Event]]:
        """Return what follows from a batch."""
        return [envelope for part in self.slices(records, now) for envelope in part]

    def slices(self, records: Sequence[Recorded[Event]], now: datetime) -> Iterator[list[Envelope[Event]]]:
        """Yield what follows from a batch as it is appended."""
        rules = {rule.table.name: rule for rule in self.process.rules}
        for table in self.process.projection.tables:
            touching = touches(table, records)
            causes = {key: record.envelope for keys, record in touching for key in keys}
            rows = self.rows[table.name]
            for key, row in fold(table, rows, touching).items():
                rows[key] = row
            if (rule := rules.get(table.name)) is not None:
                touched = {key: row for key in causes if (row := rows.get(key)) is not None}
                yield from due(self.process, rule, touched, self._decided[table.name], causes, now)

    def tick(self, now: datetime) -> list[Envelope[Event]]:
        """Return what follows from rows to which nothing came, as `settle` asks about them."""
        return [
            envelope
            for rule in self.process.rules
            if rule.undecided is not None
            for part in due(self.process, rule, self.rows[rule.table.name], self._decided[rule.table.name], {}, now)
            for envelope in part
        ]


def uploaded() -> VideoUploaded:
    return VideoUploaded(video_id=VIDEO, title="t", filename="f.mp4", object_key="sources/x", size_bytes=1000)


def ref(name: str) -> ObjectRef:
    return ObjectRef(key=f"videos/{name}/result.json", size_bytes=1, sha256="00" * 32)
