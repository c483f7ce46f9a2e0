"""Values that several events share: the contents of a source, its encoding plan, the output.

Times are milliseconds or frames, sizes bytes, rates kbit/s; fractions are text, `"30000/1001"`.
"""

from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from events.envelope import Value
from events.text import MachineLine, MachineProse, machine_line, machine_prose

FailureStage = Literal["upload", "analysis", "crf_search", "encoding", "post_processing"]
StreamingFormat = Literal["cmaf", "hls_ts"]
VideoCodec = Literal["h264", "hevc", "av1"]
SOFTWARE_ENCODERS: dict[VideoCodec, str] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
"""ffmpeg's names; a hardware encoder is named `{codec}_{family}`, such as `h264_nvenc`."""
SOFTWARE_PRESET, SVT_PRESET = "veryfast", "10"
"""Presets of the software encoder that replaces hardware."""


class ObjectRef(Value):
    """An object in the store; `sha256` is lower-case hex of its bytes."""

    key: str
    size_bytes: int
    sha256: str


ALPHA = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8", "ayuv", "vuya")
"""Pixel formats with an alpha channel begin so."""


class VideoTrack(Value):
    """The video stream in use. Width and height are coded; display_* are after cropping, rotation and pixel aspect.

    `start_ms` is the container's own timestamp of the first picture. `frame_rate` is measured from the usual distance
    between two pictures; `frame_count` counts the packets that are shown. `keyframe_interval_ms` is the longest stretch
    after a key frame, `gap_ms` the longest time that one picture stays. A stream that is not `seekable` is read from its start.
    `field_order` applies to interlaced pictures that do not carry it themselves. `decoder` is ffmpeg's name of the decoder
    that sees everything, the alpha channel too, if it is not the default one. `captions`: the pictures carry closed captions
    (CEA-608/708). `opaque`: none of the pictures that were looked at uses its alpha channel.
    """

    index: int
    codec: str
    profile: str | None = None
    width: int
    height: int
    display_width: int
    display_height: int
    rotation_degrees: int = 0
    sample_aspect_ratio: str = "1:1"
    frame_rate: str
    variable_frame_rate: bool = False
    frame_count: int | None = None
    pixel_format: str
    bit_depth: int = 8
    color_primaries: str | None = None
    color_transfer: str | None = None
    color_space: str | None = None
    color_range: str | None = None
    hdr: Literal["pq", "hlg"] | None = None
    interlaced: bool = False
    field_order: Literal["tff", "bff"] | None = None
    premultiplied: bool = False
    opaque: bool = False
    captions: bool = False
    decoder: str | None = None
    start_ms: int = 0
    duration_ms: int
    keyframe_interval_ms: int | None = None
    gap_ms: int = 0
    seekable: bool = True

    @property
    def has_alpha(self) -> bool:
        """Whether the pictures have an alpha channel."""
        return self.pixel_format.startswith(ALPHA)


class AudioTrack(Value):
    """One audio stream. `language` is as found, `und` when absent; plans have RFC 5646 tags. `start_ms`: its first timestamp.

    `channel_layout` is ffmpeg's name, `unknown` when the source does not identify its channels. `profile` is ffmpeg's description
    of the variant, such as `Dolby Digital Plus + Dolby Atmos`; None in analyses from before it was kept.
    """

    index: int
    codec: str
    profile: MachineLine | None = None
    channels: int
    channel_layout: MachineLine = "unknown"
    sample_rate_hz: int
    language: MachineLine = "und"
    title: MachineLine | None = None
    default: bool = False
    start_ms: int = 0
    duration_ms: int


class SubtitleTrack(Value):
    """One subtitle stream. Text becomes WebVTT; image subtitles are listed and stay in the source."""

    index: int
    codec: str
    kind: Literal["text", "image"]
    language: MachineLine = "und"
    title: MachineLine | None = None
    default: bool = False
    forced: bool = False


class Attachment(Value):
    """A file inside the container (a font, a cover); it stays in the source."""

    index: int
    filename: MachineLine | None = None
    media_type: MachineLine | None = None


class ClockPiece(Value):
    """A stretch of a source between two jumps of its clock: the timestamps `from_ms` to `to_ms` are shown `shift_ms` later.

    A source whose clock never jumps has no pieces. The first piece's shift is 0; each piece begins where the previous one ended.
    """

    from_ms: int
    to_ms: int
    shift_ms: int


class Probe(Value):
    """Measured properties of a source: ffprobe plus a demux of every packet. `duration_ms` is the playable duration."""

    container: str
    duration_ms: int
    declared_duration_ms: int | None = None
    size_bytes: int
    sha256: str
    video: VideoTrack | None = None
    audio: tuple[AudioTrack, ...] = ()
    subtitles: tuple[SubtitleTrack, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    chapters: int = 0
    clock: tuple[ClockPiece, ...] = ()
    warnings: tuple[MachineLine, ...] = ()


PEAK = 1.5
"""Ratio of a rung's peak rate to its target rate; the encoder's buffer holds two seconds of the target rate."""


class Rung(Value):
    """One step of the ladder; even width and height, never above the source."""

    name: str
    width: int
    height: int
    video_kbps: int
    audio_kbps: int


class Chunk(Value):
    """A part of the video, a whole number of segments (the last may be short). Frames count from 0 at constant rate."""

    index: int
    start_frame: int
    frames: int
    first_segment: int
    segments: int


class Cut(Value):
    """Rule for the starts of the chunks, in a few numbers: a plan for two days is as small as one for a minute.

    `frames` counts those of the whole video, `chunk_segments` the segments of a chunk, `first_segments` the segments of the
    first chunk if they differ. Each following chunk is `growth` times as long as the one before it, until one has
    `chunk_segments`; older plans have no `growth`: only their first chunk is short. See `chunks`.
    """

    frames: int = Field(ge=1)
    chunk_segments: int = Field(ge=1)
    first_segments: int | None = Field(None, ge=1)
    growth: int | None = Field(None, ge=2)


@lru_cache(maxsize=64)
def chunks(cut: Cut, segment_frames: int) -> tuple[Chunk, ...]:
    """Cut a video into chunks of whole segments. Only the last segment may be short; the first chunks may be, to be ready soon.

    A remainder shorter than half a segment makes no chunk of its own: it is one more segment of the previous chunk.
    """
    starts, at, segments = [], 0, min(cut.first_segments or cut.chunk_segments, cut.chunk_segments)
    while at < cut.frames:
        starts.append(at)
        at += segments * segment_frames
        segments = min(segments * cut.growth, cut.chunk_segments) if cut.growth else cut.chunk_segments
    frames = cut.frames
    if len(starts) > 1 and 2 * (frames - starts[-1]) < segment_frames:
        starts.pop()
    made = []
    for index, (start, end) in enumerate(pairwise([*starts, frames])):
        length = end - start
        made.append(
            Chunk(
                index=index,
                start_frame=start,
                frames=length,
                first_segment=start // segment_frames,
                segments=ceil(length / segment_frames),
            )
        )
    return tuple(made)


class AudioPlan(Value):
    """One audio rendition: a source track at one bit rate."""

    name: str
    track: int
    language: MachineLine
    label: MachineLine
    default: bool
    channels: int
    kbps: int


class SubtitlePlan(Value):
    """One text subtitle track that becomes WebVTT. For the codec `eia_608`, `track` may be the video track that carries it."""

    name: str
    track: int
    codec: str | None = None
    language: MachineLine
    label: MachineLine
    default: bool
    forced: bool


class VideoPlan(Value):
    """Encoder family and settings of the video stream, pinned so that every worker encodes alike.

    Frame n shows the source's picture at its own timestamp `start_ms` + n / `frame_rate`. To meet the first picture of
    a chunk, reading must begin `lead_ms` earlier, or at the start. `decoder` None is the default one. `source_filters`
    receive the pictures as decoded, whose size may change. `filters` come before the split and the scaling. They expect
    timestamps whose zero is the chunk's first frame: an `fps` filter among them puts every picture on the grid (nearest),
    drops pictures before 0 and fills gaps by repetition. A frame lasts a whole number of ticks of `timescale`.
    `workers.transcode.entry` turns the plan into arguments. `fallback` gives the reason when software encodes everything
    although hardware was planned. `cut` is the rule for the chunks; older plans have none and list them. A segment has a key
    frame every `gop_frames`; None: only one, at its beginning.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    track: int
    codec: VideoCodec
    encoder: str
    preset: str
    pixel_format: str
    frame_rate: str
    timescale: int
    segment_frames: int
    start_ms: int = 0
    lead_ms: int = 0
    clock: tuple[ClockPiece, ...] = ()
    decoder: str | None = None
    source_filters: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    rungs: tuple[Rung, ...]
    listed: tuple[Chunk, ...] = Field((), alias="chunks")
    fallback: MachineLine | None = None
    cut: Cut | None = None
    gop_frames: int | None = None

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All chunks, in order."""
        return self.listed if self.cut is None else chunks(self.cut, self.segment_frames)


def is_hardware(encoder: str) -> bool:
    """Return whether an encoder needs a graphics card."""
    return encoder not in SOFTWARE_ENCODERS.values()


def in_software(plan: VideoPlan, why: str) -> VideoPlan:
    """Return the plan for its codec's software encoder, with that encoder's preset instead of the hardware's. Pure."""
    encoder = SOFTWARE_ENCODERS[plan.codec]
    preset = SVT_PRESET if encoder == "libsvtav1" else SOFTWARE_PRESET
    return plan.model_copy(update={"encoder": encoder, "preset": preset, "fallback": why})


class LadderStep(Value):
    """A height of the ladder, of a picture's shorter side, and its bit rates."""

    height: int
    video_kbps: int
    audio_kbps: int


LADDER = tuple(
    LadderStep(height=height, video_kbps=video, audio_kbps=audio)
    for height, video, audio in (
        (2160, 15000, 192),
        (1440, 8000, 192),
        (1080, 5000, 128),
        (720, 2500, 128),
        (480, 1000, 96),
        (360, 600, 96),
    )
)
"""VLog's ladder: contracts §1.2."""


class PlanSettings(Value):
    """An operator's settings for the plan of a video, fixed when its analysis begins. Lengths in seconds.

    A source longer than `length_max_s`, or with a picture that stands for more than `gap_max_s`, is refused: its clock jumps.
    Of each kind of track the first `tracks_max` are used, with names of at most `name_max` characters. `encoder` None is the
    codec's software encoder. Analyses without settings, of older versions, have these defaults.
    """

    segment_s: float = 6.0
    chunk_s: float = 60.0
    format: StreamingFormat = "cmaf"
    codec: VideoCodec = "h264"
    preset: str = "veryfast"
    hdr: Literal["tonemap", "keep"] = "tonemap"
    encoder: str | None = None
    chunks_max: int = 1000
    length_max_s: float = 72 * 3600.0
    gap_max_s: float = 6 * 3600.0
    tracks_max: int = 32
    name_max: int = 200
    ladder: tuple[LadderStep, ...] = LADDER


class Plan(Value):
    """All output of one source, decided once from its probe.

    Its time 0 is the source's own timestamp `start_ms`; `thumbnail_ms` and `duration_ms` count from there.
    """

    format: StreamingFormat
    start_ms: int = 0
    duration_ms: int
    segment_ms: int
    video: VideoPlan | None = None
    audio: tuple[AudioPlan, ...] = ()
    subtitles: tuple[SubtitlePlan, ...] = ()
    thumbnail_ms: int | None = None
    notes: tuple[MachineLine, ...] = ()


class Segment(Value):
    """One media segment of a rendition. `number` counts from 0 over the whole video; `duration` is in the rendition's timescale."""

    number: int
    duration: int
    object: ObjectRef


class Rendition(Value):
    """Segments that one job made of one rung or audio rendition. `codecs` is an RFC 6381 string; `init` is None for TS."""

    name: str
    kind: Literal["video", "audio"]
    codecs: str
    timescale: int
    init: ObjectRef | None = None
    segments: tuple[Segment, ...]
    frames: int | None = None


class Subtitle(Value):
    """One WebVTT file."""

    name: str
    language: MachineLine
    label: MachineLine
    default: bool
    forced: bool
    object: ObjectRef


FailureCategory = Literal[
    "file_access",
    "mediainfo_parsing",
    "validation",
    "vmaf_calculation",
    "crf_optimization",
    "size_limits",
    "preset_retry",
    "process_failure",
    "resource_exhaustion",
    "codec_issues",
    "timeout",
    "file_operations",
    "sync_integration",
    "cleanup",
    "configuration",
    "system_environment",
    "unknown",
]
"""Reencodarr's 17 categories (contracts §1.5). New events use one of them; older events on the log have other words, too."""


class ToolVersion(Value):
    """A program or library that an attempt used, with its own name for its version."""

    name: MachineLine
    version: MachineLine


class SystemContext(Value):
    """Surroundings of an attempt when it failed; unknown values are None or empty.

    `command` is the tool's command line, without secrets; `.` in it is the attempt's own directory. `signal` is the number
    of the signal that ended the tool. `load_1m` is the mean length of the run queue over a minute.
    """

    worker: MachineLine | None = None
    command: tuple[MachineProse, ...] = ()
    signal: int | None = None
    cpu_count: int | None = None
    load_1m: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    tools: tuple[ToolVersion, ...] = ()


class Failure(Value):
    """Cause of a failed attempt. `message` is a sentence for a person; `detail` has the tail of the tool's own output."""

    stage: FailureStage
    category: Annotated[str, machine_line(100)]
    code: Annotated[str, machine_line(100)]
    message: Annotated[str, machine_prose(2000)] = Field(max_length=2000)
    detail: MachineProse | None = Field(None, max_length=8000)
    exit_code: int | None = None
    retryable: bool = True
    context: SystemContext | None = None
