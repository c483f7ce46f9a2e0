"""Signed reports on the real engine: made, checked, and each kind of tampering named."""

import copy
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from events.codec import decode
from events.topics import JOBS, VIDEOS
from infra.history.past import past_of
from infra.reference.schemas import ROOT, examples_of
from infra.runtime.history import open_history
from infra.runtime.keys import ensure_report_key
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.history.report import ProjectionReport, check
from projections.registry import PROJECTIONS
from tests.conftest import new_world
from tests.support.archiving import append, archive, rewrite
from tests.support.commands import kinolog

Document = dict[str, Any]


@pytest.fixture(scope="module")
async def world(engine: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Videos and jobs, half of them in the archive."""
    settings = new_world(engine, tmp_path_factory.mktemp("report"))
    paths = [path for topic in (VIDEOS, JOBS) for event in topic.events for path in examples_of(event)]
    events = sorted((decode((ROOT / path).read_bytes()) for path in paths), key=lambda envelope: envelope.time)
    half = len(events) // 2
    await append(settings, events[:half])
    await archive(settings, half)
    await append(settings, events[half:])
    return settings


@pytest.fixture(scope="module")
async def signed(world: Settings, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A signed report of the catalog, with rows."""
    directory = tmp_path_factory.mktemp("signed")
    made = await kinolog(world, "report", "catalog", "--signed", "--rows", "-o", "report.json", cwd=directory)
    assert made.returncode == 0, made.stderr
    said: Document = json.loads((directory / "report.json").read_bytes())
    return said


async def findings(world: Settings, said: Document) -> list[str]:
    """Return what does not fit."""
    report, store = ProjectionReport.model_validate_json(json.dumps(said)), ObjectStore(world)
    key = ensure_report_key(world).public_key()
    async with open_history(world) as history:
        return await check(
            report,
            PROJECTIONS[report.projection],
            past_of(world),
            history,
            lambda segment: store.get_bytes(segment.key, 1 << 24),
            key,
        )


async def test_a_report_is_what_the_events_fold_into(world: Settings, signed: Document, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(signed))
    checked = await kinolog(world, "verify", "report.json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "everything is as the report says" in checked.stderr
    assert signed["tables"]["videos"]["count"] == len(signed["tables"]["videos"]["rows"]) > 0
    key = world.var_dir / "keys" / "report"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


async def test_a_report_of_the_past_stays_right(world: Settings, tmp_path: Path) -> None:
    made = await kinolog(world, "report", "jobs", "--signed", "--at", "jobs:0=1,1=1,2=1,3=1", "-o", "then.json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    said = json.loads((tmp_path / "then.json").read_bytes())
    assert max(said["positions"].values()) <= 1
    assert await findings(world, said) == []


def a_row(said: Document) -> None:
    said["tables"]["videos"]["rows"][0]["title"] = "Another"


def a_missing_row(said: Document) -> None:
    said["tables"]["videos"]["rows"].pop()


def a_digest(said: Document) -> None:
    said["tables"]["media"]["sha256"] = "0" * 64


def a_position(said: Document) -> None:
    partition = max(said["positions"], key=lambda name: said["positions"][name])
    said["positions"][partition] -= 1


def a_later_position(said: Document) -> None:
    said["positions"]["videos/0"] += 1000


def a_signature(said: Document) -> None:
    said["signature"] = "00" * 64


def a_parameter(said: Document) -> None:
    said["parameters"]["at"] = "2020-01-01"


def no_signature(said: Document) -> None:
    said["signature"] = ""


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (a_row, r"^videos \S+: the row is not what the events fold into"),
        (a_missing_row, r"^videos \S+: the row is not what the events fold into"),
        (a_digest, r"^media: \d+ rows with digest .*, the report says"),
        (a_position, r"^(videos|jobs)/\d: the events before \d+ are not those of the report"),
        (a_later_position, r"^videos/0: the report stands at \d+, the log ends at \d+"),
        (a_signature, r"^signature: it does not fit"),
        (a_parameter, r"^signature: it does not fit"),
        (no_signature, r"^signature: the report is not signed"),
    ],
)
async def test_what_was_tampered_with_is_named(
    world: Settings, signed: Document, tamper: Callable[[Document], None], expected: str
) -> None:
    said = copy.deepcopy(signed)
    tamper(said)
    found = await findings(world, said)
    assert any(re.search(expected, finding) for finding in found), found
    assert found[0].startswith("signature:")


async def test_a_report_that_somebody_else_signed_is_named(world: Settings, signed: Document, tmp_path: Path) -> None:
    stranger = world.model_copy(update={"var_dir": tmp_path / "elsewhere"})
    assert await findings(stranger, signed) == ["signature: it is made with another key than the expected one"]
    (tmp_path / "report.json").write_text(json.dumps(signed))
    vouched = await kinolog(stranger, "verify", "report.json", "--key", signed["public_key"], cwd=tmp_path)
    assert vouched.returncode == 0, vouched.stdout + vouched.stderr
    doubted = await kinolog(stranger, "verify", "report.json", cwd=tmp_path)
    assert doubted.returncode == 1 and "another key" in doubted.stdout


async def test_an_event_that_was_altered_in_the_archive_is_named(world: Settings, signed: Document) -> None:
    store = ObjectStore(world)
    async with open_history(world) as history:
        files = [file for files in history.segments.values() for file in files if file.topic == "videos"]
    segment = max(files, key=lambda file: file.records)
    before = await store.get_bytes(segment.key, 1 << 24)

    def altered(table: pa.Table) -> pa.Table:
        records = table["record"].to_pylist()
        records[0] = records[0].replace(b'"time":"2', b'"time":"3', 1)
        return table.set_column(table.column_names.index("record"), "record", pa.array(records))

    try:
        await rewrite(store, segment, altered)
        (finding,) = await findings(world, signed)
    finally:
        await store.put_bytes(segment.key, before, "application/octet-stream")
    assert f"videos/{segment.partition}/{segment.first}" in finding


async def test_nonsense_is_explained(world: Settings, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    done = await kinolog(world, "verify", "x.json", cwd=tmp_path)
    assert done.returncode == 2 and "is no report" in done.stderr
