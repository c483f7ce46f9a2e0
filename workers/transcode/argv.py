"""Command lines of ffmpeg (7 or newer): one decode, every rendition, segments numbered by the plan. Pure.

Chunks that are encoded separately must join without stitching:

- Groups of pictures are closed and of fixed length, without scene cuts.
- Each chunk has its own time (`-output_ts_offset`). `-avoid_negative_ts` must not undo it; `frag_discont` makes the first
  fragment keep it.
- Headers are equal for all runs and machines: `+bitexact`, and x265 `info=0`, as its headers otherwise name the machine's
  cores.

Sources change midway: broadcasts switch from 4:3 to 16:9, and from stereo to 5.1. ffmpeg then rebuilds its filters, and
filters that count time start from zero: pictures are lost, and a track gets silence as long as its past. So the picture
filters are never rebuilt (`-reinit_filter 0`), behind a `scale` that keeps the first size. A first graph, which may be
rebuilt, converts sound to one format; a second one, behind a loopback decoder (`-dec`), times it and is never rebuilt.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path

from events.kinds import AudioSpec, EncodeSpec
from events.media import PEAK, Rung, StreamingFormat, VideoPlan
from workers.transcode.accepted import CONTAINERS
from workers.transcode.encoders import device_argv, family_of, upload
from workers.transcode.entry import Entry, enter_chunk, enter_sound
from workers.transcode.mixing import LIMITER, mix

AUDIO_RATE_HZ = 48_000
AAC_PRIMING = 1024
"""Samples that an AAC encoder inserts at the start. As many are cut off the source, so all later sound keeps its time and no
player needs edit lists; the first 21 ms are lost."""
READ_ON_MS = 10_000
"""Reading continues this far past the end of a piece of sound."""
DAMAGED_SHARE_MAX = 0.5
"""Share of a part's packets that may fail to decode; the previous picture replaces them. Above it, the job fails."""

TS_ORIGIN_S = 10
"""Clock of a transport stream at the video's time 0: decoding times are never negative. Players subtract it."""

NAMES = {"cmaf": ".m4s", "hls_ts": ".ts"}
FORMATS = {".m4s": "mp4", ".ts": "mpegts"}
PLAYLIST = "index.m3u8"
INIT = "init.mp4"


@dataclass(frozen=True, slots=True)
class Output:
    """One rendition that a command makes in `directory`: `init.mp4`, `00000.m4s` … (`.ts` for hls_ts)."""

    name: str
    kind: str
    directory: Path
    suffix: str

    @property
    def playlist(self) -> Path:
        """The playlist that ffmpeg writes at its end."""
        return self.directory / PLAYLIST


def encode_argv(ffmpeg: str, spec: EncodeSpec, source: Path, directory: Path, threads: int) -> tuple[list[str], list[Output]]:
    """Return the command that encodes a chunk into every rung, and its outputs. `threads` 0 lets ffmpeg choose."""
    plan, chunk = spec.plan, spec.chunk
    entry = enter_chunk(plan, chunk)
    rate = Fraction(plan.frame_rate)
    chain = ",".join((*entry.filters, *plan.source_filters, "scale", *plan.filters, *entry.padding))
    names = [f"v{index}" for index in range(len(plan.rungs))]
    graph = f"[0:{plan.track}]{chain},split={len(names)}" + "".join(f"[s{name}]" for name in names)
    for name, rung in zip(names, plan.rungs, strict=True):
        graph += (
            f";[s{name}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1,{upload(plan.encoder, plan.pixel_format)}[{name}]"
        )
    argv = [
        *reading(ffmpeg, entry, source, threads, *device_argv(plan.encoder), *decoding(plan.decoder), "-reinit_filter", "0"),
        *_filtering(graph, threads),
    ]
    outputs = []
    for name, rung in zip(names, plan.rungs, strict=True):
        output = _output(rung.name, "video", directory, spec.format)
        outputs.append(output)
        segment_s = Fraction(floor(plan.segment_frames / rate * 1_000_000), 1_000_000)  # not more: the muxer counts from the start
        argv += ["-map", f"[{name}]", *_video_codec(plan, rung, threads), *entry.output]
        argv += ["-r", plan.frame_rate, "-video_track_timescale", str(plan.timescale)]
        argv += _hls(output, segment_s, chunk.first_segment, Fraction(chunk.start_frame) / rate)
    return argv, outputs


def audio_argv(
    ffmpeg: str, spec: AudioSpec, source: Path, directory: Path, *, silent: bool = False
) -> tuple[list[str], list[Output]]:
    """Return the command that encodes a sound track into its renditions, and its outputs; `silent` reads no source."""
    entry = enter_sound(spec)
    track = spec.renditions[0].track
    layout = "mono" if spec.renditions[0].channels == 1 else "stereo"
    moved, *timed = entry.filters
    one_format = f"aformat=sample_fmts=flt:sample_rates={AUDIO_RATE_HZ}:channel_layouts={layout}"
    to_one_format = ",".join(filter(None, (moved, mix(spec.channel_layout, spec.channels), one_format)))
    cut = (f"atrim=start_sample={AAC_PRIMING}", "asetpts=N/SR/TB")
    chain = ",".join((*timed, LIMITER, "aformat=sample_fmts=fltp", *entry.padding, *cut))
    names = [f"a{index}" for index in range(len(spec.renditions))]
    graph = f"{chain},asplit={len(names)}" + "".join(f"[{name}]" for name in names)
    if silent:
        argv = [*_reporting(ffmpeg), "-f", "lavfi", "-i", f"anullsrc=r={AUDIO_RATE_HZ}:cl={layout}"]
        argv += _filtering(f"[0:0]{graph}", threads=1)
    else:
        argv = reading(ffmpeg, entry, source, threads=1)
        argv += ["-map", f"0:{track}", "-af", to_one_format, "-c:a", "pcm_f32le", *_enough(spec), "-f", "null", "-"]
        argv += ["-dec", "0:0", *_filtering(f"[dec:0]{graph}", threads=1)]
    outputs = []
    for name, rendition in zip(names, spec.renditions, strict=True):
        output = _output(rendition.name, "audio", directory, spec.format)
        outputs.append(output)
        argv += ["-map", f"[{name}]", "-c:a", "aac", "-b:a", f"{rendition.kbps}k", *entry.output]
        argv += _hls(output, Fraction(spec.segment_ms, 1000), 0, None)
    return argv, outputs


def _enough(spec: AudioSpec) -> list[str]:
    """Return the options that end reading after a piece. The last piece reads to the end, and alone judges damage."""
    if spec.end_segment is None:
        return []
    return ["-t", f"{(spec.end_ms + READ_ON_MS) / 1000:.3f}", "-max_error_rate", "1"]


def decode_argv(ffmpeg: str, suffix: str, threads: int) -> list[str]:
    """Return the command that decodes a rendition in full, from standard input, and fails at the first fault.

    It skips deblocking, which reads no bits and so finds no fault.
    """
    return [
        *(ffmpeg, "-hide_banner", "-v", "level+error", "-xerror", "-protocol_whitelist", "pipe", "-threads", str(threads)),
        *("-skip_loop_filter", "all", "-err_detect", "explode", "-f", FORMATS[suffix], "-i", "pipe:0"),
        *("-progress", "pipe:1", "-nostats", "-stats_period", "0.5", "-f", "null", "-"),
    ]


def reading(ffmpeg: str, entry: Entry | None, source: Path, threads: int, *more: str) -> list[str]:
    """Return the beginning of every command that reads a source: local files only, in accepted containers.

    `verbose` messages carry levels and the statistics of streams; `workers.attempts.failures` reads both.
    """
    return [
        *_reporting(ffmpeg),
        *("-max_error_rate", str(DAMAGED_SHARE_MAX)),
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-threads", str(threads)),
        *(entry.input if entry is not None else ("-copyts",)),
        *more,
        *("-i", f"file:{source}"),
    ]


def decoding(decoder: str | None) -> tuple[str, ...]:
    """Return the options that choose a decoder of pictures, before the input."""
    return () if decoder is None else ("-c:v", decoder)


def _reporting(ffmpeg: str) -> list[str]:
    """Return the beginning of a command that reports progress."""
    return [
        *(ffmpeg, "-nostdin", "-hide_banner", "-y", "-v", "level+verbose"),
        *("-progress", "pipe:1", "-nostats", "-stats_period", "0.5"),
    ]


def _filtering(graph: str, threads: int) -> list[str]:
    return [*(["-filter_complex_threads", str(threads)] if threads else []), "-filter_complex", graph]


def _output(name: str, kind: str, directory: Path, streaming_format: StreamingFormat) -> Output:
    return Output(name, kind, directory / name, NAMES[streaming_format])


def _video_codec(plan: VideoPlan, rung: Rung, threads: int) -> list[str]:
    """Return encoder and rate control; groups of pictures are closed, and a segment is a whole number of them.

    The headers must not depend on `threads`: x265 writes its row mode (`wpp`) and its machine (`info`) into them.
    """
    keyint = plan.gop_frames or plan.segment_frames
    rate = ["-b:v", f"{rung.video_kbps}k", "-maxrate", f"{int(rung.video_kbps * PEAK)}k", "-bufsize", f"{rung.video_kbps * 2}k"]
    common = ["-c:v", plan.encoder, "-preset", plan.preset, "-pix_fmt", plan.pixel_format, "-threads", str(threads)]
    groups = f"scenecut=0:keyint={keyint}:min-keyint={keyint}:open-gop=0"
    match plan.encoder:
        case "libx264":
            return [*common, *rate, "-x264-params", groups]
        case "libx265":
            pools = f":pools={threads}" if threads else ""
            return [*common, *rate, "-tag:v", "hvc1", "-x265-params", f"log-level=error:info=0:wpp=1:{groups}{pools}"]
        case "libsvtav1":
            lp = f":lp={threads}" if threads else ""
            params = f"keyint={keyint}:scd=0:irefresh-type=2:rc=1{lp}"
            return [*common, "-b:v", f"{rung.video_kbps}k", "-svtav1-params", params]
        case _:
            pass  # hardware
    groups_of_hardware = [*rate, "-g", str(keyint), "-bf", "0"]
    match family_of(plan.encoder):
        case "vaapi" | "videotoolbox":
            return ["-c:v", plan.encoder, *groups_of_hardware]
        case "qsv":
            return ["-c:v", plan.encoder, "-preset", plan.preset, *groups_of_hardware, "-idr_interval", "0", "-forced_idr", "1"]
        case _:
            return [*common, *groups_of_hardware, "-forced-idr", "1", "-no-scenecut", "1"]


def _hls(output: Output, segment_s: Fraction, first: int, offset: Fraction | None) -> list[str]:
    """Return the muxer's options: a segment gets its final name once it is complete (`temp_file`).

    `offset` is the start of the part in seconds; None for sound, whose first packet, the encoder's own, must be at 0.
    """
    plain = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]
    muxer = ["-f", "hls", "-hls_time", f"{float(segment_s):.6f}", "-hls_playlist_type", "vod"]
    muxer += ["-hls_flags", "temp_file+independent_segments", "-start_number", str(first)]
    if output.suffix == ".ts":
        begins = TS_ORIGIN_S + (Fraction(AAC_PRIMING, AUDIO_RATE_HZ) if offset is None else offset)
        offset_option = _at(begins)
        kind = ["-hls_segment_type", "mpegts", "-hls_segment_options", "mpegts_flags=+initial_discontinuity"]
    else:
        offset_option = [] if offset is None else _at(offset)
        flags = "movflags=+cmaf" if offset is None else "movflags=+cmaf+frag_discont"
        kind = ["-hls_segment_type", "fmp4", "-hls_segment_options", flags, "-hls_fmp4_init_filename", INIT]
    names = ["-hls_segment_filename", str(output.directory / f"%05d{output.suffix}"), str(output.playlist)]
    return [*plain, *offset_option, *muxer, *kind, *names]


def _at(seconds: Fraction) -> list[str]:
    return ["-output_ts_offset", f"{float(seconds):.6f}", "-avoid_negative_ts", "disabled"]
