"""Makes the thumbnail, and WebVTT of the text subtitles."""

from collections.abc import AsyncIterator
from pathlib import Path

from events.jobs import ExtrasResult, ExtrasSpec
from events.media import ObjectRef, Subtitle, SubtitlePlan
from workers import failures
from workers.transcode.argv import decoding, reading
from workers.transcode.process import ProcessResult, run_process
from workers.transcode.progress import Meter
from workers.transcode.results import ResultDocument, store_result
from workers.work import Done, Progress, Update, Work, WorkFailed

TIMEOUT_S = 600.0
THUMBNAIL_WIDTH_MAX = 640


async def run(spec: ExtrasSpec, work: Work) -> AsyncIterator[Update]:
    """Make both; a picture or a track that cannot be had is left out, and a warning says so: the video plays without."""
    source, _digest = await work.sources.fetch(spec.source)
    warnings: list[str] = []
    thumbnail = None
    if spec.thumbnail_ms is not None:
        thumbnail = await _thumbnail(spec, source, work)
        if thumbnail is None:
            warnings.append("no picture for a thumbnail could be taken from the video")
    yield Progress("extras", 50.0)
    subtitles = []
    for plan in spec.subtitles:
        subtitle = await _subtitle(plan, spec, source, work)
        if subtitle is None:
            warnings.append(f"subtitle track {plan.label} could not be converted to WebVTT")
        else:
            subtitles.append(subtitle)
    document = ResultDocument(thumbnail=thumbnail, subtitles=tuple(subtitles), warnings=tuple(warnings))
    result = await store_result(document, work)
    yield Done(ExtrasResult(thumbnail=thumbnail, subtitles=tuple(subtitles), result=result, warnings=tuple(warnings)))


async def _thumbnail(spec: ExtrasSpec, source: Path, work: Work) -> ObjectRef | None:
    """Return a JPEG of the picture at `thumbnail_ms`, else of the first picture; None when no picture decodes."""
    target = work.directory / "thumbnail.jpg"
    scale = f"scale='min({THUMBNAIL_WIDTH_MAX},iw)':-2:out_color_matrix=bt601:out_range=full"
    chain = ",".join((*spec.filters, scale, "format=yuvj420p"))
    at = (spec.start_ms + (spec.thumbnail_ms or 0)) / 1000
    for seek in (["-seek_timestamp", "1", "-ss", f"{at:.3f}"], []):
        argv = reading(work.ffmpeg, None, source, work.limits.threads, *decoding(spec.decoder), *seek)
        argv += ["-map", f"0:{spec.track}", "-vf", chain, "-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]
        argv += ["-frames:v", "1", "-update", "1", "-q:v", "4", "-f", "image2", str(target)]
        result = await _run(argv, work)
        if result.ok and target.exists() and target.stat().st_size:
            return await work.store.put_file(f"{work.prefix}/thumbnail.jpg", target, "image/jpeg")
    return None


async def _subtitle(plan: SubtitlePlan, spec: ExtrasSpec, source: Path, work: Work) -> Subtitle | None:
    """Return the track as WebVTT whose time 0 is that of the plan; None when it cannot be converted."""
    target = work.directory / f"{plan.name}.vtt"
    argv = reading(work.ffmpeg, None, source, work.limits.threads)
    argv += ["-map", f"0:{plan.track}", "-c:s", "webvtt", "-map_metadata", "-1"]
    argv += ["-output_ts_offset", f"{-spec.start_ms / 1000:.3f}", "-f", "webvtt", str(target)]
    result = await _run(argv, work)
    if not result.ok or not target.exists():
        return None
    stored = await work.store.put_file(f"{work.prefix}/{target.name}", target, "text/vtt")
    return Subtitle(
        name=plan.name, language=plan.language, label=plan.label, default=plan.default, forced=plan.forced, object=stored
    )


async def _run(argv: list[str], work: Work) -> ProcessResult:
    """Run ffmpeg. Raises WorkFailed when another attempt may fare better: the machine failed, not the file."""
    result = await run_process(
        argv, cwd=work.directory, limits=work.limits, on_stdout_line=Meter().read, stall_s=TIMEOUT_S, timeout_s=TIMEOUT_S
    )
    if not result.ok:
        failure = failures.classify("encoding", result)
        if failure.category in ("resource_exhaustion", "timeout", "system_environment") and failure.retryable:
            raise WorkFailed(failure)
    return result
