"""A short video, encoded for real chunk by chunk, and its manifests as they are at any moment of that; served to players."""

import socket
import subprocess
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from events.envelope import Event, Recorded
from events.jobs import JobCompleted
from events.kinds import AnalyseResult, AnalyseSpec, JobSpec, MediaResult
from events.media import Plan, PlanSettings
from events.objects import attempt_prefix
from events.videos import VideoPlanned, VideoPublished, VideoUploaded
from processors.planning.plan import jobs_for, plan
from projections import catalog
from projections.catalog import Media, Video
from projections.playback import manifests
from tests.support.folding import folded
from tests.support.footage import VIDEO_ID, id_of, recorded
from tests.support.work import DirectoryStore, ffmpeg_path, local_source, local_work
from workers.attempts.work import Done
from workers.kinds import MAKING

RUNNERS = {kind: MAKING[kind] for kind in ("analyse", "encode", "audio")}
TYPES = {".m3u8": manifests.HLS_TYPE, ".mpd": manifests.DASH_TYPE, ".m4s": "video/iso.segment", ".mp4": "video/mp4"}
MANIFESTS = (".m3u8", ".mpd")
RATE = 25


@dataclass(frozen=True)
class Presentation:
    """What the jobs made, by their names in the plan (`encode-0`, `audio-1` …). `store` has the objects."""

    plan: Plan
    store: Path
    made: dict[str, MediaResult]
    seconds: float

    @property
    def frames(self) -> int:
        """How many pictures each rung has."""
        assert self.plan.video is not None
        return sum(chunk.frames for chunk in self.plan.video.chunks)

    def rows(self, jobs: Collection[str] | None = None) -> tuple[Video, list[Media]]:
        """Return the catalog's rows after these jobs completed; None for all of them and publication."""
        tables = folded(catalog.PROJECTION, self.events(jobs))
        return tables["videos"][(VIDEO_ID,)], list(tables["media"].values())

    def events(self, jobs: Collection[str] | None = None) -> list[Recorded[Event]]:
        """Return the events that lead there."""
        done = [name for name in self.made if jobs is None or name in jobs]
        facts: list[Recorded[Event]] = []
        for name in done:
            completed = JobCompleted(
                job_id=id_of(name), video_id=VIDEO_ID, pool="main", worker_id="w", epoch=1, attempt=1, result=self.made[name]
            )
            facts.append(recorded(completed, len(facts), topic="jobs"))
        upload = VideoUploaded(video_id=VIDEO_ID, title="t", filename="source.mkv", object_key="uploads/s", size_bytes=1)
        life: list[Event] = [upload, VideoPlanned(video_id=VIDEO_ID, plan=self.plan, job_ids=tuple(map(id_of, self.made)))]
        if jobs is None:
            rungs = tuple(rung.name for rung in self.plan.video.rungs) if self.plan.video else ()
            life.append(VideoPublished(video_id=VIDEO_ID, duration_ms=round(self.seconds * 1000), rungs=rungs))
        return facts + [recorded(event, offset, topic="videos") for offset, event in enumerate(life)]

    def show(self, root: Path, jobs: Collection[str] | None = None) -> str:
        """Write the manifests as they are after these jobs, as the public app would; return their folder, below `root`."""
        video, media = self.rows(jobs)
        folder = root / "videos" / video.slug
        folder.mkdir(parents=True, exist_ok=True)
        if not (root / "media").exists():
            (root / "media").symlink_to(self.store / "videos")
        texts = {f"{name}.m3u8": manifests.hls_media(video, media, name) for name in manifests.tracks(video, media)}
        texts |= {"master.m3u8": manifests.hls_master(video, media), "manifest.mpd": manifests.dash(video, media)}
        for name, text in texts.items():
            if text is not None:
                fresh = folder / f".{name}"
                fresh.write_text(text)
                fresh.replace(folder / name)
        return f"videos/{video.slug}"


def make_source(path: Path, seconds: float, *, size: str = "320x240", languages: Sequence[str] = ("eng", "deu")) -> None:
    """Write a source with a moving picture and a tone for each language."""
    tones = [part for n in range(len(languages)) for part in ("-f", "lavfi", "-i", f"sine=frequency={440 * (n + 1)}:d={seconds}")]
    command = [ffmpeg_path(), "-v", "error", "-f", "lavfi", "-i", f"testsrc=size={size}:rate={RATE}:duration={seconds}", *tones]
    for number, language in enumerate(languages):
        command += ["-map", str(number + 1), f"-metadata:s:a:{number}", f"language={language}"]
    subprocess.run([*command, "-map", "0", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", str(path)], check=True)


async def make_presentation(root: Path, settings: PlanSettings, seconds: float) -> Presentation:
    """Make a source and run every job of its plan."""
    source = root / "source.mkv"
    make_source(source, seconds)

    async def result_of(spec: JobSpec, job: str) -> object:
        work = local_work(root / job, source, prefix=attempt_prefix(VIDEO_ID, id_of(job), 1))
        work = replace(work, store=DirectoryStore(root / "store"))
        updates = [update async for update in RUNNERS[spec.kind](spec, work)]
        assert isinstance(updates[-1], Done)
        return updates[-1].result

    found = await result_of(AnalyseSpec(source=local_source(source)), "analyse")
    assert isinstance(found, AnalyseResult)
    decided = plan(found.probe, settings)
    assert isinstance(decided, Plan)
    made: dict[str, MediaResult] = {}
    for name, spec in jobs_for(local_source(source), decided, found.probe).items():
        if spec.kind in RUNNERS:
            result = await result_of(spec, name)
            assert isinstance(result, MediaResult)
            made[name] = result
    return Presentation(decided, root / "store", made, seconds)


@contextmanager
def served(directory: Path, asked: list[str] | None = None) -> Iterator[str]:
    """Serve a directory to players of any site, with ranges; yields its address. Paths that are asked for go to `asked`."""

    async def file(request: Request) -> Response:
        path = directory / request.path_params["path"]
        if asked is not None:
            asked.append(request.path_params["path"])
        if not path.is_file():
            return Response(status_code=404)
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"}
        if path.suffix in MANIFESTS:  # it may be replaced after a look at its length
            return Response(path.read_bytes(), media_type=TYPES[path.suffix], headers=headers)
        return FileResponse(path, media_type=TYPES.get(path.suffix), headers=headers)

    app = Starlette(routes=[Route("/{path:path}", file)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
