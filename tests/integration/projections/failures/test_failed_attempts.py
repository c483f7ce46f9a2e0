"""Failures on a real PostgreSQL and on the real platform: what is open, what resolved it, the report, what people do."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from events.envelope import Event, Recorded
from events.failures import FailureResolved, failure_id
from events.jobs import JobAttemptFailed, JobCompleted, JobFailed
from events.kinds import AnalyseResult, VerifyResult
from events.media import Failure
from events.topics import TOPIC_OF
from infra.commands.support.exits import ExitCode
from infra.commands.support.output import short
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.failures import projection as failures
from projections.failures.capsule import opened
from projections.failures.report import report
from tests.support.feeding import write
from tests.support.footage import START, VIDEO_ID, chunk_result, id_of, plan, probe, recorded
from tests.support.platform import Platform, kinolog
from tests.support.waiting import eventually

KILLED = Failure(stage="encoding", category="resource_exhaustion", code="EXIT_137", message="Killed.", exit_code=137)
BROKEN = Failure(stage="analysis", category="validation", code="FILE_CORRUPT", message="Broken.", retryable=False)
SOON = START + timedelta(hours=1)


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection as the apps have it."""
    url = settings.postgres_url.get_secret_value()
    async with await AsyncConnection.connect(url, autocommit=True, options="-c timezone=UTC") as opened:
        yield opened


def known(job: str, epoch: int = 1, video_id: str = VIDEO_ID) -> dict[str, Any]:
    return {"job_id": id_of(job), "video_id": video_id, "pool": "main", "worker_id": "w", "epoch": epoch, "attempt": epoch}


def failed(job: str, epoch: int = 1, failure: Failure = KILLED) -> JobAttemptFailed:
    return JobAttemptFailed(**known(job, epoch), failure=failure, retry_at=SOON, kind="encode")


def log(*events: Event) -> Sequence[Recorded[Event]]:
    return [recorded(event, n, topic=TOPIC_OF[event.TYPE].name, at_s=n, name=f"{n}") for n, event in enumerate(events)]


async def resolutions(connection: AsyncConnection[Any], *events: Event) -> dict[str, str | None]:
    """Return {job's name:epoch -> what resolved it} after these events."""
    await write(connection, failures.PROJECTION, log(*events))
    names = {id_of(name): name for name in ("a", "b", "analysis", "verify")}
    found = await failures.listing(connection, limit=100)
    return {f"{names[row.job_id]}:{row.epoch}": row.resolved_by for row in found}


async def test_a_later_success_of_the_job_resolves_its_own_attempts_only(connection: AsyncConnection[Any]) -> None:
    done = JobCompleted(**known("a", 3), result=chunk_result(plan(), 0))
    found = await resolutions(connection, failed("a"), failed("b"), failed("a", 2), done)

    assert found == {"a:1": "success", "a:2": "success", "b:1": None}


async def test_an_analysis_resolves_analyses_and_a_verification_everything_before_it(connection: AsyncConnection[Any]) -> None:
    analysed = JobCompleted(**known("again"), result=AnalyseResult(probe=probe()))
    broken = JobFailed(**known("analysis"), failure=BROKEN)

    assert await resolutions(connection, broken, failed("a"), analysed) == {"analysis:1": "success", "a:1": None}


async def test_what_fails_after_a_verification_is_open(connection: AsyncConnection[Any]) -> None:
    verified = JobCompleted(**known("verify"), result=VerifyResult(duration_ms=1, rungs=()))

    assert await resolutions(connection, failed("a"), verified, failed("b")) == {"a:1": "success", "b:1": None}


async def test_a_person_resolves_what_nothing_else_did(connection: AsyncConnection[Any]) -> None:
    said = FailureResolved(failure_id=failure_id(id_of("a"), 1), reason="bad disk, replaced")

    assert await resolutions(connection, failed("a"), failed("b"), said) == {"a:1": "person", "b:1": None}
    found = await failures.by_id(connection, said.failure_id)
    assert found is not None and (found.reason, found.retry_count) == ("bad disk, replaced", 0)
    assert await failures.by_id(connection, "nothing:1") is None


async def test_the_report_counts_its_days_and_names_patterns_of_all_time(connection: AsyncConnection[Any]) -> None:
    events: list[Event] = [failed(f"job {n}") for n in range(8)]
    events += [failed("x", failure=BROKEN), failed("y", failure=KILLED)]
    events += [FailureResolved(failure_id=failure_id(id_of(f"job {n}"), 1), reason="gone") for n in range(3)]
    await write(connection, failures.PROJECTION, log(*events))

    made = await report(connection, START + timedelta(minutes=1), days=7, limit=1)
    later = await report(connection, START + timedelta(days=30), days=7, limit=10)

    assert made.summary.model_dump() == {
        "total_failures": 10,
        "resolved_failures": 3,
        "unresolved_failures": 7,
        "resolution_rate_percent": 30.0,
        "period_days": 7,
    }
    assert [(stage.stage, stage.total, stage.unresolved) for stage in made.by_stage] == [("encoding", 9, 6), ("analysis", 1, 1)]
    assert [(p.stage, p.category, p.code, p.occurrences, p.sample_message) for p in made.common_patterns] == [
        ("encoding", "resource_exhaustion", "EXIT_137", 6, "Killed.")
    ]
    assert [(item.priority, item.title) for item in made.recommendations] == [("high", "Resource exhaustion")]
    assert len(made.critical_failures) == 6 and len(made.recent_failures) == 7
    assert (later.summary.total_failures, later.resolution_rate, len(later.common_patterns)) == (0, None, 2)


async def test_pages_meet_without_gap_or_overlap(connection: AsyncConnection[Any]) -> None:
    await write(connection, failures.PROJECTION, log(*(failed(f"job {n}") for n in range(25))))
    found: list[str] = []
    after = None
    while page := await failures.listing(connection, limit=10, after=after, only={"code": "EXIT_137"}):
        found += [row.failure_id for row in page]
        after = (page[-1].failed_at, page[-1].failure_id)

    assert len(found) == len(set(found)) == 25


# --- on the platform ------------------------------------------------------------------------------------------------


async def broken_video(platform: Platform) -> dict[str, Any]:
    """Upload what is no video; return its failure."""
    answer = await platform.admin.post("/api/videos", files={"file": ("broken.mp4", b"no video" + os.urandom(20))})
    video_id = answer.json()["video_id"]
    assert (await platform.ended(video_id))["status"] == "failed"
    position = (await platform.admin.get("/api/jobs", params={"video_id": video_id})).headers["X-Log-Position"]
    found = await platform.read(f"/api/failures?video_id={video_id}", position)
    failure: dict[str, Any]
    (failure,) = found.json()["items"]
    return failure


async def test_a_failed_attempt_is_listed_reported_resolved_and_was_open_before(platform: Platform) -> None:
    failure = await broken_video(platform)
    which = f"/api/failures/{failure['failure_id']}"
    assert (failure["stage"], failure["category"], failure["final"]) == ("analysis", "validation", True)
    around = failure["failure"]["context"]
    assert around["memory_available_bytes"] > 0 and around["disk_free_bytes"] > 0 and around["load_1m"] is not None
    assert {"ffmpeg", "libx264"} <= {tool["name"] for tool in around["tools"]}

    open_at = (await platform.admin.get(which)).headers["X-Log-Position"]
    written = await platform.admin.post(f"{which}/resolve", json={"reason": "it was no video"})
    assert written.status_code == 202
    resolved = (await platform.read(which, written.headers["X-Log-Position"])).json()["failure"]
    assert (resolved["resolved_by"], resolved["reason"]) == ("person", "it was no video")
    before = await platform.admin.get(which, params={"as_of": open_at})
    assert before.json()["failure"]["resolved_by"] is None
    assert (await platform.admin.post(f"{which}/resolve", json={"reason": "again"})).status_code == 409
    assert (await platform.admin.post(f"{which}/resolve", json={})).status_code == 422
    assert (await platform.admin.get("/api/failures/nothing:1")).status_code == 404

    reported = (await platform.admin.get("/api/failures/report", params={"days": 14, "limit": 20})).json()
    assert reported["summary"]["period_days"] == 14 and reported["summary"]["resolved_failures"] >= 1
    past = (await platform.admin.get("/api/failures/report", params={"as_of": open_at})).json()
    assert past["summary"]["resolved_failures"] < reported["summary"]["resolved_failures"]


async def test_the_command_line_prints_the_report_and_lists_shows_and_resolves(platform: Platform) -> None:
    failure = await broken_video(platform)
    which = failure["failure_id"]
    printed = kinolog(platform, "failures", "report", "--days", "14", "--limit", "20")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith(
        "=== Video Processing Failure Report ===\nPeriod: Last 14 days\n\nSummary:\n  Total Failures: "
    )
    assert "analysis/validation (FILE_NOT_MEDIA): " in printed.stdout and "    Sample: The file is not a video" in printed.stdout
    assert json.loads(kinolog(platform, "failures", "report", "--format", "json").stdout)["summary"]["period_days"] == 7
    assert short(which) in kinolog(platform, "failures", "list", "--open").stdout
    assert "FILE_NOT_MEDIA" in kinolog(platform, "failures", "show", which).stdout
    assert kinolog(platform, "failures", "resolve", which, "--reason", "no video").returncode == 0


async def test_a_capsule_is_run_again_and_the_verdict_is_noted(platform: Platform, tmp_path: Path) -> None:
    failure = await broken_video(platform)
    which, file = failure["failure_id"], tmp_path / "capsule.json"
    assert kinolog(platform, "failures", "capsule", which, "--out", str(file)).returncode == 0
    capsule = opened(file.read_bytes())
    assert (capsule.failure.code, capsule.spec.kind) == (failure["code"], "analyse")
    assert [one.event["type"].split(".")[2] for one in capsule.events][:2] == ["claimed", "result-reported"]

    again = kinolog(platform, "failures", "rerun", str(file), "--here", "--json")
    assert again.returncode == 0, again.stderr
    ended = json.loads(again.stdout)
    assert (ended["verdict"], ended["failure"]["code"]) == ("reproduced", failure["code"])
    noted = await platform.admin.post(f"/api/failures/{which}/reruns", json={"worker": "gpu-2", "seconds": 1.5})
    assert (noted.status_code, noted.json()["verdict"]) == (202, "not_reproduced")
    reruns = (await platform.read(f"/api/failures/{which}", noted.headers["X-Log-Position"])).json()["reruns"]
    assert [rerun["verdict"] for rerun in reruns] == ["reproduced", "not_reproduced"]
    assert await ObjectStore(platform.settings).under("reruns/") == []


async def test_another_worker_runs_it_again_and_its_verdict_is_noted(platform: Platform) -> None:
    failure = await broken_video(platform)
    nobody = kinolog(platform, "failures", "rerun", failure["failure_id"], "--wait-s", "0")
    assert nobody.returncode == ExitCode.AWAY and "waits for another worker" in nobody.stderr
    await platform.start("worker-2")
    try:
        await platform.ready("worker-2")
        again = kinolog(platform, "failures", "rerun", failure["failure_id"], "--json")
    finally:
        await platform.retire("worker-2")
    assert again.returncode == 0, again.stderr
    ended = json.loads(again.stdout)
    assert (ended["verdict"], ended["failure"]["code"]) == ("reproduced", failure["code"])
    assert ended["worker"] != failure["worker_id"]
    await eventually(
        lambda: statuses(platform, kind="rerun", video_id=failure["video_id"]), lambda found: found == ["completed", "completed"]
    )
    assert await ObjectStore(platform.settings).under(f"videos/{failure['video_id']}/") == []
    shown = (await platform.admin.get("/api/failures", params={"video_id": failure["video_id"]})).json()["items"]
    assert [one["failure_id"] for one in shown] == [failure["failure_id"]]  # a rerun is no attempt at making a video


async def statuses(platform: Platform, **of: str) -> list[str]:
    """Return the states of some jobs."""
    return [job["status"] for job in (await platform.admin.get("/api/jobs", params=of)).json()["items"]]


async def test_a_job_is_explained_from_the_log(platform: Platform) -> None:
    failure = await broken_video(platform)
    explained = kinolog(platform, "explain", "job", failure["job_id"])
    assert explained.returncode == 0, explained.stderr
    sentences = [text[50:] for text in explained.stdout.splitlines()]
    assert [sentence.split(":")[0].split(" worker ")[0] for sentence in sentences if "asked for work" not in sentence] == [
        f"Planning asked for analysis of video {failure['video_id']} (priority normal).",
        "The dispatcher queued it",
        "The dispatcher gave it to",
        sentences[-2].split(":")[0],
        "The job has failed for good at attempt 1",
    ]
    assert sentences[-2].startswith("Worker ") and "reported that epoch 1 failed: analysis/validation" in sentences[-2]
    steps = json.loads(kinolog(platform, "explain", "job", failure["job_id"], "--json").stdout)
    assert [step["at"].split("/")[0] for step in steps if "claim-requested" not in step["type"]] == [
        *("job-requests", "jobs", "jobs", "job-requests", "jobs")
    ]
    assert kinolog(platform, "explain", "job", id_of("nobody")).returncode == 4
