"""What failed is done once more by another worker: who gets it, what is kept of it, and what the log gets."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from events.envelope import Envelope, Event, Recorded
from events.failures import FailureRerun
from events.jobs import JobClaimed, JobCompleted, JobFailed, JobQueued
from events.kinds import AnalyseSpec, Capabilities, ExtrasResult, Requirements, RerunResult, RerunSpec, Source
from events.media import Failure, PlanSettings
from infra.runtime.clock import new_id
from processors.planning import process as planning
from tests.support.deciding import Live
from tests.support.pools import Pool
from tests.support.work import local_work
from workers import rerun
from workers.attempts.work import Done, Progress, Update, Work, WorkFailed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KILLED = Failure(stage="analysis", category="resource_exhaustion", code="EXIT_137", message="Killed.", exit_code=137)
OTHER = Failure(stage="analysis", category="validation", code="FILE_CORRUPT", message="Broken.")
LOST = Failure(stage="encoding", category="timeout", code="LEASE_EXPIRED", message="Not heard of.")
SPEC = RerunSpec(failure_id="j:1", failed=KILLED, spec=AnalyseSpec(source=Source(object_key="sources/v/original", size_bytes=1)))
WANTED = Requirements(kind="rerun", not_worker="w")
ABLE = Capabilities(kinds=("rerun",))


def verdicts(spec: RerunSpec, end: Event) -> list[tuple[str, str]]:
    """Return verdict and worker that follow from a rerun's end, which is reported twice."""
    queued = JobQueued(job_id="r", video_id="v", pool="p", spec=spec, requirements=WANTED, priority="high")
    envelopes = [Envelope[Event](new_id(), "test", "p", NOW, event, new_id()) for event in (queued, end)]
    log = [Recorded("jobs", 0, offset, envelope) for offset, envelope in enumerate((*envelopes, envelopes[1]))]
    live = Live(planning.process(planning.Policy(PlanSettings(), "p")))
    derived = [envelope for record in log for envelope in live.handle([record], NOW)]
    facts = {fact.id: fact.data for fact in derived}
    return [(fact.verdict, fact.worker) for fact in facts.values() if isinstance(fact, FailureRerun) and fact.failure_id == "j:1"]


@pytest.mark.parametrize(
    ("again", "verdict"),
    [(KILLED, "reproduced"), (OTHER, "not_reproduced"), (None, "not_reproduced")],
    ids=["same", "other", "well"],
)
def test_a_rerun_that_ends_gives_one_verdict(again: Failure | None, verdict: str) -> None:
    result = RerunResult(seconds=1.0, failure=again)
    end = JobCompleted(job_id="r", video_id="v", pool="p", worker_id="x", epoch=1, attempt=1, result=result)
    assert verdicts(SPEC, end) == [(verdict, "x")]


@pytest.mark.parametrize(("failed", "verdict"), [(KILLED, "not_reproduced"), (LOST, "reproduced")])
def test_a_rerun_that_ends_its_workers_says_so(failed: Failure, verdict: str) -> None:
    end = JobFailed(job_id="r", video_id="v", pool="p", epoch=3, attempt=3, failure=LOST, worker_id="x", kind="rerun")
    assert verdicts(SPEC.model_copy(update={"failed": failed}), end) == [(verdict, "x")]


def test_the_worker_that_failed_does_not_get_it() -> None:
    pool = Pool()
    pool.submit("r", requirements=WANTED)
    assert pool.claim("w", capabilities=ABLE) == []
    (claimed,) = pool.claim("x", capabilities=ABLE)
    assert isinstance(claimed, JobClaimed) and claimed.worker_id == "x"
    waiting = Pool()
    waiting.claim("w", capabilities=ABLE)
    assert [type(fact) for fact in waiting.submit("r", requirements=WANTED)] == [JobQueued]


def test_no_other_job_waits_for_a_worker_that_must_not_have_it() -> None:
    pool = Pool()
    gpu = ABLE.model_copy(update={"gpu": True})
    pool.claim("w", capabilities=gpu, wait=1)
    pool.tick(1)
    pool.submit("r", seconds=2, requirements=WANTED)
    assert [type(fact) for fact in pool.claim("x", seconds=3, capabilities=ABLE)] == [JobClaimed]


async def test_nothing_of_a_rerun_is_kept_and_its_failure_is_its_result(tmp_path: Path) -> None:
    async def fails(spec: object, work: Work) -> AsyncGenerator[Update, None]:
        yield Progress("probe", 50.0)
        await work.store.put_bytes("videos/v/r/1/x.json", b"{}", "application/json")
        raise WorkFailed(KILLED)

    async def works(spec: object, work: Work) -> AsyncGenerator[Update, None]:
        path = work.directory / "y"
        path.write_bytes(b"y")
        yield Done(ExtrasResult(result=await work.store.put_file("videos/v/r/1/y", path, "video/mp4")))

    work = replace(local_work(tmp_path, tmp_path), directory=tmp_path)
    for runner, failure in ((fails, KILLED), (works, None)):
        updates = [update async for update in rerun.run({"analyse": runner}, SPEC, work)]
        assert isinstance(updates[-1], Done) and isinstance(updates[-1].result, RerunResult)
        assert updates[-1].result.failure == failure
    assert work.store.keys() == []  # type: ignore[attr-defined]
