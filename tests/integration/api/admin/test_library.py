"""The predecessor's routes about transcodes, storage and the library, against sums made by hand."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from events.envelope import Event
from events.jobs import JobClaimed, JobCompleted, JobFailed, JobQueued
from events.media import AudioTrack, Failure, Probe
from events.videos import VideoProbed, VideoPurged, VideoUploaded
from infra.runtime import postgres
from infra.runtime.settings import Settings
from projections import catalog, jobs
from projections.library import resolution_of
from tests.support.apps import TOKEN, make
from tests.support.facts import KNOWN, PLAN, QUEUED, SOON, SPEC
from tests.support.feeding import write
from tests.support.folding import history
from tests.support.footage import PROBE, VIDEO_ID, chunk_result, life, recorded, video_track

FAILURE = Failure(stage="encoding", category="timeout", code="TIMEOUT", message="It took too long.")


def encodes() -> list[Event]:
    """One encode by a card that took twenty seconds, one that failed for good, one that still waits."""
    by_card = chunk_result(PLAN, 1).model_copy(update={"encoder": "h264_nvenc"})

    def of(job: str) -> dict[str, Any]:
        return {**KNOWN, "job_id": job}

    def claimed(job: str) -> JobClaimed:
        return JobClaimed(**of(job), worker_id="w", claim_id=job, epoch=1, attempt=1, lease_expires_at=SOON, spec=SPEC)

    queued = [QUEUED.model_copy(update={"job_id": job}) for job in ("j", "k", "l")]
    assert all(isinstance(event, JobQueued) for event in queued)
    return [
        *queued,
        claimed("j"),
        claimed("k"),
        JobCompleted(**of("j"), worker_id="w", epoch=1, attempt=1, result=by_card),
        JobFailed(**of("k"), epoch=1, attempt=1, failure=FAILURE),
    ]


def videos() -> list[Event]:
    """A film in HDR with Atmos and no description, a song, and a film that is purged; beside the one of `life`."""

    def uploaded(name: str, size_bytes: int) -> VideoUploaded:
        return VideoUploaded(video_id=name, title=name, filename=name, object_key=name, size_bytes=size_bytes)

    atmos = AudioTrack(
        index=1, codec="eac3", profile="Dolby Digital Plus + Dolby Atmos", channels=6, sample_rate_hz=48_000, duration_ms=1000
    )
    film = PROBE.model_copy(update={"video": video_track(2160, 3840, codec="hevc", hdr="pq"), "audio": (atmos,)})
    song = PROBE.model_copy(update={"video": None})
    probes: dict[str, Probe] = {"film": film, "song": song, "gone": film}
    return [
        *(uploaded(name, 1000) for name in probes),
        *(VideoProbed(video_id=name, probe=probe) for name, probe in probes.items()),
        VideoPurged(video_id="gone"),
    ]


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The admin app, over what was made."""
    pool = await postgres.open_pool(settings)
    made = life(PLAN)
    others = [recorded(event, len(made) + n, topic="videos", at_s=100 + n) for n, event in enumerate(videos())]
    work = [recorded(event, n, topic="jobs", at_s=10 * n) for n, event in enumerate(encodes())]
    try:
        async with pool.connection() as connection:
            await write(connection, catalog.PROJECTION, history([*made, *others, *work]))
            await write(connection, jobs.PROJECTION, history(work))
        transport = httpx.ASGITransport(app=make("admin", pool=pool))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://admin/api/v1/analytics", headers=headers) as http:
            yield http
    finally:
        await pool.close()


async def test_transcodes(admin: httpx.AsyncClient) -> None:
    found = (await admin.get("/transcodes")).raise_for_status().json()["data"]
    assert found["stats"] == {
        "total_transcodes": 2,
        "success_count": 1,
        "failure_count": 1,
        "success_rate": 50.0,
        "avg_duration_seconds": 20.0,
        "hw_accel_percent": 50.0,
        "codec_distribution": [{"name": "h264", "count": 2}],
    }
    failed, done = found["recent"]
    assert (failed["id"], failed["success"], failed["error_message"]) == ("k", False, "It took too long.")
    assert failed["hw_accel"] == "libx264", "that of the plan"
    assert (done["id"], done["media_item_id"], done["media_title"]) == ("j", VIDEO_ID, "Big Buck Bunny")
    assert (done["input_codec"], done["input_resolution"]) == ("h264", "1080p")
    assert (done["output_codec"], done["output_resolution"], done["quality"]) == ("h264", "1080p", "1080p, 720p, 360p")
    assert (done["hw_accel"], done["duration_seconds"]) == ("h264_nvenc", 20)
    assert done["file_size_bytes"] > 0 and done["error_message"] is None


async def test_storage_and_health(admin: httpx.AsyncClient) -> None:
    storage = (await admin.get("/storage")).raise_for_status().json()["data"]
    assert storage == [{"library_id": "main", "library_name": "Library", "file_count": 3, "total_bytes": 12_345_678 + 2000}]
    (health,) = (await admin.get("/library-health")).raise_for_status().json()["data"]
    assert (health["total_items"], health["missing_metadata"], health["metadata_percent"]) == (3, 2, 33.3)
    assert health["missing_poster"] == 1, "the film; a song needs none"
    assert health["codec_distribution"] == [{"name": name, "count": 1} for name in ("aac", "h264", "hevc")]
    assert sorted(one["name"] for one in health["resolution_distribution"]) == ["1080p", "2160p"], "a film on end is no wider one"
    assert (health["hdr_count"], health["atmos_count"]) == (1, 1)


@pytest.mark.parametrize(("lines", "name"), [(4320, "2160p"), (2159, "1440p"), (1080, "1080p"), (719, "480p"), (240, "240p")])
def test_a_resolution_has_the_name_of_the_step_below(lines: int, name: str) -> None:
    assert resolution_of(lines) == name
