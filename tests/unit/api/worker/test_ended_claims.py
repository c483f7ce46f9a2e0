"""What the worker app answers when a claim ends in the very moment in which its worker reports."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Never

import httpx
import pytest

from api.worker.decisions import Decisions
from events.envelope import Envelope, Event
from events.jobs import (
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFact,
    JobFailed,
    JobReleased,
    LeaseExpired,
    ResultRefused,
    ResultReported,
)
from events.kinds import AnalyseResult, ExtrasResult, ExtrasSpec, JobSpec
from events.media import Failure, ObjectRef
from infra.runtime.clock import system_context
from infra.runtime.objects import ObjectStat
from producers.keys import Key
from projections.folding.positions import Positions
from projections.jobs import Job
from tests.support.apps import client, make_worker
from tests.support.footage import probe
from tests.support.pools import SPEC
from workers.transport import LogTransport

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORKER = "019ceb74-9b15-7216-ba9e-d6fd5eb561a4"
JOB, VIDEO = "01926f9c-0000-7000-8000-000000000001", "01926f9c-0000-7000-8000-000000000002"
OF_CLAIM = {"job_id": JOB, "video_id": VIDEO, "pool": "default", "epoch": 1}
FAILURE = Failure(stage="analysis", category="timeout", code="X", message="It failed.")
RESULT = AnalyseResult(probe=probe())
REPORTS: dict[str, dict[str, Any]] = {
    "complete": {"epoch": 1, "result": RESULT.model_dump(mode="json")},
    "fail": {"epoch": 1, "error_message": "no memory"},
}


class Log:
    """The log and its dispatcher: as soon as somebody reports, `decided` is what the worker app reads."""

    def __init__(self) -> None:
        self.decisions = Decisions(self, self.stored)  # type: ignore[arg-type]
        self.decided: Sequence[JobFact] = ()

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> Sequence[Any]:
        if any(isinstance(envelope.data, ResultReported) for envelope in envelopes):
            self.show(*self.decided)
        return []

    def show(self, *facts: JobFact) -> None:
        for fact in facts:
            self.decisions._see(Envelope("f", "test", "default", NOON, fact, "c"))

    async def stored(self, job_id: str, read: Positions) -> Job | None:
        return None

    def position(self, partition: tuple[str, int]) -> int:
        return 0


class Known:
    """Lets everybody in, as the worker; hashing has tests of its own."""

    async def worker(self, text: str, address: str) -> Key:
        return Key(key_id="k", worker_id=WORKER, purpose="work", prefix="k", issued_at=NOON)


@asynccontextmanager
async def holder(spec: JobSpec = SPEC, log: Log | None = None, **parts: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Log]]:
    """Yield a worker that holds the job, and the log."""
    log = log or Log()
    claim = JobClaimed(**OF_CLAIM, worker_id=WORKER, claim_id="c", attempt=1, lease_expires_at=NOON, spec=spec)
    log.show(claim)
    app = make_worker(access=Known(), decisions=log.decisions, append=log.append, **parts)
    async with client(app, token="k") as http:
        yield http, log


GIVEN_UP: dict[str, tuple[list[JobFact], str, str]] = {
    "expired": ([LeaseExpired(**OF_CLAIM, worker_id=WORKER, attempt=1)], "fenced", "its lease expired"),
    "expired for the last time": (
        [LeaseExpired(**OF_CLAIM, worker_id=WORKER, attempt=1), JobFailed(**OF_CLAIM, attempt=1, failure=FAILURE)],
        "fenced",
        "its lease expired",
    ),
    "requeued": ([JobReleased(**OF_CLAIM, worker_id=WORKER, reason="too slow")], "fenced", "it was taken back"),
    "cancelled": ([JobCancelled(**OF_CLAIM, reason="wrong file")], "cancelled", "the job was cancelled"),
}
"""The facts, the state that is answered, and what is said of it."""


@pytest.mark.parametrize("moment", ["before", "while"])
@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("end", GIVEN_UP)
async def test_a_report_on_a_claim_that_is_given_up_is_answered_with_what_happened(end: str, report: str, moment: str) -> None:
    facts, state, what = GIVEN_UP[end]
    async with holder() as (http, log):
        if moment == "before":
            log.show(*facts)
        log.decided = facts
        first, again = [await http.post(f"/api/worker/{JOB}/{report}", json=REPORTS[report]) for _ in range(2)]
    for answer in (first, again):
        assert (answer.status_code, answer.json()["state"]) == (409, state), answer.text
        assert what in answer.json()["detail"]


class Slow:
    """A store that has the result; while it is looked at, the lease expires."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def under(self, prefix: str) -> list[ObjectStat]:
        self.log.show(*GIVEN_UP["expired"][0])
        return [ObjectStat(f"{prefix}result.json", 2, "", None, None)]


async def test_an_end_that_comes_while_the_objects_are_looked_at_is_not_waited_for() -> None:
    log = Log()
    ref = ObjectRef(key=f"videos/{VIDEO}/{JOB}/1/result.json", size_bytes=2, sha256="5a" * 32)
    said = {"epoch": 1, "result": ExtrasResult(result=ref).model_dump(mode="json")}
    async with holder(ExtrasSpec(source=SPEC.source), log, store=Slow(log)) as (http, _):
        answer = await asyncio.wait_for(http.post(f"/api/worker/{JOB}/complete", json=said), 60)
    assert (answer.status_code, answer.json()["detail"]) == (409, "the claim is over: its lease expired")


@pytest.mark.parametrize(
    ("report", "fact", "more"),
    [
        ("complete", JobCompleted(**OF_CLAIM, worker_id=WORKER, attempt=1, result=RESULT), {"message": "Job already completed"}),
        ("fail", JobFailed(**OF_CLAIM, attempt=1, failure=FAILURE), {"will_retry": False}),
        ("fail", JobAttemptFailed(**OF_CLAIM, worker_id=WORKER, attempt=1, failure=FAILURE, retry_at=NOON), {"will_retry": True}),
    ],
)
async def test_a_report_that_was_taken_may_be_said_again(report: str, fact: JobFact, more: dict[str, Any]) -> None:
    async with holder() as (http, log):
        log.decided = [fact]
        first, again = [await http.post(f"/api/worker/{JOB}/{report}", json=REPORTS[report]) for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200), first.text
    assert again.json().items() >= more.items()


async def test_what_another_worker_is_refused_is_no_answer_to_the_holder() -> None:
    async with holder() as (http, log):
        refused = ResultRefused(job_id=JOB, pool="default", worker_id="another", epoch=1, reason="not_holder")
        log.decided = [refused, JobCompleted(**OF_CLAIM, worker_id=WORKER, attempt=1, result=RESULT)]
        answer = await http.post(f"/api/worker/{JOB}/complete", json=REPORTS["complete"])
    assert answer.status_code == 200, answer.text


# --- inside the cluster ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", GIVEN_UP)
async def test_inside_the_cluster_such_a_report_is_refused_too(end: str) -> None:
    async def nowhere(envelopes: Sequence[Envelope[Event]]) -> None:
        for fact in GIVEN_UP[end][0][-1:]:  # the last one alone: who reads from the tail may not have seen the others
            await transport._see(Envelope("f", "test", "default", NOON, fact, "c"))

    async def no_consumer() -> Never:
        raise AssertionError("nobody reads the log here")

    transport = LogTransport(
        WORKER, "default", process_id="p", append=nowhere, open_consumer=no_consumer, context=lambda _: system_context("test")
    )
    claim = JobClaimed(**OF_CLAIM, worker_id=WORKER, claim_id="c", attempt=1, lease_expires_at=NOON, spec=SPEC)
    held = transport._hold(Envelope("f", "test", "default", NOON, claim, "c"))
    report = ResultReported(job_id=JOB, pool="default", worker_id=WORKER, epoch=1, result=RESULT)
    assert await transport.report(held, report) == "refused"
