"""The story of a job, and the capsule of an attempt: given these events, then these sentences and this content."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast, get_args

import pytest

from events.clock import Context
from events.envelope import E, Envelope, Event, Recorded
from events.errors import InvalidRequest, NotFound
from events.failures import FailureEvent, FailureRerun, failure_id
from events.jobs import (
    ClaimRequested,
    JobAttemptFailed,
    JobClaimed,
    JobFact,
    JobFailed,
    JobQueued,
    JobRequest,
    JobSubmitted,
    LeaseExpired,
    LeaseRenewed,
    ResultRefused,
)
from events.kinds import AnalyseSpec, Requirements, Source
from events.media import Failure
from events.topics import FAILURES, JOB_REQUESTS, JOBS, TOPIC_OF, partition_for
from producers import failures as producer
from projections.failures.capsule import capsule_of, opened, sealed
from projections.history.story import StoryEvent, events_of_job, in_causal_order, say, steps_of
from tests.support.footage import START, id_of
from tests.support.histories import examples
from tests.support.memory_log import MemoryLog

JOB, OTHER, VIDEO = id_of("job"), id_of("other"), id_of("video")
SPEC = AnalyseSpec(source=Source(object_key="sources/v/original", size_bytes=7, sha256="5a" * 32))
NEEDS = Requirements(kind="analyse")
KILLED = Failure(stage="analysis", category="resource_exhaustion", code="EXIT_137", message="Killed", exit_code=137)
SOON = START + timedelta(minutes=1)
NUMBER = partition_for("main", JOBS.partitions)


def known(epoch: int, job_id: str = JOB) -> dict[str, Any]:
    return {"job_id": job_id, "video_id": VIDEO, "pool": "main", "worker_id": "worker-1", "epoch": epoch}


def lives() -> list[StoryEvent]:
    """What happened to a job: killed once, lost once, failed at last; and to another, which nobody asked about."""
    wish: dict[str, Any] = {"video_id": VIDEO, "pool": "main", "spec": SPEC, "requirements": NEEDS, "priority": "normal"}
    held = {"spec": SPEC, "lease_expires_at": SOON}
    renewal = LeaseRenewed(job_id=JOB, pool="main", worker_id="worker-1", epoch=1)
    return [
        JobSubmitted(job_id=JOB, **wish),
        JobQueued(job_id=JOB, **wish),
        ClaimRequested(worker_id="worker-1", pool="main", capabilities={"kinds": ("analyse",)}, deadline=SOON),
        JobClaimed(**known(1), claim_id=id_of("2"), attempt=1, **held),
        renewal,
        renewal,
        renewal,
        JobAttemptFailed(**known(1), attempt=1, failure=KILLED, retry_at=SOON, kind="analyse"),
        JobClaimed(**known(2), claim_id=id_of("nobody"), attempt=2, **held),
        LeaseExpired(**known(2), attempt=2, retry_at=SOON, kind="analyse"),
        ResultRefused(job_id=JOB, pool="main", worker_id="worker-1", epoch=1, reason="stale_epoch"),
        JobFailed(**known(3), attempt=3, failure=KILLED),
        JobQueued(job_id=OTHER, **wish),
        FailureRerun(failure_id=failure_id(JOB, 1), verdict="reproduced", worker="gpu-2", seconds=1.0, failure=KILLED),
    ]


def recorded(events: Sequence[E]) -> list[Recorded[E]]:
    """Return the events, a second apart, as they lie on the log."""
    ends: dict[str, int] = {}
    found = []
    for n, event in enumerate(events):
        topic = TOPIC_OF[event.TYPE].name
        key = str(getattr(event, TOPIC_OF[event.TYPE].key))
        envelope = Envelope(id_of(str(n)), "kinolog/test", key, START + timedelta(seconds=n), event, VIDEO)
        found.append(Recorded(topic, 0 if topic == FAILURES.name else NUMBER, ends.get(topic, 0), envelope))
        ends[topic] = ends.get(topic, 0) + 1
    return found


async def test_the_story_has_all_of_the_job_and_the_request_behind_its_claim_and_nothing_else() -> None:
    log = recorded(lives())
    found = await events_of_job(MemoryLog.of(log).reader(), JOB, "main", START)

    assert [event.envelope.id for event in found] == [id_of(str(n)) for n in range(14) if n != 12]


def test_the_story_has_sentences_with_positions() -> None:
    story = steps_of(in_causal_order([event for event in recorded(lives()) if event.envelope.id != id_of("12")]))

    assert [(step.at, step.sentence) for step in story] == [
        (f"job-requests/{NUMBER}/0", f"Planning asked for analysis of video {VIDEO} (priority normal)."),
        (f"jobs/{NUMBER}/0", "The dispatcher queued it: analysis, priority normal."),
        (f"job-requests/{NUMBER}/1", "Worker worker-1 asked for work, and would wait until 12:01:00."),
        (f"jobs/{NUMBER}/1", "The dispatcher gave it to worker worker-1: epoch 1, attempt 1, lease until 12:01:00."),
        (f"job-requests/{NUMBER}/4", "Worker worker-1 renewed its lease of epoch 1, 3 times until then."),
        (
            f"jobs/{NUMBER}/2",
            "Attempt 1 failed: analysis/resource_exhaustion (EXIT_137): Killed. The next one comes after 12:01:00.",
        ),
        (f"jobs/{NUMBER}/3", "The dispatcher gave it to worker worker-1: epoch 2, attempt 2, lease until 12:01:00."),
        (f"jobs/{NUMBER}/4", "Worker worker-1 was not heard of in time: that cost attempt 2; the next comes after 12:01:00."),
        (
            f"jobs/{NUMBER}/5",
            "What worker worker-1 said under epoch 1 was refused: its claim is fenced: a newer one was given since.",
        ),
        (f"jobs/{NUMBER}/6", "The job has failed for good at attempt 3: analysis/resource_exhaustion (EXIT_137): Killed."),
        ("failures/0/0", "The attempt of epoch 1 was run again on gpu-2: it failed with EXIT_137; reproduced."),
    ]
    assert story[8].reason == "stale_epoch" and story[8].type == "kinolog.job.result-refused.v1"


ABOUT_JOBS = [
    kind for kind in (*get_args(JobRequest), *get_args(JobFact), *get_args(FailureEvent)) if ".dispatch." not in kind.TYPE
]
"""All but those about a worker or a pool, which are in no job's story."""


@pytest.mark.parametrize("kind", ABOUT_JOBS)
def test_every_event_about_a_job_has_a_sentence(kind: type[Event]) -> None:
    assert {TOPIC_OF[kind.TYPE]} <= {JOB_REQUESTS, JOBS, FAILURES}
    for event in examples(kind):
        sentence = say(cast(StoryEvent, event))
        assert sentence[0].isupper() or sentence.startswith("job."), sentence
        assert sentence.endswith((".", "!", "?"))


# --- capsules -------------------------------------------------------------------------------------------------------


def test_a_capsule_has_what_a_rerun_needs() -> None:
    made = capsule_of(failure_id(JOB, 1), recorded(lives()))

    assert (made.spec, made.failure, made.attempt, made.worker_id) == (SPEC, KILLED, 1, "worker-1")
    assert [(ref.key, ref.size_bytes, ref.sha256) for ref in made.inputs] == [("sources/v/original", 7, "5a" * 32)]
    assert [one.event["type"].split(".")[2] for one in made.events] == [
        *("claimed", "lease-renewed", "lease-renewed", "lease-renewed", "attempt-failed", "result-refused")
    ]
    assert opened(made.model_dump_json().encode()) == made


def test_a_lost_lease_has_a_capsule_too() -> None:
    assert capsule_of(failure_id(JOB, 2), recorded(lives())).failure.code == "LEASE_EXPIRED"


@pytest.mark.parametrize("which", [failure_id(JOB, 7), failure_id(OTHER, 1), "nothing"])
def test_what_did_not_fail_has_none(which: str) -> None:
    with pytest.raises(NotFound):
        capsule_of(which, recorded(lives()))


def test_a_changed_capsule_is_refused() -> None:
    made = capsule_of(failure_id(JOB, 1), recorded(lives()))
    changed = made.model_copy(update={"job_id": OTHER})

    with pytest.raises(InvalidRequest, match="changed"):
        opened(changed.model_dump_json().encode())
    assert opened(sealed(changed).model_dump_json().encode()).job_id == OTHER
    for document in (b"", b"{}", b'{"capsule": 2}', b"\xff"):
        with pytest.raises(InvalidRequest, match="no failure capsule"):
            opened(document)


@pytest.mark.parametrize(
    ("again", "verdict"),
    [
        (KILLED.model_copy(update={"message": "Killed in other words"}), "reproduced"),
        (KILLED.model_copy(update={"code": "EXIT_143"}), "not_reproduced"),
        (KILLED.model_copy(update={"stage": "encoding"}), "not_reproduced"),
        (None, "not_reproduced"),
    ],
)
def test_a_failure_is_reproduced_by_the_same_stage_category_and_code(again: Failure | None, verdict: str) -> None:
    context = Context(START, lambda: id_of("new"), "kinolog/test")
    event = producer.rerun(context, "j:1", video_id=VIDEO, failed=KILLED, again=again, worker="gpu-2", seconds=1.0)

    assert isinstance(event.data, FailureRerun) and event.data.verdict == verdict
    assert (event.subject, event.correlationid) == ("j:1", VIDEO)
