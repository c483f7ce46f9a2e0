"""Planning, given / when / then: facts in, derived events out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import encode
from events.envelope import Envelope, Event, Recorded
from events.jobs import CancelRequested, JobCompleted, JobFailed, JobQueued, JobSubmitted, RequestRefused, RetryRequested
from events.kinds import AnalyseResult, EncodeSpec, ExtrasResult, MediaResult, VerifyResult, VerifySpec
from events.media import ObjectRef, PlanSettings, Probe
from events.topics import TOPIC_OF
from events.videos import VideoFailed, VideoPlanned, VideoProbed, VideoPublished, VideoPurged, VideoRetryRequested
from infra.runtime.clock import new_id
from processors.planning import process as planning
from processors.planning.process import Policy, job_id
from producers.appender import EVENT_BYTES_MAX
from tests.support.deciding import BROKEN, VIDEO, Live, ref, uploaded
from tests.support.footage import PROBE

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """Feeds facts to the process, with what follows from its own decisions, as the log does; keeps what it derived last."""

    def __init__(self, encoder: str | None = None) -> None:
        two_chunks = PlanSettings(encoder=encoder, chunk_s=30.0, chunks_max=2)
        self.process = planning.process(Policy(two_chunks, "default"))
        self.live = Live(self.process)
        self.derived: list[Envelope[Event]] = []
        self.log: list[Recorded[Event]] = []

    def given(self, *facts: Event) -> "Story":
        for fact in facts:
            self.derived = waiting = self._recorded(fact)
            while waiting:
                answers = [answer for envelope in waiting for answer in answers_to(envelope)]
                waiting = [envelope for answer in answers for envelope in self._recorded(answer.data, answer.id)]
                self.derived = self.derived + waiting
        return self

    def _recorded(self, fact: Event, id_: str | None = None) -> list[Envelope[Event]]:
        at = NOW + timedelta(seconds=len(self.log))
        envelope = Envelope(id_ or new_id(), "test", VIDEO, at, fact, VIDEO)
        self.log.append(Recorded(TOPIC_OF[fact.TYPE].name, 0, len(self.log), envelope))
        return self.live.handle(self.log[-1:], at)

    def then(self) -> list[Event]:
        return [envelope.data for envelope in self.derived]


def answers_to(envelope: Envelope[Event]) -> list[Envelope[Event]]:
    """Return what planning reads when something that it has written is on the log."""
    match envelope.data:
        case JobSubmitted() as job:
            known = {"job_id": job.job_id, "video_id": job.video_id, "pool": job.pool, "requirements": job.requirements}
            return [envelope._replace(id=new_id(), data=JobQueued(spec=job.spec, priority=job.priority, **known))]
        case VideoProbed() | VideoPlanned() | VideoPublished() | VideoFailed():
            return [envelope]
        case _:
            return []


def completed(name: str, result: Any, round_: int = 0) -> JobCompleted:
    return JobCompleted(
        job_id=job_id(VIDEO, round_, name), video_id=VIDEO, pool="default", worker_id="w", epoch=1, attempt=1, result=result
    )


def failed(name: str, round_: int = 0) -> JobFailed:
    id_ = job_id(VIDEO, round_, name)
    return JobFailed(job_id=id_, video_id=VIDEO, pool="default", epoch=3, attempt=3, failure=BROKEN)


def analysed(round_: int = 0) -> JobCompleted:
    return completed("analyse", AnalyseResult(probe=PROBE), round_)


def media(name: str) -> JobCompleted:
    return completed(name, MediaResult(renditions=(), result=ref(name)))


MADE = (media("encode-0"), media("encode-1"), media("audio-1"), media("audio-1-1"))
EXTRAS = completed("extras", ExtrasResult(thumbnail=ref("thumbnail"), result=ref("extras")))
VERIFIED = completed("verify", VerifyResult(duration_ms=60_000, rungs=("360p",), warnings=("Damaged.",)))


def test_an_uploaded_video_is_analysed() -> None:
    (submitted,) = Story().given(uploaded()).then()
    assert isinstance(submitted, JobSubmitted)
    assert (submitted.spec.kind, submitted.job_id) == ("analyse", job_id(VIDEO, 0, "analyse"))


def test_an_analysed_video_is_planned_and_its_chunks_tracks_and_extras_are_submitted() -> None:
    *submitted, probed, planned = Story().given(uploaded(), analysed()).then()
    assert isinstance(probed, VideoProbed)
    assert isinstance(planned, VideoPlanned)
    jobs = [event for event in submitted if isinstance(event, JobSubmitted)]
    assert sorted(job.spec.kind for job in jobs) == ["audio", "audio", "encode", "encode", "extras"]
    assert planned.job_ids == tuple(job.job_id for job in jobs)
    assert all(job.spec.source.sha256 == PROBE.sha256 for job in jobs if isinstance(job.spec, EncodeSpec))


def test_verification_waits_for_the_last_job_and_names_every_result() -> None:
    story = Story().given(uploaded(), analysed(), *MADE)
    assert story.then() == []
    (submitted,) = story.given(EXTRAS).then()
    assert isinstance(submitted, JobSubmitted) and isinstance(submitted.spec, VerifySpec)
    assert {result.key for result in submitted.spec.results} == {
        ref(name).key for name in ("encode-0", "encode-1", "audio-1", "audio-1-1", "extras")
    }


def test_a_verified_video_is_published_once() -> None:
    story = Story().given(uploaded(), analysed(), *MADE, EXTRAS, VERIFIED)
    (published,) = story.then()
    assert published == VideoPublished(
        video_id=VIDEO, duration_ms=60_000, rungs=("360p",), thumbnail=ref("thumbnail"), warnings=("Damaged.",)
    )
    assert story.given(VERIFIED).then() == []


def test_a_job_that_failed_for_good_fails_the_video_and_calls_off_the_rest() -> None:
    story = Story().given(uploaded(), analysed(), media("encode-0"), failed("encode-1"))
    *cancels, video_failed = story.then()
    assert isinstance(video_failed, VideoFailed) and video_failed.failure == BROKEN
    assert {cancel.job_id for cancel in cancels if isinstance(cancel, CancelRequested)} == {
        job_id(VIDEO, 0, name) for name in ("audio-1", "audio-1-1", "extras")
    }


def test_a_job_that_cannot_be_queued_fails_its_video() -> None:
    story = Story().given(uploaded(), analysed())
    job = job_id(VIDEO, 0, "encode-1")
    *cancels, video_failed = story.given(
        RequestRefused(job_id=job, pool="default", reason="too_large", video_id=VIDEO, failure=BROKEN)
    ).then()
    assert isinstance(video_failed, VideoFailed) and (video_failed.job_id, video_failed.failure) == (job, BROKEN)
    assert len(cancels) == 4
    assert Story().given(uploaded(), analysed(), RequestRefused(job_id=job, pool="default", reason="unknown_job")).then() == []


def test_hardware_that_fails_at_a_chunk_makes_way_for_software_for_the_whole_video() -> None:
    story = Story("h264_nvenc").given(uploaded(), analysed(), media("audio-1"), media("audio-1-1"), media("encode-0"))
    *jobs, planned = story.given(failed("encode-1")).then()
    assert isinstance(planned, VideoPlanned) and planned.plan.video is not None
    assert (planned.plan.video.encoder, planned.plan.video.preset) == ("libx264", "veryfast")
    assert planned.plan.video.fallback == "h264_nvenc: EXIT_1: ffmpeg ended with 1"
    submitted = [event for event in jobs if isinstance(event, JobSubmitted)]
    assert [event.requirements.encoder for event in submitted] == ["libx264", "libx264"]
    kept = {job_id(VIDEO, 0, name) for name in ("audio-1", "audio-1-1", "extras")}
    assert set(planned.job_ids) == {event.job_id for event in submitted} | kept
    assert story.given(media("encode-1"), EXTRAS).then() == []  # what hardware made does not count any more
    (verify,) = story.given(media("encode-0 in software"), media("encode-1 in software")).then()
    assert isinstance(verify, JobSubmitted) and isinstance(verify.spec, VerifySpec)
    names = ("audio-1", "audio-1-1", "extras", "encode-0 in software", "encode-1 in software")
    assert {result.key for result in verify.spec.results} == {ref(name).key for name in names}


def test_software_that_fails_in_its_turn_fails_the_video() -> None:
    story = Story("h264_nvenc").given(uploaded(), analysed())
    cancels = [event for event in story.given(failed("encode-1")).then() if isinstance(event, CancelRequested)]
    assert [event.job_id for event in cancels] == [job_id(VIDEO, 0, "encode-0")]
    *cancels, video_failed = story.given(failed("encode-0 in software")).then()  # type: ignore[assignment]
    assert isinstance(video_failed, VideoFailed)
    names = ("encode-1 in software", "audio-1", "audio-1-1", "extras")
    assert {event.job_id for event in cancels} == {job_id(VIDEO, 0, name) for name in names}


def test_a_retry_asks_again_for_what_is_missing_and_only_for_that() -> None:
    story = Story().given(uploaded(), analysed(), media("encode-0"), failed("encode-1"))
    retries = story.given(VideoRetryRequested(video_id=VIDEO)).then()
    assert {retry.job_id for retry in retries if isinstance(retry, RetryRequested)} == {
        job_id(VIDEO, 0, name) for name in ("encode-1", "audio-1", "audio-1-1", "extras")
    }
    (verify,) = story.given(*MADE[1:], EXTRAS).then()
    assert isinstance(verify, JobSubmitted) and verify.spec.kind == "verify"


def test_a_retry_after_a_failed_verification_makes_everything_anew() -> None:
    story = Story().given(uploaded(), analysed(), *MADE, EXTRAS, failed("verify"))
    (submitted,) = story.given(VideoRetryRequested(video_id=VIDEO)).then()
    assert isinstance(submitted, JobSubmitted)
    assert submitted.job_id == job_id(VIDEO, 1, "analyse")


def test_a_source_without_streams_fails_with_a_sentence() -> None:
    probe = PROBE.model_copy(update={"video": None, "audio": ()})
    _probed, video_failed = Story().given(uploaded(), completed("analyse", AnalyseResult(probe=probe))).then()
    assert isinstance(video_failed, VideoFailed)
    assert video_failed.failure.code == "NO_STREAMS" and video_failed.failure.message.endswith(".")


def test_the_jobs_of_a_purged_video_are_called_off_and_nothing_more_follows() -> None:
    story = Story().given(uploaded(), analysed(), *MADE[:1]).given(VideoPurged(video_id=VIDEO))
    called_off = [event.job_id for event in story.then() if isinstance(event, CancelRequested)]
    assert called_off == [job_id(VIDEO, 0, name) for name in ("audio-1", "extras", "encode-1", "audio-1-1")]
    assert story.given(*MADE, EXTRAS, VideoPurged(video_id=VIDEO)).then() == []


def test_a_published_video_that_is_purged_has_no_jobs_to_call_off() -> None:
    story = Story().given(uploaded(), analysed(), *MADE, EXTRAS, VERIFIED)
    assert story.given(VideoPurged(video_id=VIDEO)).then() == []


def test_a_retry_of_a_video_that_did_not_fail_changes_nothing() -> None:
    assert Story().given(uploaded(), VideoRetryRequested(video_id=VIDEO)).then() == []


@pytest.mark.parametrize("seed", range(3))
@given(data=st.data())
def test_order_and_repetition_do_not_matter(seed: int, data: st.DataObject) -> None:
    """Whatever comes again or late: one submission per job, one publication."""
    first = [uploaded(), analysed()]
    rest = [*MADE, EXTRAS, VERIFIED]
    again = data.draw(st.lists(st.sampled_from([*first, *rest[:-1]]), max_size=5))
    facts = data.draw(st.permutations([*first, *rest[:-1], *again]))
    story = Story()
    derived: list[Event] = []
    for fact in [*facts, VERIFIED]:
        derived.extend(story.given(fact).then())
    submitted = [event.job_id for event in derived if isinstance(event, JobSubmitted)]
    assert len(submitted) == len(set(submitted))
    assert sum(isinstance(event, VideoPublished) for event in derived) == 1


def of_length(hours: float) -> Probe:
    """Return the probe of a recording in 2160p of this length."""
    length = round(hours * 3_600_000)
    large = {"width": 3840, "height": 2160, "display_width": 3840, "display_height": 2160}
    video = PROBE.video.model_copy(update={"duration_ms": length, **large}) if PROBE.video else None
    audio = tuple(track.model_copy(update={"duration_ms": length}) for track in PROBE.audio)
    return PROBE.model_copy(update={"duration_ms": length, "video": video, "audio": audio})


def everything_about(hours: float) -> list[Envelope[Event]]:
    """Return all that planning derives of a recording, from the upload to the verification."""
    story = Story().given(uploaded(), completed("analyse", AnalyseResult(probe=of_length(hours))))
    derived = list(story.derived)
    for job in [envelope.data for envelope in derived]:
        if isinstance(job, JobSubmitted):
            story.given(completed_of(job.job_id))
            derived += story.derived
    return derived


def completed_of(job: str) -> JobCompleted:
    """Return the end of an encode, with a reference as long as real ones are."""
    result = ObjectRef(key=f"videos/{VIDEO}/{job}/1/result.json", size_bytes=100_000, sha256="00" * 32)
    made = MediaResult(renditions=(), result=result)
    return JobCompleted(job_id=job, video_id=VIDEO, pool="default", worker_id="w", epoch=1, attempt=1, result=made)


def test_no_event_grows_with_the_square_of_the_length() -> None:
    """The jobs of a video carry a rule for its chunks and not their list; two days plan as one hour does."""
    sizes = {hours: [len(encode(envelope)) for envelope in everything_about(hours)] for hours in (1, 12, 48)}
    jobs = {hours: len(found) for hours, found in sizes.items()}

    assert max(sizes[48]) < EVENT_BYTES_MAX / 2, "also the verification, which names every result"
    assert sum(sizes[48]) < 4 * sum(sizes[12]) * 1.1, "linear"
    assert sorted(sizes[48])[jobs[48] // 2] < 3000, "a job has its own chunk and no others"
    assert jobs[48] <= PlanSettings().chunks_max + 8
