"""The command lines of ffmpeg: one decode, every rendition, segments numbered by the plan. Pure.

Chunks that are encoded apart must join without stitching: closed groups of pictures of fixed length, no scene cuts,
every chunk at its own place in time (`-output_ts_offset`, which `-avoid_negative_ts` must not undo; `frag_discont` makes
the first fragment keep it), nothing in the headers that differs between runs (`+bitexact`).
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from events.jobs import AudioSpec, EncodeSpec
from events.media import Rung, VideoPlan
from workers.transcode.entry import enter_chunk, enter_sound
from workers.transcode.probe import CONTAINERS

AUDIO_RATE_HZ = 48_000
AAC_PRIMING = 1024
"""Samples that an AAC encoder puts before the first one. They are cut off the source, so that the rest is in place."""
PEAK = 1.5
"""Peak rate over target rate of a rung; the buffer holds two seconds of the target rate."""


@dataclass(frozen=True, slots=True)
class Output:
    """One rendition that a command makes in `directory`: `init.mp4`, `00000.m4s` … (`.ts` for hls_ts)."""

    name: str
    kind: str
    directory: Path
    suffix: str


def encode_argv(ffmpeg: str, spec: EncodeSpec, source: Path, directory: Path, threads: int) -> tuple[list[str], list[Output]]:
    """Return the command that encodes a chunk into every rung, and what it makes."""
    plan, chunk = spec.plan, spec.chunk
    entry = enter_chunk(plan, chunk)
    rate = Fraction(plan.frame_rate)
    chain = ",".join((*entry.filters, *plan.filters, *entry.padding))
    names = [f"v{index}" for index in range(len(plan.rungs))]
    graph = f"[0:{plan.track}]{chain},split={len(names)}" + "".join(f"[s{name}]" for name in names)
    for name, rung in zip(names, plan.rungs, strict=True):
        graph += f";[s{name}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1,format={plan.pixel_format}[{name}]"
    argv = [*_reading(ffmpeg, threads, entry.input, source), "-filter_complex", graph]
    outputs = []
    for name, rung in zip(names, plan.rungs, strict=True):
        output = _output(rung.name, "video", directory, spec.format)
        outputs.append(output)
        offset = Fraction(chunk.start_frame) / rate
        segment_s = (plan.segment_frames - Fraction(1, 2)) / rate
        argv += ["-map", f"[{name}]", *_video_codec(plan, rung, threads), *entry.output]
        argv += ["-r", plan.frame_rate, "-video_track_timescale", str(plan.timescale)]
        argv += _hls(output, spec.format, segment_s, chunk.first_segment, offset)
    return argv, outputs


def audio_argv(ffmpeg: str, spec: AudioSpec, source: Path, directory: Path) -> tuple[list[str], list[Output]]:
    """Return the command that encodes a whole sound track into its renditions, and what it makes."""
    entry = enter_sound(spec)
    layout = "mono" if spec.renditions[0].channels == 1 else "stereo"
    chain = [
        *entry.filters,
        f"aformat=sample_fmts=fltp:sample_rates={AUDIO_RATE_HZ}:channel_layouts={layout}",
        *entry.padding,
        f"atrim=start_sample={AAC_PRIMING}",
        "asetpts=N/SR/TB",
    ]
    names = [f"a{index}" for index in range(len(spec.renditions))]
    track = spec.renditions[0].track
    graph = f"[0:{track}]{','.join(chain)},asplit={len(names)}" + "".join(f"[{name}]" for name in names)
    argv = [*_reading(ffmpeg, 1, entry.input, source), "-filter_complex", graph]
    outputs = []
    for name, rendition in zip(names, spec.renditions, strict=True):
        output = _output(rendition.name, "audio", directory, spec.format)
        outputs.append(output)
        argv += ["-map", f"[{name}]", "-c:a", "aac", "-b:a", f"{rendition.kbps}k", *entry.output]
        argv += _hls(output, spec.format, Fraction(spec.segment_ms, 1000), 0, None)
    return argv, outputs


def decode_argv(ffmpeg: str, playlist: Path) -> list[str]:
    """Return the command that decodes a rendition in full and ends with an error at the first fault."""
    return [
        *(ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-xerror", "-protocol_whitelist", "file,crypto"),
        *("-allowed_extensions", "ALL", "-err_detect", "explode", "-i", f"file:{playlist}"),
        *("-progress", "pipe:1", "-nostats", "-f", "null", "-"),
    ]


def _reading(ffmpeg: str, threads: int, entry: tuple[str, ...], source: Path) -> list[str]:
    return [
        *(ffmpeg, "-nostdin", "-hide_banner", "-y", "-v", "warning", "-progress", "pipe:1", "-nostats", "-stats_period", "0.5"),
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-threads", str(threads)),
        *entry,
        *("-i", f"file:{source}"),
    ]


def _output(name: str, kind: str, directory: Path, streaming_format: str) -> Output:
    return Output(name, kind, directory / name, ".ts" if streaming_format == "hls_ts" else ".m4s")


def _video_codec(plan: VideoPlan, rung: Rung, threads: int) -> list[str]:
    """Return encoder and rate control; groups of pictures are closed and exactly one segment long."""
    keyint = plan.segment_frames
    rate = ["-b:v", f"{rung.video_kbps}k", "-maxrate", f"{int(rung.video_kbps * PEAK)}k", "-bufsize", f"{rung.video_kbps * 2}k"]
    common = ["-c:v", plan.encoder, "-preset", plan.preset, "-pix_fmt", plan.pixel_format, "-threads", str(threads)]
    match plan.encoder:
        case "libx264":
            params = f"scenecut=0:keyint={keyint}:min-keyint={keyint}:open-gop=0"
            return [*common, *rate, "-x264-params", params]
        case "libx265":
            pools = f":pools={threads}" if threads else ""
            params = f"log-level=error:scenecut=0:keyint={keyint}:min-keyint={keyint}:open-gop=0{pools}"
            return [*common, *rate, "-tag:v", "hvc1", "-x265-params", params]
        case "libsvtav1":
            target = ["-b:v", f"{rung.video_kbps}k"]
            params = f"keyint={keyint}:scd=0:irefresh-type=2:rc=1" + (f":lp={threads}" if threads else "")
            return [*common, *target, "-svtav1-params", params]
        case _:
            return [*common, *rate, "-g", str(keyint), "-forced-idr", "1", "-no-scenecut", "1"]


def _hls(output: Output, streaming_format: str, segment_s: Fraction, first: int, offset: Fraction | None) -> list[str]:
    """Return the muxer: finished segments appear under their final name at once (`temp_file`)."""
    place = [] if offset is None else ["-output_ts_offset", f"{float(offset):.6f}", "-avoid_negative_ts", "disabled"]
    plain = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]
    muxer = [
        "-f",
        "hls",
        "-hls_time",
        f"{float(segment_s):.6f}",
        "-hls_playlist_type",
        "vod",
        "-hls_flags",
        "temp_file+independent_segments",
    ]
    if streaming_format == "hls_ts":
        kind = ["-hls_segment_type", "mpegts"]
    else:
        flags = "movflags=+cmaf+frag_discont" if offset is not None else "movflags=+cmaf"
        kind = ["-hls_segment_type", "fmp4", "-hls_segment_options", flags, "-hls_fmp4_init_filename", "init.mp4"]
    names = ["-start_number", str(first), "-hls_segment_filename", str(output.directory / f"%05d{output.suffix}")]
    return [*plain, *place, *muxer, *kind, *names, str(output.directory / "index.m3u8")]
