"""A whole video made on this machine without the platform: analysed, planned, every job run, verified; then played."""

import dataclasses
import subprocess
from dataclasses import dataclass
from pathlib import Path

from events.kinds import (
    AnalyseResult,
    AnalyseSpec,
    AudioSpec,
    EncodeSpec,
    ExtrasResult,
    JobResult,
    JobSpec,
    MediaResult,
    VerifyResult,
    VerifySpec,
)
from events.media import ObjectRef, Plan, PlanSettings, Probe, Rendition, Segment
from events.objects import attempt_prefix
from processors.planning.plan import jobs_for, plan
from tests.support.work import DirectoryStore, ffmpeg_path, local_source, local_work
from workers.attempts.work import Done, Limits, Progress, Work
from workers.kinds import RUNNERS

SHORT = PlanSettings(segment_s=0.4, chunk_s=0.8, preset="ultrafast")
"""Segments of 0.4 s, two to a chunk: clips of a second or two have joints."""
SAMPLE_RATE_HZ = 48_000


async def finish(spec: JobSpec, work: Work) -> tuple[JobResult, list[Progress]]:
    """Run a job as the worker's loop does; return its result and its progress."""
    ticks: list[Progress] = []
    async for update in RUNNERS[spec.kind](spec, work):
        match update:
            case Done(result=result):
                return result, ticks
            case Progress():
                ticks.append(update)
    raise AssertionError(f"{spec.kind} ended without a result")


@dataclass
class Video:
    """What became of a source; the objects lie in `store`."""

    probe: Probe
    plan: Plan
    results: dict[str, JobResult]
    store: DirectoryStore
    specs: dict[str, JobSpec]

    @property
    def verify_spec(self) -> VerifySpec:
        """The last job's order."""
        refs = tuple(result.result for result in self.results.values() if isinstance(result, MediaResult | ExtrasResult))
        return VerifySpec(plan=self.plan, results=refs)

    def parts(self, name: str) -> list[Rendition]:
        """Return what each job made of a rendition, in order."""
        media = [result for result in self.results.values() if isinstance(result, MediaResult)]
        found = [part for result in media for part in result.renditions if part.name == name]
        return sorted(found, key=lambda part: part.segments[0].number)

    def segments(self, name: str) -> list[Segment]:
        """Return all segments of a rendition, in order."""
        return [segment for part in self.parts(name) for segment in part.segments]

    def data(self, ref: ObjectRef | None) -> bytes:
        """Return an object's bytes."""
        assert ref is not None
        return self.store.path_of(ref.key).read_bytes()

    def whole(self, name: str) -> Path:
        """Return a file with the whole rendition: the first chunk's init segment, then every segment as it is."""
        parts = self.parts(name)
        pieces = [self.data(parts[0].init)] if parts[0].init is not None else []
        target = self.store.root / f"{name}{'.mp4' if pieces else '.ts'}"
        target.write_bytes(b"".join([*pieces, *(self.data(segment.object) for segment in self.segments(name))]))
        return target


async def analysed(path: Path, folder: Path) -> Probe:
    """Analyse a local file."""
    result, _ = await finish(AnalyseSpec(source=local_source(path)), local_work(folder, path))
    assert isinstance(result, AnalyseResult)
    return result.probe


async def planned(path: Path, folder: Path, settings: PlanSettings = SHORT) -> tuple[Probe, Plan, dict[str, JobSpec]]:
    """Analyse and plan a local file; return its jobs by name."""
    probe = await analysed(path, folder)
    decided = plan(probe, settings)
    assert isinstance(decided, Plan), decided
    return probe, decided, jobs_for(local_source(path), decided, probe)


async def transcode(path: Path, folder: Path, settings: PlanSettings = SHORT, limits: Limits | None = None) -> Video:
    """Do everything that the platform does with a source, verification apart."""
    probe, decided, specs = await planned(path, folder, settings)
    video = Video(probe, decided, {}, DirectoryStore(folder / "store"), specs)
    for name, spec in specs.items():
        work = dataclasses.replace(job_work(folder, path, name, limits), store=video.store)
        video.results[name], _ = await finish(spec, work)
    return video


def job_work(folder: Path, path: Path, name: str, limits: Limits | None = None) -> Work:
    """Return the surroundings of one job: the store is shared, prefix and directory are its own."""
    work = local_work(folder, path, prefix=attempt_prefix("v", name, 1), limits=limits)
    directory = folder / "jobs" / name
    directory.mkdir(parents=True, exist_ok=True)
    return dataclasses.replace(work, directory=directory)


async def verify(video: Video, folder: Path) -> VerifyResult:
    """Run the verification."""
    result, _ = await finish(video.verify_spec, job_work(folder, folder, "verify"))
    assert isinstance(result, VerifyResult)
    return result


def encode_specs(specs: dict[str, JobSpec]) -> list[EncodeSpec]:
    """Return the chunks."""
    return [spec for spec in specs.values() if isinstance(spec, EncodeSpec)]


def audio_specs(specs: dict[str, JobSpec]) -> list[AudioSpec]:
    """Return the sound tracks."""
    return [spec for spec in specs.values() if isinstance(spec, AudioSpec)]


# --- playing --------------------------------------------------------------------------------------------------------


def ffmpeg(*arguments: str) -> bytes:
    """Run ffmpeg with its output on standard output; whatever it complains about is an error."""
    done = subprocess.run([ffmpeg_path(), "-nostdin", "-v", "warning", *arguments, "-"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert not done.stderr, done.stderr.decode()[-3000:]
    return done.stdout


def times_and_pictures(path: Path) -> list[tuple[int, str]]:
    """Return (time in ticks of the file, digest) of every picture that a player shows."""
    own_times = ("-fps_mode", "passthrough", "-enc_time_base", "demux")
    text = ffmpeg("-copyts", "-i", str(path), "-map", "0:v", *own_times, "-f", "framemd5").decode()
    rows = [row.split(",") for row in text.splitlines() if not row.startswith("#")]
    return [(int(row[2]), row[-1].strip()) for row in rows]


def samples(path: Path) -> list[int]:
    """Return the sound as a player puts it out: mono, 48,000 samples a second, from time 0."""
    raw = ffmpeg("-i", str(path), "-map", "0:a", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "s16le")
    return list(memoryview(raw).cast("h"))


def onset_ms(path: Path, threshold: int = 1000) -> float:
    """Return when it is first loud."""
    return 1000 * next(at for at, value in enumerate(samples(path)) if abs(value) > threshold) / SAMPLE_RATE_HZ


def decoded_frames(url: str) -> int:
    """Play an address as a player does; return how many frames came out."""
    command = [ffmpeg_path(), "-v", "error", "-xerror", "-i", url, "-map", "0:v:0", "-f", "null", "-progress", "-", "-"]
    played = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not played.stderr, played.stderr
    return int([line for line in played.stdout.splitlines() if line.startswith("frame=")][-1].removeprefix("frame="))
