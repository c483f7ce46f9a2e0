"""Makes the thumbnail, and WebVTT files from the text subtitles."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from events.kinds import ExtrasResult, ExtrasSpec
from events.media import ObjectRef, Subtitle, SubtitlePlan
from workers.attempts import failures
from workers.attempts.process import ProcessResult, run_process
from workers.attempts.work import Done, Progress, Update, Work, WorkFailed
from workers.transcode import captions
from workers.transcode.argv import decoding, reading
from workers.transcode.clock import in_source, joined_time, joining
from workers.transcode.progress import Meter
from workers.transcode.results import ResultDocument, store_result

TIMEOUT_S = 600.0
CAPTIONS_TIMEOUT_S = 3600.0
"""Time limit for captions inside the pictures, which requires decoding all of them; a slower video plays without captions."""
THUMBNAIL_WIDTH_MAX = 640
TEXT_MAX_BYTES = 16 * 2**20
EXTRACTED = {codec: (kind, "copy") for codec, kind in (("webvtt", "webvtt"), ("subrip", "srt"), ("ass", "ass"), ("ssa", "ass"))}
"""Codec of a track -> format and encoder of its extraction; ffmpeg decodes all other codecs to ASS."""
CAPTIONS = "eia_608"
STYLES_MAX = 5
"""Maximum number of styles per track that warnings name."""


async def run(spec: ExtrasSpec, work: Work) -> AsyncIterator[Update]:
    """Make both. A picture or track that cannot be made is left out with a warning: the video plays without it."""
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
        subtitle, unread = await _subtitle(plan, spec, source, work)
        warnings += [
            f"subtitle track {plan.label}: the style {style[:60]!r} could not be read in full" for style in unread[:STYLES_MAX]
        ]
        if subtitle is None and _is_inside(plan, spec):
            warnings.append("closed captions inside the pictures say nothing, or could not be read")
        elif subtitle is None:
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
    at = in_source(spec.clock, spec.start_ms + (spec.thumbnail_ms or 0)) / 1000
    for seek in (["-seek_timestamp", "1", "-ss", f"{at:.3f}"], []):
        argv = reading(work.ffmpeg, None, source, work.limits.threads, *decoding(spec.decoder), *seek)
        argv += ["-map", f"0:{spec.track}", "-vf", chain, "-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]
        argv += ["-frames:v", "1", "-update", "1", "-q:v", "4", "-f", "image2", str(target)]
        result = await _run(argv, work)
        if result.ok and target.exists() and target.stat().st_size:
            return await work.store.put_file(f"{work.prefix}thumbnail.jpg", target, "image/jpeg")
    return None


def _is_inside(plan: SubtitlePlan, spec: ExtrasSpec) -> bool:
    """Return whether the subtitles are captions inside the pictures."""
    return plan.codec == CAPTIONS and plan.track == spec.track


async def _subtitle(plan: SubtitlePlan, spec: ExtrasSpec, source: Path, work: Work) -> tuple[Subtitle | None, tuple[str, ...]]:
    """Return the track as WebVTT with the plan's time 0, and the styles that could not be read in full.

    There is no track when it cannot be converted, or when captions have no text.
    """
    kind, codec = EXTRACTED.get(plan.codec or "", ("ass", "ass"))
    raw, target = work.directory / f"{plan.name}.{kind}", work.directory / f"{plan.name}.vtt"
    inside = _is_inside(plan, spec)
    if inside:
        argv = _captions_argv(spec, source, work)
    else:
        argv = [*reading(work.ffmpeg, None, source, work.limits.threads), "-map", f"0:{plan.track}", *joining(spec.clock)]
    argv += ["-c:s", codec, "-map_metadata", "-1", "-avoid_negative_ts", "disabled"]
    argv += ["-output_ts_offset", f"{-spec.start_ms / 1000:.3f}"] if kind == "webvtt" else []
    result = await _run([*argv, "-f", kind, str(raw)], work, may_take_long=inside)
    if not result.ok or not raw.exists() or raw.stat().st_size > TEXT_MAX_BYTES:
        return None, ()
    text, unread = await asyncio.to_thread(_converted, raw, kind, spec.start_ms, copied=codec == "copy")
    if inside and "-->" not in text:
        return None, ()
    target.write_text(text)
    stored = await work.store.put_file(f"{work.prefix}{target.name}", target, "text/vtt")
    made = Subtitle(
        name=plan.name, language=plan.language, label=plan.label, default=plan.default, forced=plan.forced, object=stored
    )
    return made, unread


def _captions_argv(spec: ExtrasSpec, source: Path, work: Work) -> list[str]:
    """Return the beginning of the command that reads captions inside the pictures, by decoding the pictures.

    Captions follow the clock of their pictures. `movie` opens the file by a name that needs no escapes, as the format that the
    analysis found. It may open only files.
    """
    (work.directory / "source").symlink_to(source)
    demuxer = f":f={spec.demuxer}" if spec.demuxer is not None else ""
    opened = f"movie=source{demuxer}:si={spec.track}:dec_threads={work.limits.threads}:format_opts=protocol_whitelist=file"
    joined = f",settb=AVTB,setpts={joined_time(spec.clock, '0')}" if spec.clock else ""
    quiet = ("-nostdin", "-hide_banner", "-y", "-v", "level+error", "-progress", "pipe:1", "-nostats")
    return [work.ffmpeg, *quiet, "-copyts", "-f", "lavfi", "-i", f"{opened}{joined}[out+subcc]", "-map", "0:s"]


def _converted(raw: Path, kind: str, start_ms: int, *, copied: bool) -> tuple[str, tuple[str, ...]]:
    data = raw.read_bytes()
    match kind:
        case "webvtt":
            return captions.repaired(captions.decoded(data)), ()
        case "srt":
            return captions.webvtt(captions.from_srt(data), start_ms), ()
        case _:
            script = captions.from_ass(captions.decoded(data), comments=copied)
            return captions.webvtt(script.cues, start_ms), script.unread


async def _run(argv: list[str], work: Work, *, may_take_long: bool = False) -> ProcessResult:
    """Run ffmpeg. Raises WorkFailed when another attempt may succeed: the machine failed, not the file."""
    timeout_s = CAPTIONS_TIMEOUT_S if may_take_long else TIMEOUT_S
    result = await run_process(
        argv, cwd=work.directory, limits=work.limits, on_stdout_line=Meter().read, stall_s=timeout_s, timeout_s=timeout_s
    )
    if not result.ok and not (may_take_long and result.cut is not None):
        failure = failures.classify("encoding", result)
        if failure.category in ("resource_exhaustion", "timeout", "system_environment") and failure.retryable:
            raise WorkFailed(failure)
    return result
