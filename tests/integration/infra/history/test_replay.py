"""New questions to old events: archive and log as one stream, by `kinolog replay` and `kinolog sql`."""

import asyncio
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest

from events.codec import decode
from events.topics import JOBS, PROGRESS
from infra.history.warehouse import open_warehouse, read_batches
from infra.reference.schemas import ROOT, examples_of
from infra.runtime import kafka
from infra.runtime.history import open_history
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.folding.log import LogReader, Source
from projections.history.replay import Wanted
from tests.support.archiving import append, archive
from tests.support.commands import kinolog
from tests.support.counting import START, ticks
from tests.support.log import read_topic
from tests.support.platform import environment

HALF = 200


async def all_ids(source: Source) -> list[tuple[int, int, str]]:
    """Return (partition, offset, id) of every event of the topic progress."""
    reader = LogReader(source)
    await reader.seek({(PROGRESS.name, number): 0 for number in range(PROGRESS.partitions)})
    found = []
    async for records, dead in reader.to_end(records_max=33):
        assert not dead
        found += [(r.partition, r.offset, r.envelope.id) for r in records]
    return sorted(found)


async def test_archive_and_log_are_one_stream(settings: Settings) -> None:
    await append(settings, ticks(HALF, jobs=9))
    await archive(settings, HALF)
    await append(settings, ticks(HALF, jobs=9))
    log = LogConsumer(settings, idle_ms=50)
    expected = await all_ids(log)
    await log.close()
    assert len(expected) == 2 * HALF
    async with open_history(settings) as history:
        assert await all_ids(history) == expected


VIEW = """
from events.topics import PROGRESS
from projections.folding.fold import Table, table_row

@table_row
class Count:
    job_id: str
    ticks: int = 0
    percent: float = 0.0

def keys_of(recorded):
    return ((recorded.envelope.subject,),)

def evolve(row, recorded):
    row = row or Count(recorded.envelope.subject)
    {fault}
    return Count(row.job_id, row.ticks + 1, max(row.percent, recorded.envelope.data.percent))

TOPICS = (PROGRESS,)
TABLE = Table("counts", Count, ("job_id",), keys_of, evolve)
"""
FAULT = "if recorded.offset == 7: raise ValueError('seven')"


async def test_a_view_of_ones_own_goes_into_whatever_one_likes(settings: Settings, tmp_path: Path) -> None:
    events = ticks(HALF, jobs=9)
    await append(settings, events)
    await archive(settings, HALF)
    more = [event._replace(id=f"{event.id[:-1]}{'0' if event.id[-1] != '0' else '1'}") for event in events]
    await append(settings, more)
    expected = {job: 2 * sum(event.subject == job for event in events) for job in {event.subject for event in events}}
    (tmp_path / "counts.py").write_text(VIEW.format(fault=""))

    lines = await kinolog(settings, "replay", "counts.py", cwd=tmp_path)
    assert lines.returncode == 0, lines.stderr
    assert {row["job_id"]: row["ticks"] for row in map(json.loads, lines.stdout.splitlines())} == expected

    for target in ("counts.parquet", "counts.duckdb", settings.postgres_url.get_secret_value()):
        done = await kinolog(settings, "replay", "counts.py", "--into", target, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert {r["job_id"]: r["ticks"] for r in pq.read_table(tmp_path / "counts.parquet").to_pylist()} == expected
    with duckdb.connect(str(tmp_path / "counts.duckdb")) as connection:
        assert dict(connection.execute("SELECT job_id, ticks FROM counts").fetchall()) == expected
    async with await psycopg.AsyncConnection.connect(settings.postgres_url.get_secret_value()) as connection:
        rows = await (await connection.execute("SELECT job_id, ticks FROM counts.counts")).fetchall()
        assert dict(rows) == expected

    one = events[0].subject
    filtered = await kinolog(settings, "replay", "counts.py", "--key", one, "--until", "2100-01-01T00:01:00", cwd=tmp_path)
    (row,) = map(json.loads, filtered.stdout.splitlines())
    assert row["ticks"] == 2 * sum(event.subject == one for event in events[:60])


SUMS = """
import pyarrow as pa
from events.topics import PROGRESS

TOPICS = (PROGRESS,)

def aggregate(batches):
    found = [row for batch in batches for row in batch.to_pylist()]
    return pa.table({"events": [len(found)], "jobs": [len({row["subject"] for row in found})]})
"""


async def test_limits_hold_for_every_kind_of_question(settings: Settings, tmp_path: Path) -> None:
    events = ticks(HALF, jobs=9)
    await append(settings, events[:100])
    await archive(settings, 100)
    await append(settings, events[100:])
    key, minute = events[0].subject, START + timedelta(minutes=1)
    for wanted, seen in (
        (Wanted(), events),
        (Wanted(since=minute), events[60:]),
        (Wanted(until=minute), events[:60]),
        (Wanted(types=("ProgressTicked",)), events),
        (Wanted(types=("job.completed",)), []),
        (Wanted(key=key), [event for event in events if event.subject == key]),
        (Wanted(key="'; DROP"), []),
    ):
        scratch = Path(tempfile.mkdtemp(dir=tmp_path))
        with await open_warehouse(settings, [PROGRESS], scratch, wanted) as connection:
            batches = read_batches(connection, PROGRESS, ("id", "time"))
            found = batches.read_all().to_pylist()
            counted = connection.execute("SELECT count(*) FROM progress").fetchone()
        assert sorted((row["id"], row["time"]) for row in found) == sorted((event.id, event.time) for event in seen)
        assert batches.schema.names == ["id", "time"] and counted == (len(seen),)
    (tmp_path / "sums.py").write_text(SUMS)
    (tmp_path / "sums.sql").write_text("SELECT count(*) AS events, count(DISTINCT subject) AS jobs FROM progress")
    for file in ("sums.py", "sums.sql"):
        done = await kinolog(settings, "replay", file, "--until", "2100-01-01T00:01:00", "--key", key, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"events": 7, "jobs": 1}


async def test_sql_shows_moments_and_days_in_utc_wherever_the_machine_is(settings: Settings, tmp_path: Path) -> None:
    await append(settings, ticks(1, jobs=1))
    question = "SELECT time, date_trunc('day', time) AS day, [time] AS times FROM progress"
    done = await kinolog(settings, "sql", "--csv", question, cwd=tmp_path, TZ="America/Los_Angeles")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert row["time"] == row["day"] == str(START), row
    assert "UTC" in row["times"], row


async def test_a_fold_that_fails_shows_the_event_and_goes_on_from_there(settings: Settings, tmp_path: Path) -> None:
    await append(settings, ticks(HALF, jobs=9))
    (tmp_path / "counts.py").write_text(VIEW.format(fault=FAULT))
    failed = await kinolog(settings, "replay", "counts.py", "--into", "counts.parquet", cwd=tmp_path)
    assert failed.returncode == 1
    assert re.search(r"evolve failed at progress/\d/7: ValueError: seven\n\{.*progress.ticked", failed.stderr)
    assert "Traceback" not in failed.stderr
    assert (tmp_path / "counts.parquet.checkpoint").exists() and not (tmp_path / "counts.parquet").exists()
    (tmp_path / "counts.py").write_text(VIEW.format(fault=""))
    again = await kinolog(settings, "replay", "counts.py", "--into", "counts.parquet", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "going on" in again.stderr or "events: 200" in again.stderr
    assert sum(row["ticks"] for row in pq.read_table(tmp_path / "counts.parquet").to_pylist()) == HALF
    assert not (tmp_path / "counts.parquet.checkpoint").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.py"], "there is no such file"),
        (["empty.py"], "wants either TABLE"),
        (["counts.py", "--topic", "nonsense"], "there is no topic nonsense"),
        (["counts.py", "--into", "x.parquet", "--follow"], "--follow wants"),
        (["counts.py", "--into", "x.csv"], "wants postgresql://"),
        (["counts.sql", "--into", "postgresql://localhost/x"], "is asked once"),
        (["counts.sql", "--topic", "progress"], "names its topics itself"),
        (["sums.py", "--follow"], "is asked once"),
    ],
)
async def test_nonsense_is_explained(settings: Settings, tmp_path: Path, words: list[str], sentence: str) -> None:
    await kafka.ensure_topics(settings)
    await ObjectStore(settings).ensure_bucket()
    (tmp_path / "counts.py").write_text(VIEW.format(fault=""))
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "counts.sql").write_text("SELECT count(*) FROM progress")
    (tmp_path / "sums.py").write_text(SUMS)
    done = await kinolog(settings, "replay", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr


async def test_the_tutorial_works_as_it_stands(settings: Settings, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorials" / "replay.md").read_text()
    paths = [path for event in JOBS.events for path in examples_of(event)]
    examples = [decode((ROOT / path).read_bytes()) for path in paths]
    await append(settings, sorted(examples, key=lambda envelope: envelope.time))
    await archive(settings, 1)
    fold, aggregation = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "attempts.py").write_text(fold)
    (tmp_path / "per_day.py").write_text(aggregation)
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        if "--follow" in command:
            continue  # it ends with Ctrl-C only
        line = command.replace("kinolog", f"{sys.executable} -m infra.cli", 1)
        env = environment(settings) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        done = await asyncio.to_thread(
            subprocess.run, line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    claimed: list[Any] = [r for r in await read_topic(settings, "jobs") if type(r.envelope.data).__name__ == "JobClaimed"]
    found = pq.read_table(tmp_path / "attempts.parquet").to_pylist()
    assert {row["job_id"] for row in found if row["claimed_at"]} == {r.envelope.data.job_id for r in claimed} != set()
    ended = [
        r.envelope for r in await read_topic(settings, "jobs") if type(r.envelope.data).__name__ in ("JobCompleted", "JobFailed")
    ]
    expected = Counter((envelope.time.date(), envelope.data.TYPE) for envelope in ended)
    with duckdb.connect(str(tmp_path / "per_day.duckdb")) as connection:
        rows = connection.execute("SELECT day, type, events FROM per_day").fetchall()
    assert {(day, kind): events for day, kind, events in rows} == expected != {}
