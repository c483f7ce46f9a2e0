"""Insights without a database: the telemetry projection folded in memory, and read as its SQL reads it.

shelf = Shelf.of(reported(encoder="av1_qsv", speed_factor=2.0), reported(event_type="job_started"))
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import orjson

from api.telemetry.ingest import OPEN
from api.telemetry.insights import Snapshot
from api.telemetry.reading import Limits
from events.envelope import Envelope, Event, Recorded
from events.telemetry import TelemetryReported
from events.topics import TELEMETRY, partition_for
from projections.telemetry import projection as telemetry
from projections.telemetry.insights import BOARD_MAX, NOTHING, OTHER, STABILITY_MAX, Caps, Group, Insights, Label, Selection
from projections.telemetry.projection import MILLION, Outcome
from tests.support.folding import Tables, folded, history
from tests.support.footage import START, id_of

FINISHED = {
    "app_version": "1.0.0",
    "event_type": "job_finished",
    "status": "success",
    "hardware_model": "Intel",
    "encoder": "av1_qsv",
    "video_codec": "av1",
    "resolution": "1080p",
}
WORDS: dict[str, Sequence[Any]] = {
    "app_version": ("1.0.0", "1.1.0", ""),
    "event_type": ("job_started", "job_finished", "job_finished", "job_finished", "job_paused"),
    "status": (None, "success", "success", "failure", "maybe", ""),
    "failure_reason": (None, "cancelled", "transcode_failed", "日本", ""),
    "hardware_model": (None, "Intel", "Nvidia", "AMD", "", "Ünïcode", "a", "B"),
    "encoder": (None, "av1_qsv", "av1_nvenc", "libsvtav1", ""),
    "video_codec": (None, "av1", "hevc"),
    "resolution": (None, "1080p", "720p"),
    "input_size_bytes": (None, 0, 1, 3, 1_024_000, 2**63 - 1),
    "output_size_bytes": (None, 0, 2, 600_100, 2**63 - 1),
    "speed_factor": (None, 0.0, 1e-9, 0.1, 1.0 / 3, 2.65, 1e6, 12.3456789),
}
OPEN_LIMITS = Limits(Caps(1000, 1000), floor=1, samples_min=1)
LABELS: tuple[Label, ...] = ("day", "app_version", "hardware", "encoder", "codec", "resolution")


def reported(number: int, time: datetime = START, **changes: Any) -> Recorded[Event]:
    """Return the report with this number on the log, a finished job unless something else is said."""
    id_ = id_of(f"report {number}")
    event = TelemetryReported(**(FINISHED | changes))
    envelope: Envelope[Event] = Envelope(id_, "kinolog/telemetry", id_, time, event, id_)
    return Recorded(TELEMETRY.name, partition_for(id_, TELEMETRY.partitions), 0, envelope)


@dataclass
class Shelf:
    """Readings of folded tables."""

    tables: Tables = field(default_factory=lambda: folded(telemetry.PROJECTION, ()))
    limits: Limits = OPEN_LIMITS
    position: str = "telemetry:0=1"

    @classmethod
    def of(cls, *log: Recorded[Event], hardware_max: int = 1000, words_max: int = 1000, **limits: int) -> "Shelf":
        """Return the shelf of a log."""
        tables = folded(telemetry.PROJECTION, history(log))
        return cls(tables, Limits(Caps(hardware_max, words_max), **{"floor": 1, "samples_min": 1} | limits))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple["Shelf", str]]:
        """Yield a reader."""
        yield self, self.position

    async def look(self, known: str | None) -> tuple[Insights, str] | None:
        """Return the predecessor's insights."""
        return None if known == self.position else (self.insights(), self.position)

    def snapshot(self) -> Snapshot:
        """Return the present snapshot."""
        return Snapshot.of(self.insights(), self.position, OPEN)

    def insights(self) -> Insights:
        """Return the predecessor's insights."""
        words = self.tables["words"].values()
        unique = Counter(row.label for row in words if row.named)
        lines: dict[tuple[str, ...], list[Any]] = {}
        for row in self.tables["leaderboard"].values():
            known = tuple(self._capped(label, getattr(row, label)) for label in ("hardware", "encoder", "codec", "resolution"))
            lines.setdefault(known, []).append(row)
        leaderboard = [
            {
                **dict(zip(("hardware", "encoder", "codec", "res"), key, strict=True)),
                "speed": _mean(rows, "speed"),
                "reduction": _mean(rows, "reduction"),
                "samples": sum(row.samples for row in rows),
            }
            for key, rows in sorted(lines.items())
        ]
        leaderboard.sort(key=lambda line: (-line["speed"], -line["samples"]))
        counts: Counter[tuple[str, str]] = Counter()
        for row in self.tables["stability"].values():
            counts[self._capped("encoder", row.encoder), self._capped("reason", row.error)] += row.count
        faults = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        document = {
            "schema": 1,
            "coverage": {
                "total_jobs": sum(row.events for row in words if row.label == "hardware"),
                "unique_hardware": unique["hardware"],
            },
            "leaderboard": leaderboard[:BOARD_MAX],
            "stability": [
                {"encoder": encoder, "error": error, "count": count} for (encoder, error), count in faults[:STABILITY_MAX]
            ],
        }
        labels = dict.fromkeys(row.label for row in words)
        return Insights(orjson.dumps(document), {label: max(0, unique[label] - self.limits.caps.of(label)) for label in labels})

    async def groups(self, selection: Selection, by: Sequence[Label], finished_min: int = 0) -> list[Group]:
        """Return outcomes by labels."""
        found: dict[tuple[str, ...], Group] = {}
        for row in self._selected("outcomes", selection):
            values = {"day": row.day.isoformat(), **self._named(row)}
            key = tuple(values[label] if label in by else "" for label in LABELS)
            found[key] = _plus(found.get(key), key, row)
        kept = [group for group in found.values() if group.finished >= finished_min]
        return sorted(kept, key=lambda group: (-group.finished, *(getattr(group, label) for label in LABELS)))

    async def reasons(self, selection: Selection) -> list[tuple[str, str, int]]:
        """Return why jobs failed."""
        counts: dict[tuple[str, str], int] = {}
        for row in self._selected("failures", selection):
            key = self._named(row)["encoder"], self._capped("reason", row.reason) if row.reason else ""
            counts[key] = counts.get(key, 0) + row.count
        return [(*key, count) for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    def _capped(self, label: str, word: str) -> str:
        said = [row for row in self.tables["words"].values() if row.label == label and row.named]
        said.sort(key=lambda row: (-row.events, row.word))
        return word if word in {row.word for row in said[: self.limits.caps.of(label)]} else OTHER

    def _named(self, row: Any) -> dict[str, str]:
        """Return the words of an outcome or failure; what is not known stays so."""
        words = {label: getattr(row, label) for label in LABELS[1:]}
        return {label: self._capped(label, word) if word else "" for label, word in words.items()}

    def _selected(self, table: str, selection: Selection) -> Iterable[Any]:
        for row in self.tables[table].values():
            if (selection.since and row.day < selection.since) or (selection.until and row.day > selection.until):
                continue
            wanted = {label: value for label in LABELS[1:] if (value := getattr(selection, label)) is not None}
            if wanted.items() <= self._named(row).items():
                yield row


def _mean(rows: Sequence[Any], what: str) -> float:
    count = sum(getattr(row, f"{what}_count") for row in rows)
    if not count:
        return 0.0
    mean = sum(getattr(row, f"{what}_sum") for row in rows) / (count * MILLION)
    return float(mean.quantize(Decimal("0.000001"), ROUND_HALF_UP))


def _plus(group: Group | None, key: tuple[str, ...], row: Outcome) -> Group:
    labels: dict[str, Any] = dict(zip(LABELS, key, strict=True))
    group = group or replace(NOTHING, **labels)
    bins = {name: group.speed_bins.get(name, 0) + row.speed_bins.get(name, 0) for name in {**group.speed_bins, **row.speed_bins}}
    sums: dict[str, Any] = {
        name.name: getattr(group, name.name) + getattr(row, name.name)
        for name in fields(Group)
        if name.name not in (*LABELS, "speed_bins")
    }
    return replace(group, **sums, speed_bins=bins)


def some_log(rng: random.Random, count: int) -> list[Recorded[Event]]:
    """Return reports of every kind, over a few days, each third of them twice."""
    log = []
    for number in range(count):
        time = START + timedelta(hours=rng.randrange(100))
        log.append(reported(number, time, **{name: rng.choice(values) for name, values in WORDS.items()}))
        if rng.random() < 0.3:
            log.append(rng.choice(log))
    return history(log)
