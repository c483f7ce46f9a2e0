"""The pure parts of the worker app: names, first bytes, versions, keys, and who may speak for a job."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import Fenced
from api.worker import guards
from api.worker.app import options_of
from api.worker.decisions import Decisions, Holding, fence
from api.worker.services import Options, required_version, version_ok
from events.clock import Context
from events.codec import encode
from events.envelope import Envelope
from events.errors import InvalidRequest, NotFound
from events.jobs import ClaimRefused, JobCancelled, JobFact
from events.pulse import Pulse
from infra.runtime.clock import system_context
from infra.runtime.settings import Settings
from infra.runtime.tokens import ensure_admin_token
from producers import keys
from producers.workers import claim_id_of
from projections.folding.positions import Positions
from projections.jobs import Job
from tests.support.memory_log import MemoryLog
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WORKER = "019ceb74-9b15-7216-ba9e-d6fd5eb561a4"
HELD = Holding("j", "v", "default", "encode", "claimed", WORKER, 2, 1)


# --- names and bytes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["720p/00000.m4s", "audio-1-128k/init.mp4", "360p/00001.ts", "thumbnail.jpg", "subtitles-2.vtt", "result.json"]
)
def test_what_jobs_make_may_be_sent(path: str) -> None:
    assert guards.checked_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *[
            "",
            ".",
            "..",
            "/x.m4s",
            "a/b/c.m4s",
            "../x.m4s",
            "720p/..",
            "720p/.m4s",
            "720p/x.exe",
            "x.m4s",
            "720p/x.jpg",
            "720P/x.m4s",
        ],
        *[
            "720p/a b.m4s",
            "720p/ä.m4s",
            "720p/a\x00.m4s",
            "720p/a%2e.m4s",
            "720p\\x.m4s",
            "720p/x.m4s ",
            "720p/x.m4s\n",
            "result.JSON",
        ],
    ],
)
def test_nothing_else_may(path: str) -> None:
    with pytest.raises(InvalidRequest):
        guards.checked_path(path)


@given(st.text(max_size=300))
def test_no_name_leaves_its_folder(path: str) -> None:
    try:
        checked = guards.checked_path(path)
    except InvalidRequest:
        return
    assert checked.isascii() and checked.count("/") <= 1
    assert Path("/a", checked).resolve().is_relative_to("/a") and not {"..", "\x00", "%", "\\"} & {*checked, checked}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.ts", b"\x47\x40\x00"),
        ("a.m4s", b"\0\0\0\x18moof"),
        ("a.m4s", b"\0\0\0\x18styp"),
        ("a.mp4", b"\0\0\0\x18ftypiso5"),
        ("a.jpg", b"\xff\xd8\xff\xe0"),
        ("a.vtt", b"\xef\xbb\xbfWEBVTT"),
        ("a.json", b'{"a":1}'),
        ("a.m3u8", b"#EXTM3U\n"),
        ("a.mpd", b"<?xml version"),
    ],
)
def test_the_first_bytes_go_with_the_name(name: str, head: bytes) -> None:
    guards.check_magic(name, head)
    for wrong in (b"", b"MZ\x90\0\0\0\0\0", b"#!/bin/sh\n"):
        with pytest.raises(InvalidRequest):
            guards.check_magic(name, wrong)


def test_a_content_type_is_one_that_the_file_can_have() -> None:
    assert guards.content_type("a.mp4", "audio/mp4") == "audio/mp4"
    assert guards.content_type("a.mp4", "text/html") == "video/mp4"
    assert guards.content_type("a.vtt", None) == "text/vtt"


# --- versions and keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "lowest", "highest", "fits"),
    [
        ("0.1.0", "", "", True),
        ("0.9.0", "0.10.0", "", False),
        ("0.10.0", "0.10.0", "", True),
        ("0.10.0rc1", "0.10.0", "", False),
        ("2.0", "", "1.9", False),
        ("1.9.0", "1.0", "1.9", True),
        ("nonsense", "", "", False),
    ],
)
def test_a_version_outside_of_what_is_allowed_gets_no_jobs(version: str, lowest: str, highest: str, fits: bool) -> None:
    options = Options(
        requests_per_minute=1,
        admin_secret=str,
        key_life=None,
        version_min=lowest,
        version_max=highest,
        lease=timedelta(),
        renew_every=timedelta(),
        directory=Path("/nowhere"),
    )
    assert version_ok(version, options) is fits
    assert required_version(options) == f"{lowest or 'any'} to {highest or 'any'}"


def test_a_file_token_that_is_switched_off_lets_no_worker_in(tmp_path: Path) -> None:
    on = Settings(var_dir=tmp_path)
    token = ensure_admin_token(on)
    assert options_of(on).admin_secret() == token
    assert options_of(on.model_copy(update={"file_token": False})).admin_secret() == ""


def test_a_key_ends_when_it_is_revoked_or_its_time_is_over() -> None:
    key, text = keys.make(Context(NOW, system_context("x").new_id, "test"), "work", life=timedelta(hours=1))
    assert (len(text), key.prefix) == (keys.KEY_CHARS, text[: keys.PREFIX_CHARS])
    assert [key.ended(NOW), key.ended(NOW + timedelta(hours=1))] == [None, "expired"]
    assert key.model_copy(update={"revoked_at": NOW}).ended(NOW) == "revoked"
    assert text not in repr(key) and text not in repr(keys.issued(key))


def test_a_hash_proves_its_key_and_no_other() -> None:
    hash_ = keys.hashed("a" * 43)
    assert hash_.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert keys.proves("a" * 43, hash_)
    assert not keys.proves("b" * 43, hash_)
    assert not keys.proves("a" * 43, "no hash")


def test_no_worker_can_say_the_claim_of_another_one() -> None:
    other = "019ceb74-9b15-7216-ba9e-d6fd5eb561a5"
    assert claim_id_of(WORKER, "x") == claim_id_of(WORKER, "x") != claim_id_of(other, "x")


# --- who may speak --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "worker_id", "epoch", "state", "status"),
    [
        ({}, WORKER, 1, "fenced", 409),
        ({}, WORKER, 3, "fenced", 409),
        ({}, "other", 2, "not_yours", 403),
        ({"status": "cancelled"}, WORKER, 2, "cancelled", 409),
        ({"status": "completed"}, WORKER, 2, "fenced", 409),
        ({"status": "retrying"}, WORKER, 2, "fenced", 409),
        ({"status": "queued"}, WORKER, 2, "fenced", 409),
    ],
)
def test_only_the_holder_speaks_for_a_job(change: dict[str, Any], worker_id: str, epoch: int, state: str, status: int) -> None:
    fence(HELD, WORKER, 2)
    with pytest.raises(Fenced) as refused:
        fence(replace(HELD, **change), worker_id, epoch)
    assert (refused.value.members["state"], refused.value.status) == (state, status)


def wrapped(event: JobFact) -> Envelope[JobFact]:
    id_ = system_context("test").new_id()
    return Envelope(id_, "test", "default", NOW, event, id_)


def row(job_id: str, **change: Any) -> Job:
    given_: dict[str, Any] = {"status": "claimed", "worker_id": WORKER, "epoch": 2, "attempt": 1} | change
    return Job(job_id, "v", "default", "encode", "chunk 1", "normal", **given_)


async def test_an_older_claim_is_known_from_the_projection_and_ended_by_the_log() -> None:
    asked: list[Positions] = []

    async def stored(job_id: str, read: Positions) -> Job | None:
        asked.append(read)
        return row(job_id) if job_id == "j" else None

    decisions = Decisions(MemoryLog().reader(), stored)
    assert (await decisions.held("j", WORKER, 2)).status == "claimed"
    decisions._see(wrapped(JobCancelled(job_id="j", video_id="v", pool="default", epoch=2, reason="x")))
    with pytest.raises(Fenced, match="cancelled"):
        await decisions.held("j", WORKER, 2)
    with pytest.raises(NotFound):
        await decisions.held("k", WORKER, 1)
    assert len(asked) == 2


async def test_the_projection_is_asked_when_it_has_the_last_record_and_need_not_be_behind_its_marker() -> None:
    asked: list[Positions] = []

    async def stored(job_id: str, read: Positions) -> Job | None:
        asked.append(read)
        return None

    log, partition = MemoryLog(), ("jobs", 3)
    log.put(partition, encode(wrapped(JobCancelled(job_id="j", video_id="v", pool="default", epoch=2, reason="x"))), offset=41)
    log.mark(partition)
    source = log.reader()
    await source.assign({partition: 41})
    decisions = Decisions(source, stored)
    following = asyncio.create_task(decisions.follow(Pulse("decisions")))
    await eventually(lambda: source.position(partition) == log.end(partition))
    with pytest.raises(NotFound):
        await decisions.held("k", WORKER, 1)
    following.cancel()
    assert asked == [Positions({("jobs", 3): 42})]


async def test_a_fact_that_comes_while_the_projection_is_asked_is_not_overlooked() -> None:
    decisions: Decisions
    answers = iter([row("j"), row("j", status="cancelled")])

    async def stored(job_id: str, read: Positions) -> Job | None:
        found = next(answers)
        if found.status == "claimed":
            decisions._see(wrapped(JobCancelled(job_id="j", video_id="v", pool="default", epoch=2, reason="x")))
        return found

    decisions = Decisions(MemoryLog().reader(), stored)
    with pytest.raises(Fenced, match="cancelled"):
        await decisions.held("j", WORKER, 2)


async def test_who_waits_is_woken_and_who_gave_up_is_forgotten() -> None:
    async def stored(job_id: str, read: Positions) -> Job | None:
        return None

    decisions = Decisions(MemoryLog().reader(), stored)
    waiting, gone = decisions.answer("c"), decisions.answer("c")
    gone.cancel()
    refused = ClaimRefused(worker_id=WORKER, pool="default", claim_id="c", reason="no_job")
    decisions._see(wrapped(refused))
    assert (await waiting).data == refused
    assert decisions.answered("c") is not None
    await asyncio.sleep(0)  # what was waited for is forgotten in the loop's next turn
    assert not decisions._waiting
