"""Makes the thumbnail, and WebVTT of the text subtitles."""

from collections.abc import AsyncIterator
from pathlib import Path

from events.jobs import ExtrasResult, ExtrasSpec
from events.media import ObjectRef, Subtitle, SubtitlePlan
from workers.failures import classify
from workers.transcode.probe import CONTAINERS
from workers.transcode.process import run_process
from workers.transcode.results import ResultDocument
from workers.work import Done, Progress, Update, Work, WorkFailed

TIMEOUT_S = 600.0
THUMBNAIL_WIDTH_MAX = 640


async def run(spec: ExtrasSpec, work: Work) -> AsyncIterator[Update]:
    """Make both; a subtitle track that cannot be converted fails the job with its name."""
    source, _digest = await work.sources.fetch(spec.source)
    thumbnail = await _thumbnail(spec, source, work) if spec.thumbnail_ms is not None else None
    yield Progress("extras", 50.0)
    subtitles = tuple([await _subtitle(plan, spec, source, work) for plan in spec.subtitles])
    document = ResultDocument(thumbnail=thumbnail, subtitles=subtitles).model_dump_json(exclude_none=True).encode()
    result = await work.store.put_bytes(f"{work.prefix}/result.json", document, "application/json")
    yield Done(ExtrasResult(thumbnail=thumbnail, subtitles=subtitles, result=result))


def _reading(work: Work) -> list[str]:
    return [
        *(work.ffmpeg, "-nostdin", "-hide_banner", "-y", "-v", "warning"),
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-copyts"),
    ]


async def _thumbnail(spec: ExtrasSpec, source: Path, work: Work) -> ObjectRef | None:
    """Return a JPEG of the picture at `thumbnail_ms`, else of the first picture; None when no picture decodes."""
    target = work.directory / "thumbnail.jpg"
    scale = f"scale='min({THUMBNAIL_WIDTH_MAX},iw)':-2"
    chain = ",".join((*spec.filters, scale, "format=yuvj420p"))
    at = (spec.start_ms + (spec.thumbnail_ms or 0)) / 1000
    for seek in (["-seek_timestamp", "1", "-ss", f"{at:.3f}"], []):
        argv = [*_reading(work), *seek, "-i", f"file:{source}", "-map", f"0:{spec.track}", "-vf", chain]
        argv += ["-frames:v", "1", "-update", "1", "-q:v", "4", "-f", "image2", str(target)]
        result = await run_process(argv, cwd=work.directory, limits=work.limits, stall_s=TIMEOUT_S, timeout_s=TIMEOUT_S)
        if result.ok and target.exists() and target.stat().st_size:
            return await work.store.put_file(f"{work.prefix}/thumbnail.jpg", target, "image/jpeg")
    if not result.ok:
        raise WorkFailed(classify("encoding", result, code="THUMBNAIL", message="No picture could be taken from the video."))
    return None


async def _subtitle(plan: SubtitlePlan, spec: ExtrasSpec, source: Path, work: Work) -> Subtitle:
    target = work.directory / f"{plan.name}.vtt"
    argv = [*_reading(work), "-i", f"file:{source}", "-map", f"0:{plan.track}", "-c:s", "webvtt"]
    argv += ["-output_ts_offset", f"{-spec.start_ms / 1000:.3f}", "-f", "webvtt", str(target)]
    result = await run_process(argv, cwd=work.directory, limits=work.limits, stall_s=TIMEOUT_S, timeout_s=TIMEOUT_S)
    if not result.ok:
        message = f"Subtitle track {plan.label} could not be converted to WebVTT."
        raise WorkFailed(classify("encoding", result, code="SUBTITLE", message=message))
    stored = await work.store.put_file(f"{work.prefix}/{target.name}", target, "text/vtt")
    return Subtitle(
        name=plan.name, language=plan.language, label=plan.label, default=plan.default, forced=plan.forced, object=stored
    )
