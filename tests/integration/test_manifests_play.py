"""Manifests over real segments, read by a real player: HLS and DASH, from the public app's paths and from a bucket."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from events.envelope import Event, Recorded
from events.jobs import AnalyseResult, AnalyseSpec, JobCompleted, MediaResult
from events.media import Plan
from events.videos import VideoPlanned, VideoPublished, VideoUploaded
from processors.plan import PlanSettings, jobs_for, plan
from projections import catalog, manifests
from tests.support.folding import folded
from tests.support.footage import VIDEO_ID, id_of, recorded
from tests.support.work import DirectoryStore, ffmpeg_path, local_source, local_work
from workers.transcode import analyse, audio, encode
from workers.work import Done

FRAMES = 175


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory over HTTP; yields its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def result_of(spec: object, tmp_path: Path, source: Path, job: str) -> object:
    """Run one job to its end; its objects go to one store."""
    modules = {"analyse": analyse, "encode": encode, "audio": audio}
    work = local_work(tmp_path / job, source, prefix=f"videos/{VIDEO_ID}/{id_of(job)}/1")
    work = type(work)(**{**{name: getattr(work, name) for name in work.__slots__}, "store": DirectoryStore(tmp_path / "store")})
    updates = [update async for update in modules[spec.kind].run(spec, work)]  # type: ignore[attr-defined]
    assert isinstance(updates[-1], Done)
    return updates[-1].result


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Seven seconds at 25 frames a second, with two languages of sound."""
    path = tmp_path / "source.mkv"
    tones = [argument for hertz in (440, 880) for argument in ("-f", "lavfi", "-i", f"sine=frequency={hertz}:duration=7")]
    command = [ffmpeg_path(), "-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25:duration=7", *tones]
    command += ["-map", "0", "-map", "1", "-map", "2", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"]
    subprocess.run([*command, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", str(path)], check=True)
    return path


def played(url: str) -> dict[str, str]:
    """Decode everything that an address offers; return what ffmpeg counted. Any complaint is an error."""
    command = [ffmpeg_path(), "-v", "warning", "-xerror", "-i", url, "-map", "0", "-f", "null", "-progress", "-", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr and done.returncode == 0, f"{url}: {done.returncode} {done.stderr}"
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


async def test_ffmpeg_plays_every_manifest_from_app_and_store(source: Path, tmp_path: Path) -> None:
    found = await result_of(AnalyseSpec(source=local_source(source)), tmp_path, source, "analyse")
    assert isinstance(found, AnalyseResult)
    decided = plan(found.probe, PlanSettings(segment_s=2, chunk_s=4, preset="ultrafast"))
    assert isinstance(decided, Plan) and decided.video is not None and len(decided.video.chunks) == 2
    records: list[Recorded[Event]] = []
    for name, spec in jobs_for(local_source(source), decided, found.probe).items():
        if spec.kind in ("encode", "audio"):
            result = await result_of(spec, tmp_path, source, name)
            assert isinstance(result, MediaResult)
            job = JobCompleted(job_id=id_of(name), video_id=VIDEO_ID, pool="main", worker_id="w", epoch=1, attempt=1, result=result)
            records.append(recorded(job, len(records), topic="jobs"))
    jobs = tuple(record.envelope.data.job_id for record in records)  # type: ignore[attr-defined]
    upload = VideoUploaded(video_id=VIDEO_ID, title="t", filename="source.mkv", object_key="uploads/s", size_bytes=1)
    rungs = tuple(rung.name for rung in decided.video.rungs)
    for event in (
        upload,
        VideoPlanned(video_id=VIDEO_ID, plan=decided, job_ids=jobs),
        VideoPublished(video_id=VIDEO_ID, duration_ms=7000, rungs=rungs),
    ):
        records.append(recorded(event, len(records), topic="videos"))
    tables = folded(catalog.PROJECTION, records)
    video, media = tables["videos"][(VIDEO_ID,)], list(tables["media"].values())

    root = tmp_path / "web"
    pages = root / "any" / "prefix" / "videos" / video.slug
    pages.mkdir(parents=True)
    (root / "any" / "prefix" / "media").symlink_to(tmp_path / "store" / "videos")
    (pages / "master.m3u8").write_text(str(manifests.hls_master(video, media)))
    (pages / "manifest.mpd").write_text(str(manifests.dash(video, media)))
    for name in manifests.tracks(video, media):
        (pages / f"{name}.m3u8").write_text(str(manifests.hls_media(video, media, name)))
    bucket = tmp_path / "store"
    for key, (text, _type) in manifests.stored(video, media).items():
        (bucket / key).write_text(text)

    with served(root) as app, served(bucket) as store:
        for base in (f"{app}/any/prefix/videos/{video.slug}", f"{store}/videos/{VIDEO_ID}"):
            for name in ("master.m3u8", "manifest.mpd"):
                counted = played(f"{base}/{name}")
                assert counted["frame"] == str(FRAMES), name
                assert abs(int(counted["out_time_us"]) - 7_000_000) < 100_000, name
