"""How far a video is: the latest tick of each job, joined with the plan and the jobs."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.media import Failure
from events.progress import ProgressTicked
from projections import catalog
from projections.catalog import Video
from projections.jobs import Job
from projections.progress import PROJECTION, Tick, progress_of
from tests.support.facts import ticked
from tests.support.folding import folded
from tests.support.footage import START, VIDEO_ID, id_of, life, plan, recorded, results

PLAN = plan(seconds=30)
FAILURE = Failure(stage="encoding", category="timeout", code="TIMEOUT", message="It took too long.")


def latest(*ticks: tuple[ProgressTicked, float]) -> Tick:
    log = [recorded(tick, n, topic="progress", at_s=at_s) for n, (tick, at_s) in enumerate(ticks)]
    (row,) = folded(PROJECTION, log)["ticks"].values()
    assert isinstance(row, Tick)
    return row


def video() -> Video:
    row: Video = folded(catalog.PROJECTION, life(PLAN, published=False))["videos"][(VIDEO_ID,)]
    return row


def job(name: str, kind: str, **more: Any) -> Job:
    return Job(id_of(name), VIDEO_ID, "main", kind, name, "normal", **{"status": "queued", "queued_at": START, **more})


def planned(**states: dict[str, Any]) -> list[Job]:
    """Return the jobs of the plan; `chunk_0=dict(status=…)` changes one."""
    kinds = {"chunk": "encode", "audio": "audio", "extras": "extras"}
    found = [job("analysis", "analyse", status="completed")]
    names = ["chunk 0", "chunk 1", "chunk 2", "audio 1", "extras"]
    assert {id_of(name) for name in names} == set(results(PLAN))
    for name in names:
        chunk = int(name[-1]) if name.startswith("chunk") else None
        found.append(job(name, kinds[name.split()[0]], chunk=chunk, **states.get(name.replace(" ", "_"), {})))
    return found


def test_the_latest_tick_counts() -> None:
    assert latest((ticked(10), 1), (ticked(20), 2)).percent == 20


def test_a_tick_that_comes_late_or_from_an_older_claim_changes_nothing() -> None:
    assert latest((ticked(20), 2), (ticked(10), 1)).percent == 20
    assert latest((ticked(5, epoch=2), 1), (ticked(90, epoch=1), 2)).percent == 5


def test_a_new_claim_begins_again_and_what_is_shown_stands_until_it_is_overtaken() -> None:
    again = latest((ticked(90, epoch=1), 1), (ticked(0, epoch=2), 2))
    assert (again.epoch, again.percent, again.rungs[0].percent) == (2, 90, 45)


def test_a_video_without_a_plan_is_at_its_analysis() -> None:
    row = replace(video(), plan=None, job_ids=())
    progress = progress_of(row, [job("analysis", "analyse", status="claimed", epoch=1, attempt=1, claimed_at=START)], [])
    assert (progress.status, progress.current_step, progress.progress_percent) == ("processing", "analyse", 0)
    assert progress.qualities == []
    assert (progress.attempt, progress.max_attempts, progress.started_at) == (1, 3, START)


def test_a_rung_is_as_far_as_its_chunks_weighted_by_their_frames() -> None:
    states: dict[str, Any] = {"chunk_0": {"status": "completed"}, "chunk_1": {"status": "claimed", "epoch": 1}}
    tick = latest((ticked(50, job="chunk 1"), 1))
    progress = progress_of(video(), planned(**states), [tick])
    rungs = {rung.name: rung for rung in progress.qualities}
    assert PLAN.video is not None
    frames = [chunk.frames for chunk in PLAN.video.chunks]
    assert frames[2] < frames[0]
    assert rungs["720p"].progress == round(100 * (frames[0] + frames[1] / 4) / sum(frames), 1)
    assert rungs["1080p"].progress == round(100 * (frames[0] + frames[1] / 2) / sum(frames), 1)
    assert progress.current_step == "encode"
    assert 30 < progress.progress_percent < 60


def test_progress_never_falls_whoever_works_on_the_job() -> None:
    shown: list[tuple[float, float]] = []
    analysed = [job("analysis", "analyse", status="completed")]
    progress = progress_of(replace(video(), plan=None, job_ids=()), analysed, [])
    shown.append((progress.progress_percent, 0.0))
    progress = progress_of(video(), [*analysed, job("chunk 0", "encode", chunk=0, status="completed")], [])
    shown.append((progress.progress_percent, progress.qualities[0].progress))
    for status, epoch in (("claimed", 1), ("queued", 1), ("claimed", 2), ("retrying", 2), ("completed", 2)):
        states: dict[str, Any] = {"chunk_0": {"status": "completed"}, "chunk_1": {"status": status, "epoch": epoch}}
        progress = progress_of(video(), planned(**states), [latest((ticked(90, job="chunk 1"), 1))])
        shown.append((progress.progress_percent, progress.qualities[0].progress))
    assert shown == sorted(shown) and shown[0][0] > 0


def test_only_publication_is_a_hundred_percent() -> None:
    done = {name: {"status": "completed"} for name in ("chunk_0", "chunk_1", "chunk_2", "audio_1", "extras")}
    verified = [*planned(**done), job("verify", "verify", status="completed")]
    progress = progress_of(video(), verified, [])
    assert progress.progress_percent == 99.9
    assert {rung.status for rung in progress.qualities} == {"completed"}
    assert progress_of(replace(video(), status="ready"), verified, []).progress_percent == 100


def test_the_last_error_is_shown_while_it_matters() -> None:
    early = {"status": "retrying", "failure": FAILURE.model_copy(update={"message": "Early."}), "claimed_at": START}
    late = {"status": "claimed", "failure": FAILURE, "claimed_at": START + timedelta(seconds=5)}
    progress = progress_of(video(), planned(chunk_0=early, chunk_1=late), [])
    assert progress.last_error == "It took too long."
    over = {"status": "completed"}
    assert progress_of(video(), planned(chunk_0=over), []).last_error is None


def test_jobs_of_an_older_plan_do_not_count() -> None:
    old = job("chunk 0 of the plan before", "encode", chunk=0, status="failed", failure=FAILURE)
    progress = progress_of(video(), [*planned(), old], [])
    assert {rung.status for rung in progress.qualities} == {"pending"}
    assert progress.last_error is None


@given(st.lists(st.floats(0, 100), min_size=3, max_size=3), st.lists(st.floats(0, 100), min_size=3, max_size=3), st.integers(0, 3))
def test_progress_does_not_fall_when_software_takes_over_from_hardware(before: list[float], after: list[float], known: int) -> None:
    """Whatever the chunks had reached, and however many of the new jobs are known yet."""
    jobs = planned(chunk_1={"status": "completed"})
    ticks = [latest((ticked(percent, job=f"chunk {number}"), 1)) for number, percent in enumerate(before)]
    shown = progress_of(video(), jobs, ticks)

    made = video()
    assert made.plan is not None and made.plan.video is not None
    software = made.plan.model_copy(update={"video": made.plan.video.model_copy(update={"fallback": "h264_nvenc: EXIT_1"})})
    anew = [f"chunk {number} in software" for number in range(3)]
    remade = replace(made, plan=software, job_ids=tuple(map(id_of, [*anew, "audio 1", "extras"])))
    jobs += [job(name, "encode", chunk=number) for number, name in enumerate(anew[:known])]
    ticks += [latest((ticked(percent, job=name), 2)) for name, percent in zip(anew[:known], after, strict=False)]
    then = progress_of(remade, jobs, ticks)

    assert then.progress_percent >= shown.progress_percent
    assert all(new.progress >= old.progress for new, old in zip(then.qualities, shown.qualities, strict=True))
