"""What-if on recorded histories of the simulation: the recorded policy gives the recorded claims, others what one expects."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import pytest

from events.codec import decode
from events.envelope import E, Envelope, Recorded
from events.errors import InvalidRequest
from events.jobs import JobClaimed, JobFact, JobQueued, JobSubmitted
from events.kinds import EncodeSpec
from events.media import Rung
from infra.reference.schemas import ROOT, examples_of
from processors.dispatch.figures import Figures, claims_of, measure
from processors.dispatch.recording import Recording, Worker, record
from processors.dispatch.state import Decided, Policy
from processors.dispatch.whatif import Alternative, Replay
from tests.simulation.world import START, Outcome, Scale, run

CALM = Scale(calamities=0, returning=0)
POLICY = CALM.policy


def recorded(topic: str, events: Sequence[Envelope[E]]) -> list[Recorded[E]]:
    """Return events as a topic has them."""
    return [Recorded(topic, 0, offset, event) for offset, event in enumerate(events)]


def recording_of(outcome: Outcome, since: datetime | None = None) -> Recording:
    """Return the recording of a world."""
    facts = cast("list[Envelope[JobFact]]", outcome.facts)
    return record(recorded("job-requests", outcome.requests), recorded("jobs", facts), since, POLICY)


def replayed(outcome: Outcome, alternative: Alternative = Alternative(), seed: int = 0) -> list[Envelope[Decided]]:
    """Return the facts under an alternative."""
    return Replay(recording_of(outcome), POLICY, alternative, seed).run()


def timed(facts: Sequence[Envelope[Decided]]) -> list[tuple[datetime, tuple[str, int, str]]]:
    """Return the claims in order, with their times."""
    return [(fact.time, claim) for fact in facts for claim in claims_of([fact])]


def figures(outcome: Outcome, alternative: Alternative) -> Figures:
    """Return what an alternative comes to."""
    return measure(replayed(outcome, alternative), None)


@pytest.mark.parametrize("seed", range(12))
def test_the_recorded_policy_gives_the_recorded_claims_in_their_order(seed: int) -> None:
    """Although messages come minutes late and twice, and their senders' clocks are wrong."""
    outcome = run(seed, CALM)
    claims = claims_of(outcome.facts)
    assert claims_of(replayed(outcome))[: len(claims)] == claims


PROMPT = replace(CALM, prompt=True)
"""No log has the time at which a late request without an answer was decided."""
SLOTS = replace(PROMPT, workers=4, slots=2, unlike=True, jobs=60)


@pytest.mark.parametrize("seed", range(8))
def test_each_slot_claims_with_capabilities_of_its_own(seed: int) -> None:
    outcome = run(seed, SLOTS)
    assert timed(replayed(outcome)[: len(outcome.facts)]) == timed(outcome.facts)


@pytest.mark.parametrize("seed", range(8))
def test_a_dispatcher_that_forgot_before_the_beginning_changes_nothing(seed: int) -> None:
    """The first state is that of the facts: retries that a tick made ready, and what each GPU worker was seen to do, as well."""
    outcome = run(seed, replace(SLOTS, calamities=6, length=(100, 300)))
    since = START + timedelta(seconds=1000)
    facts = Replay(recording_of(outcome, since), POLICY, Alternative(), 0).run()
    assert timed(facts[: len(outcome.facts)]) == timed(outcome.facts)


@pytest.mark.parametrize("seed", range(12))
def test_also_from_the_middle(seed: int) -> None:
    outcome = run(seed, CALM if seed < 4 else PROMPT)
    since = START + timedelta(seconds=400)
    facts = Replay(recording_of(outcome, since), POLICY, Alternative(), 0).run()
    claims = claims_of(outcome.facts)
    assert claims_of(facts)[: len(claims)] == claims
    assert measure(facts, since).claims <= measure(outcome.facts, None).claims


def test_two_runs_of_a_seed_are_the_same() -> None:
    outcome, alternative = run(3, CALM), Alternative(policy=lambda recorded: replace(recorded, attempts_max=5))
    assert replayed(outcome, alternative, seed=1) == replayed(outcome, alternative, seed=1)


def test_more_workers_wait_less_and_cost_the_same() -> None:
    outcome = run(5, replace(CALM, workers=4))

    def twice(workers: Sequence[Worker]) -> Sequence[Worker]:
        return [*workers, *(worker._replace(worker_id=f"{worker.worker_id}-b", since=START) for worker in workers)]

    now, then = measure(outcome.facts, None), figures(outcome, Alternative(workers=twice))
    assert then.wait_p50_s < now.wait_p50_s / 1.5
    assert then.completed >= now.completed - 3
    assert abs(then.worker_s / now.worker_s - 1) < 0.25


def test_fewer_workers_wait_longer() -> None:
    outcome = run(5, replace(CALM, workers=8))
    fewer = figures(outcome, Alternative(workers=lambda workers: workers[:3]))
    assert fewer.wait_p50_s > measure(outcome.facts, None).wait_p50_s


def test_one_attempt_means_no_retries_and_more_failures() -> None:
    outcome = run(2, CALM)
    once = figures(outcome, Alternative(policy=lambda recorded: replace(recorded, attempts_max=1)))
    happened = measure(outcome.facts, None)
    assert once.failed > happened.failed
    assert once.claims < happened.claims


@pytest.mark.parametrize("seed", range(5, 10))
def test_half_the_work_keeps_workers_and_those_who_wait_for_a_shorter_time(seed: int) -> None:
    outcome = run(seed, replace(CALM, workers=5))
    half = figures(outcome, Alternative(seconds=lambda claimed, seconds: seconds / 2))
    same = figures(outcome, Alternative())
    assert half.wait_p50_s < same.wait_p50_s / 2 and half.worker_s < 0.8 * same.worker_s


def encoding(outcome: Outcome) -> Outcome:
    """Return a world in which every job encodes the chunk of the stored example."""
    (path,) = [path for path in examples_of(JobSubmitted) if "encode-chunk-by-rule" in str(path)]
    example = decode((ROOT / path).read_bytes()).data
    assert isinstance(example, JobSubmitted)

    def changed(envelope: Envelope[E]) -> Envelope[E]:
        fields = envelope.data.model_fields_set & {"spec"}
        return envelope._replace(data=envelope.data.model_copy(update=dict.fromkeys(fields, example.spec)))

    return replace(outcome, requests=[*map(changed, outcome.requests)], facts=[*map(changed, outcome.facts)])


def lower(spec: EncodeSpec) -> Sequence[Rung]:
    """Leave the highest rung out."""
    return sorted(spec.plan.rungs, key=lambda rung: rung.height)[:-1]


def test_a_smaller_ladder_takes_as_much_less_as_it_has_pixels() -> None:
    outcome = encoding(run(4, replace(CALM, workers=5)))
    facts = replayed(outcome, Alternative(ladder=lower))
    specs = {fact.data.spec for fact in facts if isinstance(fact.data, JobClaimed)}
    whole = next(request.data.spec for request in outcome.requests if isinstance(request.data, JobSubmitted))
    assert isinstance(whole, EncodeSpec)
    assert [spec.plan.rungs for spec in specs if isinstance(spec, EncodeSpec)] == [tuple(lower(whole))]
    pixels, left = (sum(rung.width * rung.height for rung in rungs) for rungs in (whole.plan.rungs, lower(whole)))
    as_much = Alternative(seconds=lambda claimed, seconds: seconds * left / pixels)
    small, scaled, same = measure(facts, None), figures(outcome, as_much), figures(outcome, Alternative())
    assert (small.claims, small.worker_s, small.wait_p95_s) == (scaled.claims, scaled.worker_s, scaled.wait_p95_s)
    assert small.worker_s < same.worker_s
    kbps, kept = (sum(rung.video_kbps for rung in rungs) for rungs in (whole.plan.rungs, lower(whole)))
    assert scaled.video_mb > 0 and small.video_mb == pytest.approx(scaled.video_mb * kept / kbps, abs=0.01)


def test_a_smaller_ladder_wants_less_of_a_worker() -> None:
    outcome = encoding(run(4, CALM))
    facts = replayed(outcome, Alternative(ladder=lower))
    asked = [request.data for request in outcome.requests if isinstance(request.data, JobSubmitted)]
    wanted = {fact.data.job_id: fact.data.requirements.height for fact in facts if isinstance(fact.data, JobQueued)}
    assert len(asked) > 20
    for submitted in asked:
        assert isinstance(submitted.spec, EncodeSpec)
        before = submitted.requirements.height
        assert wanted[submitted.job_id] == (before and max(rung.height for rung in lower(submitted.spec)))


def test_a_ladder_without_rungs_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no rung"):
        replayed(encoding(run(4, CALM)), Alternative(ladder=lambda spec: ()))


def test_work_that_takes_longer_keeps_its_leases() -> None:
    outcome = run(4, replace(CALM, workers=5))
    longer = figures(outcome, Alternative(seconds=lambda claimed, seconds: seconds * 4))
    same = figures(outcome, Alternative())
    assert longer.worker_s > 2 * same.worker_s
    assert longer.retries <= same.retries + 5


def test_another_order_of_candidates() -> None:
    class Youngest(Policy):
        def rank(self, queued: JobQueued, queued_at: datetime) -> datetime:
            return START + (START - queued_at)

    outcome = run(6, replace(CALM, workers=3))
    alternative = Alternative(policy=lambda recorded: Youngest(lease=recorded.lease, attempts_max=recorded.attempts_max))
    assert claims_of(replayed(outcome, alternative)) != claims_of(outcome.facts)
    assert figures(outcome, alternative).wait_p50_s < figures(outcome, Alternative()).wait_p50_s  # at the cost of the oldest


def test_a_claim_lasts_as_long_as_the_policy_says() -> None:
    outcome = run(1, CALM)
    facts = replayed(outcome, Alternative(policy=lambda recorded: replace(recorded, lease=timedelta(seconds=20))))
    leases = {fact.data.lease_expires_at - fact.time for fact in facts if isinstance(fact.data, JobClaimed)}
    assert leases == {timedelta(seconds=20)}
