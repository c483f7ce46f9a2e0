"""Analyses a source: fetches it, refuses files that are no video, reads its headers, packet times and some pictures.

It runs short processes: ffprobe for headers, ffprobe for every packet, and ffmpeg for a few pictures, decoded as the encoder
will decode them. Each may read one local file in an accepted container, within the limits of `process`.
"""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

from events.kinds import AnalyseResult, AnalyseSpec
from events.media import Failure, Probe, VideoTrack
from producers.probes import bounded
from workers.attempts.failures import after, classify, is_of_machine, refused
from workers.attempts.process import ProcessResult, run_process
from workers.attempts.work import Done, Progress, Update, Work, WorkFailed
from workers.transcode import matroska
from workers.transcode.accepted import CONTAINERS, encrypted, is_scrambled, refusal, unreadable
from workers.transcode.clock import in_source
from workers.transcode.joined import recordings_in
from workers.transcode.packets import PacketScan
from workers.transcode.pictures import Sample, as_decoded, sample_argv, sample_moments
from workers.transcode.probe import MATROSKA, Headers, parse_headers, probe_of, with_languages

HEAD_BYTES = 64 * 1024
HEADERS_MAX_CHARS = 16 * 2**20
HEADERS_TIMEOUT_S = 120.0
SAMPLE_TIMEOUT_S = 120.0
PROGRESS_S = 1.0

QUIET = ("-v", "error", "-threads", "1", "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS)
HEADERS = ("-show_streams", "-show_format", "-show_programs", "-show_chapters", "-of", "json")
PACKETS = (
    *("-show_entries", "packet=stream_index,pts,dts,duration,flags:packet_side_data=side_data_type"),
    *("-of", "csv=p=0"),
)


async def run(spec: AnalyseSpec, work: Work) -> AsyncIterator[Update]:
    """Measure the source. Raises WorkFailed with stage `analysis` when the source can never be published or a tool failed."""
    path, sha256 = await work.sources.fetch(spec.source)
    if spec.source.sha256 not in (None, sha256):
        message = "The stored file is not the one that was sent: its SHA-256 differs."
        raise WorkFailed(refused("analysis", "FILE_DIGEST", message, category="file_access", retryable=False))
    head, size_bytes = await asyncio.to_thread(_head, path)
    if failure := refusal(head, size_bytes):
        raise WorkFailed(failure)
    headers = await _headers(path, head, work)
    if headers.format.get("format_name") == MATROSKA:
        headers = with_languages(headers, await asyncio.to_thread(matroska.languages_of, path))
    scan = headers.scan()
    scanning = asyncio.create_task(_scan(path, headers, scan, work))
    try:
        while not (await asyncio.wait({scanning}, timeout=PROGRESS_S))[0]:
            yield Progress("analyse", _percent(headers, scan))
        result = scanning.result()
    finally:
        scanning.cancel()
        await asyncio.gather(scanning, return_exceptions=True)
    if failure := _tool_failure(result):
        raise WorkFailed(failure)
    if not scan.streams and not result.ok:
        raise WorkFailed(after(unreadable(result.stderr_tail, head), result))
    files = await asyncio.to_thread(recordings_in, path)
    probe = probe_of(headers, scan, size_bytes=size_bytes, sha256=sha256, files=files, complaints=result.stderr_tail)
    if (isinstance(probe, Failure) or (probe.video is None and headers.has_pictures)) and is_scrambled(head):
        probe = encrypted()
    if isinstance(probe, Failure):
        raise WorkFailed(after(probe, result))
    if probe.video is not None:
        probe = probe.model_copy(update={"video": await _decoded(path, probe.video, work)})
    if probe.video is not None and probe.video.seekable and not await _can_be_entered(path, probe, probe.video, work):
        probe = probe.model_copy(update={"video": probe.video.model_copy(update={"seekable": False})})
    probe, cut = bounded(probe)
    yield Done(AnalyseResult(probe=probe.model_copy(update={"warnings": (*probe.warnings, *(f"{note}." for note in cut))})))


async def _can_be_entered(path: Path, probe: Probe, track: VideoTrack, work: Work) -> bool:
    """Return whether reading can begin in the middle: ffmpeg finds a picture after seeking there.

    ffmpeg seeks by the stream that it takes for the main one. It finds none when that is a cover or lists no key frame.
    """
    middle_s = in_source(probe.clock, track.start_ms + track.duration_ms // 2) / 1000
    argv = [work.ffmpeg, "-nostdin", *QUIET, "-copyts", "-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{middle_s:.6f}"]
    argv += ["-i", f"file:{path}", "-map", f"0:{track.index}", "-frames:v", "1", "-f", "framecrc", "-"]
    lines: list[str] = []
    result = await run_process(
        argv, cwd=work.directory, limits=work.limits, on_stdout_line=lines.append, timeout_s=HEADERS_TIMEOUT_S
    )
    return result.ok and any(not line.startswith("#") for line in lines)


async def _headers(path: Path, head: bytes, work: Work) -> Headers:
    lines: list[str] = []
    budget = HEADERS_MAX_CHARS

    def keep(line: str) -> None:
        nonlocal budget
        budget -= len(line) + 1
        if budget < 0:
            message = "The file's headers are larger than any real video's."
            raise WorkFailed(refused("analysis", "HEADERS_TOO_LARGE", message, retryable=False))
        lines.append(line)

    argv = [work.ffprobe, *QUIET, *HEADERS, f"file:{path}"]
    result = await run_process(
        argv,
        cwd=work.directory,
        limits=work.limits,
        on_stdout_line=keep,
        line_max_bytes=HEADERS_MAX_CHARS,  # a comment may have a chapter's length, and a cut line is no JSON
        timeout_s=HEADERS_TIMEOUT_S,
    )
    if failure := _tool_failure(result):
        raise WorkFailed(failure)
    headers = parse_headers("\n".join(lines))
    if headers is None or not result.ok:
        raise WorkFailed(after(unreadable(result.stderr_tail, head), result))
    return headers


async def _scan(path: Path, headers: Headers, scan: PacketScan, work: Work) -> ProcessResult:
    """Fold every packet into `scan`."""
    argv = [work.ffprobe, *QUIET, *PACKETS, f"file:{path}"]
    result = await run_process(argv, cwd=work.directory, limits=work.limits, on_stdout_line=scan.add)
    scan.finish()
    return result


async def _decoded(path: Path, track: VideoTrack, work: Work) -> VideoTrack:
    """Return the track, corrected by a sample of its decoded pictures."""

    async def sample(at_s: Fraction | None) -> Sample:
        seen = Sample()
        argv = sample_argv(work.ffmpeg, path, track, work.limits.threads, at_s)
        result = await run_process(
            argv,
            cwd=work.directory,
            limits=work.limits,
            on_stderr_line=seen.add,
            stall_s=SAMPLE_TIMEOUT_S,
            timeout_s=SAMPLE_TIMEOUT_S,
        )
        if result.cut is not None or result.signal is not None:
            raise WorkFailed(classify("analysis", result).model_copy(update={"retryable": True}))
        return seen

    return as_decoded(track, await asyncio.gather(*map(sample, sample_moments(track))))


def _percent(headers: Headers, scan: PacketScan) -> float:
    """Return the progress of the scan by time, at most 99: declared durations may be wrong."""
    reached = [
        float(times.end * headers.time_base(index) - headers.start_s)
        for index, times in scan.streams.items()
        if times.end is not None
    ]
    if not headers.duration_s or not reached:
        return 0.0
    return max(0.0, min(99.0, 100 * max(reached) / float(headers.duration_s)))


def _tool_failure(result: ProcessResult) -> Failure | None:
    """Return the failure of the tool itself: cut off, killed, out of memory, or ended without a message about the file.

    Such a failure is no verdict on the file, so another attempt may succeed. When ffprobe refuses a file it prints the reason
    and exits with 1.
    """
    said_why = result.exit_code == 1 and result.stderr_tail.strip() and not is_of_machine(result.stderr_tail)
    if result.cut is None and result.signal is None and (result.exit_code == 0 or said_why):
        return None
    return classify("analysis", result).model_copy(update={"retryable": True})


def _head(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES), path.stat().st_size
