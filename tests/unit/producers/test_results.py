"""A result of any length is reported in records of which each fits on the log, and read back whole."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st

from events.codec import encode
from events.envelope import Envelope
from events.jobs import JobCompleted, JobFailed, JobSubmitted, PartAccepted, PartReported, RequestRefused, ResultReported
from events.kinds import AudioSpec, EncodeSpec, MediaResult, Requirements
from events.media import Failure, Segment
from infra.runtime.clock import new_id
from producers.appender import EVENT_BYTES_MAX
from producers.results import SEGMENTS_MAX, in_parts
from tests.support.long_results import JOB, VIDEO, long_result, rendition
from tests.support.pools import SPEC, Pool, kinds

ROOT = Path(__file__).resolve().parents[3]
SOUND = AudioSpec(source=SPEC.source, format="cmaf", segment_ms=6000, duration_ms=1, renditions=())


def report(result: MediaResult) -> ResultReported:
    """Return the end of an attempt."""
    return ResultReported(job_id=JOB, pool="default", worker_id="w", epoch=123, result=result)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 3 * SEGMENTS_MAX), max_size=4))
def test_parts_are_the_whole_and_each_fits(segments: list[int]) -> None:
    whole = long_result(*segments)

    reports = in_parts(report(whole))

    found: dict[str, list[Segment]] = {item.name: [] for item in whole.renditions}
    frames: dict[str, int] = dict.fromkeys(found, 0)
    *parts, last = reports
    assert isinstance(last, ResultReported) and isinstance(last.result, MediaResult)
    for number, part in enumerate(parts):
        assert isinstance(part, PartReported) and part.part == number
    for renditions in [*(part.renditions for part in parts if isinstance(part, PartReported)), last.result.renditions]:
        for item in renditions:
            found[item.name] += item.segments
            frames[item.name] += item.frames or 0
            assert item.init == next(other.init for other in whole.renditions if other.name == item.name)
    assert found == {item.name: list(item.segments) for item in whole.renditions}
    assert frames == {item.name: item.frames for item in whole.renditions}
    earlier = last.result.earlier
    assert (earlier.parts if earlier else 0) == len(parts)
    assert parts or last.result == whole, "a short one is reported as ever"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for event in reports:
        assert len(encode(Envelope(new_id(), "kinolog/worker/a", "default", now, event, VIDEO))) < EVENT_BYTES_MAX * 0.7


def test_parts_are_taken_from_the_holder_alone_and_complete_nothing() -> None:
    pool = Pool()
    pool.submit("a", video_id=VIDEO, spec=SOUND)
    pool.claim("w")
    part = PartReported(job_id="a", pool="p", worker_id="w", epoch=1, part=0, renditions=(rendition("audio", 1, "a", 1),))
    (accepted,) = pool.ask(part)
    assert isinstance(accepted, PartAccepted)
    assert (accepted.job_id, accepted.epoch, accepted.part, accepted.renditions) == ("a", 1, 0, part.renditions)
    assert pool.state.jobs["a"].status == "claimed"
    assert kinds(pool.ask(part.model_copy(update={"epoch": 2}))) == ["ResultRefused"]
    assert kinds(pool.ask(part.model_copy(update={"worker_id": "thief"}))) == ["ResultRefused"]


def test_what_is_too_large_is_decided_and_not_dropped() -> None:
    """A job that cannot be queued is refused to its video, a result that cannot be accepted fails its attempt."""
    pool = Pool()
    pool.submit("a")
    pool.claim("w")
    asked = JobSubmitted(job_id="b", video_id="v", pool="p", spec=SPEC, requirements=Requirements(kind="analyse"))
    (refused,) = pool.ask(asked, too_large=True)
    assert isinstance(refused, RequestRefused) and refused.failure is not None
    assert (refused.reason, refused.video_id, refused.failure.code) == ("too_large", "v", "JOB_TOO_LARGE")
    assert pool.ask(asked.model_copy(update={"job_id": "a"}), too_large=True) == [], "it is known"

    reported = report(long_result(1)).model_copy(update={"job_id": "a", "worker_id": "w", "epoch": 1})
    assert kinds(pool.ask(reported.model_copy(update={"epoch": 7}), too_large=True)) == ["ResultRefused"]
    (failed,) = pool.ask(reported, too_large=True)
    assert isinstance(failed, JobFailed) and failed.failure.code == "RESULT_TOO_LARGE"
    assert failed.failure.message.endswith(".")


def test_a_failure_that_is_too_large_keeps_its_code() -> None:
    pool = Pool()
    pool.submit("a")
    pool.claim("w")
    failure = Failure(stage="encoding", category="unknown", code="X", message="It failed.", detail="x" * 8000, retryable=False)
    ended = ResultReported(job_id="a", pool="p", worker_id="w", epoch=1, failure=failure)
    (failed,) = pool.ask(ended, too_large=True)
    assert isinstance(failed, JobFailed) and (failed.failure.code, failed.failure.detail) == ("X", None)


def facts_about(hours: int) -> list[int]:
    """Return the bytes of all facts about the encoding of a video in six rungs, with its sound: from queue to completion."""
    segments, chunks = hours * 600, min(1000, hours * 60)
    jobs = {f"encode-{number}": [segments // chunks] * 6 for number in range(chunks)} | {"audio-1": [segments] * 2}
    pool = Pool()
    for name, made in jobs.items():
        job = str(uuid5(UUID(JOB), name))
        pool.submit(job, video_id=VIDEO, spec=SOUND)
        pool.claim("w")
        for event in in_parts(report(long_result(*made, job=job, epoch=1))):
            pool.ask(event.model_copy(update={"job_id": job, "epoch": 1}))
    assert sum(isinstance(fact.data, JobCompleted) for fact in pool.facts) == len(jobs)
    return [len(encode(fact)) for fact in pool.facts]


def test_facts_about_two_days_are_bounded_and_grow_with_the_length() -> None:
    quarter, whole = facts_about(12), facts_about(48)

    assert max(whole) < EVENT_BYTES_MAX * 0.7
    assert sum(whole) < 4.1 * sum(quarter)


def test_a_plan_and_a_job_from_before_the_rule_are_read_as_they_were() -> None:
    """Their chunks are listed; what is folded of them has the same bytes as ever."""
    data = json.loads((ROOT / "events/examples/kinolog.job.submitted.v1/encode-chunk.json").read_text())["data"]

    spec = JobSubmitted.model_validate(data).spec

    assert isinstance(spec, EncodeSpec) and spec.plan.cut is None
    assert spec.plan.chunks == (spec.chunk,)
    assert spec.plan.model_dump(mode="json", exclude_none=True) == data["spec"]["plan"]
