"""What encoding in chunks costs, against one bare run of ffmpeg with the same ladder and settings."""

import asyncio
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from events.kinds import AnalyseSpec, EncodeSpec
from events.media import Plan, PlanSettings, Probe, Rung
from infra.runtime.settings import Settings
from processors.planning.plan import jobs_for
from processors.planning.plan import plan as decide
from tests.bench.figures import Figure
from tests.support.work import ffmpeg_path, local_source, local_work
from workers.attempts.work import NICENESS, Done, Work
from workers.kinds import RUNNERS
from workers.transcode.argv import encode_argv

SECONDS = 20
RUNS = 3


async def _run(spec: object, work: Work, kind: str) -> Done:
    work.directory.mkdir(parents=True, exist_ok=True)
    async for update in RUNNERS[kind](spec, work):
        if isinstance(update, Done):
            return update
    raise AssertionError("no result")


async def encode_overhead(_settings: Settings) -> Sequence[Figure]:
    """Encode a 1080p clip, decoded again for verification, against the bare command: as one chunk, and as a beginning."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _source(folder / "source.mp4")
        work = local_work(folder, source)
        work = replace(work, limits=replace(work.limits, threads=0))
        analysed = (await _run(AnalyseSpec(source=local_source(source)), work, "analyse")).result
        assert analysed.kind == "analyse"
        plan = decide(analysed.probe, PlanSettings(segment_s=5))
        whole = decide(analysed.probe, PlanSettings(segment_s=5, chunks_max=1))
        assert isinstance(plan, Plan) and isinstance(whole, Plan)
        chunks = _encodings(source, plan, analysed.probe)
        (one,) = _encodings(source, whole, analysed.probe)
        ours, growing, bare, apart = [], [], [], []
        for run in range(RUNS):
            ours.append(await _encoded([one], replace(work, directory=folder / f"ours-{run}")))
            growing.append(await _encoded(chunks, replace(work, directory=folder / f"growing-{run}")))
            bare.append(run_bare(one, source, folder / f"bare-{run}"))
            rungs = [_with_rungs(one, [rung]) for rung in one.plan.rungs]
            apart.append(sum(run_bare(spec, source, folder / f"rung-{run}-{spec.plan.rungs[0].name}") for spec in rungs))
    return [
        Figure("encode and verify a chunk / one bare ffmpeg", "s", ours, 1.25, at_least=False, baseline=bare),
        Figure(f"the same in {len(chunks)} chunks, as at the beginning of a video", "s", growing, baseline=bare),
        Figure("a run of ffmpeg per rung / all rungs in one decode", "s", apart, baseline=bare),
    ]


async def _encoded(specs: Sequence[EncodeSpec], work: Work) -> float:
    """Return the seconds of encoding chunks one after the other."""
    begun = perf_counter()
    for index, spec in enumerate(specs):
        place = replace(work, directory=work.directory / str(index), prefix=f"videos/{work.directory.name}/{index}/")
        await _run(spec, place, "encode")
    return perf_counter() - begun


def _with_rungs(spec: EncodeSpec, rungs: Sequence[Rung]) -> EncodeSpec:
    return spec.model_copy(update={"plan": spec.plan.model_copy(update={"rungs": tuple(rungs)})})


async def bare_run(source: Path, folder: Path) -> float:
    """Return the seconds of one ffmpeg that makes the ladder that we would make of a source, in one piece."""
    work = local_work(folder, source)
    analysed = (await _run(AnalyseSpec(source=local_source(source)), work, "analyse")).result
    assert analysed.kind == "analyse"
    plan = decide(analysed.probe, PlanSettings(chunks_max=1))
    assert isinstance(plan, Plan)
    (one,) = _encodings(source, plan, analysed.probe)
    return await asyncio.to_thread(run_bare, one, source, folder / "bare")


def _source(path: Path) -> Path:
    recipe = ["-f", "lavfi", "-i", f"testsrc2=s=1920x1080:r=25:d={SECONDS}", "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run([ffmpeg_path(), "-v", "error", *recipe, "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


def _encodings(source: Path, plan: Plan, probe: Probe) -> list[EncodeSpec]:
    return [spec for spec in jobs_for(local_source(source), plan, probe).values() if isinstance(spec, EncodeSpec)]


def run_bare(spec: EncodeSpec, source: Path, directory: Path) -> float:
    argv, outputs = encode_argv(ffmpeg_path(), spec, source, directory, 0)
    for output in outputs:
        output.directory.mkdir(parents=True)
    begun = perf_counter()
    subprocess.run(["nice", "-n", str(NICENESS), *argv], check=True, capture_output=True)  # as a worker's, should others work here
    return perf_counter() - begun
