"""Values that several events share: what a source is made of, how it will be encoded, what came out.

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
"""ffmpeg's names; an encoder of hardware is named `{codec}_{family}`, as `h264_nvenc`."""
SOFTWARE_PRESET, SVT_PRESET = "veryfast", "10"
"""Of the encoder that stands in for hardware."""


class ObjectRef(Value):
    """An object in the store; `sha256` is lower-case hex of its bytes."""

    key: str
    size_bytes: int
    sha256: str


class VideoTrack(Value):
    """The video stream that is used. Width and height are coded; display_* are after cropping, rotation and pixel aspect.

    `start_ms` is the container's own timestamp of the first picture. `frame_rate` is that of the usual distance between
    two pictures, measured; `frame_count` counts the packets that are shown. `keyframe_interval_ms` is the longest stretch
    that follows a key frame, `gap_ms` the longest that a picture stands. What is not `seekable` is read from its start.
    `field_order` is that of interlaced pictures that do not say so themselves. `decoder` is ffmpeg's name of the one that
    sees everything, where it is not the usual one. `captions`: closed captions (CEA-608/708) lie inside the pictures.
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
    captions: bool = False
    decoder: str | None = None
    start_ms: int = 0
    duration_ms: int
    keyframe_interval_ms: int | None = None
    gap_ms: int = 0
    seekable: bool = True


class AudioTrack(Value):
    """One audio stream. `language` is as found, `und` when absent; plans have tags of RFC 5646. `start_ms`: its first timestamp.

    `channel_layout` is ffmpeg's name, `unknown` when nothing says which channel is which.
    """

    index: int
    codec: str
    channels: int
    channel_layout: MachineLine = "unknown"
    sample_rate_hz: int
    language: MachineLine = "und"
    title: MachineLine | None = None
    default: bool = False
    start_ms: int = 0
    duration_ms: int


class SubtitleTrack(Value):
    """One subtitle stream: text ones become WebVTT, image ones are listed and kept in the source."""

    index: int
    codec: str
    kind: Literal["text", "image"]
    language: MachineLine = "und"
    title: MachineLine | None = None
    default: bool = False
    forced: bool = False


class Attachment(Value):
    """A file inside the container (a font, a cover); kept in the source."""

    index: int
    filename: MachineLine | None = None
    media_type: MachineLine | None = None


class ClockPiece(Value):
    """A stretch of a source between two jumps of its clock: the timestamps `from_ms` to `to_ms` are shown `shift_ms` later.

    A source whose clock runs through has none. The first one's shift is 0; each next begins where the one before ended.
    """

    from_ms: int
    to_ms: int
    shift_ms: int


class Probe(Value):
    """What a source is, measured: ffprobe plus a demux of every packet. `duration_ms` is what can be played."""

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
"""Peak rate over target rate of a rung; the encoder's buffer holds two seconds of the target rate."""


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
    """Where the chunks begin: a rule of a few numbers, so that a plan is as small for two days as for a minute.

    `frames` is the whole video's, `chunk_segments` how many segments a chunk has, `first_segments` how many the first one
    has when that is another number; see `chunks`.
    """

    frames: int = Field(ge=1)
    chunk_segments: int = Field(ge=1)
    first_segments: int | None = Field(None, ge=1)


@lru_cache(maxsize=64)
def chunks(frames: int, segment_frames: int, segments_per_chunk: int, first_segments: int | None = None) -> tuple[Chunk, ...]:
    """Cut `frames` into chunks of whole segments; only the last segment may be short, and the first chunk, to be there soon.

    A rest shorter than half a segment makes no chunk of its own: it is one more segment of the chunk before it.
    """
    assert frames > 0 and segment_frames > 0 and segments_per_chunk > 0
    chunk_frames = segment_frames * segments_per_chunk
    first_frames = segment_frames * (first_segments or segments_per_chunk)
    starts = [0, *range(first_frames, frames, chunk_frames)]
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
    """One text subtitle track that becomes WebVTT; `track` of `eia_608` may be that of the pictures which carry it."""

    name: str
    track: int
    codec: str | None = None
    language: MachineLine
    label: MachineLine
    default: bool
    forced: bool


class VideoPlan(Value):
    """How every worker encodes the video stream, alike: pinned encoder family and settings.

    Frame n shows what the source shows at its own timestamp `start_ms` + n / `frame_rate`. To meet the first picture of
    a chunk, reading must begin `lead_ms` earlier, or at the start. `decoder` None is the usual one. `source_filters` see the
    pictures as they are decoded, of changing sizes. `filters` come before the split and the scaling; they expect
    timestamps whose zero is the chunk's first frame: an `fps` filter among them puts every picture on the grid
    (nearest), leaves out what is before 0 and fills gaps by repetition. A frame lasts a whole number of ticks of
    `timescale`. `workers.transcode.entry` turns this into arguments. `fallback` says why software encodes all of it
    after hardware was planned. `cut` is the rule for the chunks; older plans have none and list them. A segment has a key
    frame every `gop_frames`; None for one at its beginning alone.
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
        return (
            self.listed
            if self.cut is None
            else chunks(self.cut.frames, self.segment_frames, self.cut.chunk_segments, self.cut.first_segments)
        )


def is_hardware(encoder: str) -> bool:
    """Tell whether an encoder needs a card."""
    return encoder not in SOFTWARE_ENCODERS.values()


def in_software(plan: VideoPlan, why: str) -> VideoPlan:
    """Return the plan as the software encoder of its codec carries it out; its preset was for hardware. Pure."""
    encoder = SOFTWARE_ENCODERS[plan.codec]
    preset = SVT_PRESET if encoder == "libsvtav1" else SOFTWARE_PRESET
    return plan.model_copy(update={"encoder": encoder, "preset": preset, "fallback": why})


class Plan(Value):
    """Everything that is made from one source, decided once from its probe.

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
    """One media segment of a rendition. `number` counts over the whole video from 0; `duration` is in the rendition's timescale."""

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
"""Reencodarr's 17 (contracts §1.5). What is written today is one of them; the log has older words, too."""


class ToolVersion(Value):
    """A program or library that an attempt used, as it names its own version."""

    name: MachineLine
    version: MachineLine


class SystemContext(Value):
    """What was around a failed attempt when it failed; what could not be told is None or empty.

    `command` is the tool's command line, without secrets; `.` in it is the attempt's own directory. `signal` is the number
    of the one that ended it. `load_1m` is the mean length of the run queue over a minute.
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
    """Why an attempt failed. `message` is a sentence for a person; `detail` has the tail of the tool's own words."""

    stage: FailureStage
    category: Annotated[str, machine_line(100)]
    code: Annotated[str, machine_line(100)]
    message: Annotated[str, machine_prose(2000)] = Field(max_length=2000)
    detail: MachineProse | None = Field(None, max_length=8000)
    exit_code: int | None = None
    retryable: bool = True
    context: SystemContext | None = None
