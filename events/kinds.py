"""Kinds of work: the spec of a job, its result, and the table `KINDS` with the other properties of each kind.

A kind is a spec, a result, and a row in the table. The guards of the worker app, the fence around objects, progress,
capsules, settings and the reference all derive from these three.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, cast

from pydantic import Field

from events.envelope import Value
from events.media import (
    AudioPlan,
    Chunk,
    ClockPiece,
    Failure,
    FailureStage,
    ObjectRef,
    Plan,
    PlanSettings,
    Probe,
    Rendition,
    Subtitle,
    SubtitlePlan,
    VideoPlan,
)
from events.objects import video_prefix
from events.text import MachineLine

JobKind = Literal["analyse", "encode", "audio", "extras", "verify", "rerun"]


class Requirements(Value):
    """Properties that a worker needs for a job; its `Capabilities` must cover each field. `not_worker` never gets the job."""

    kind: JobKind
    encoder: str | None = None
    height: int | None = None
    vram_bytes: int | None = None
    not_worker: str | None = None


class Capabilities(Value):
    """Abilities of a worker. `gpu` workers get jobs first."""

    kinds: tuple[JobKind, ...]
    encoders: tuple[MachineLine, ...] = ()
    height_max: int = 4320
    vram_bytes: int = 0
    gpu: bool = False


# --- specs ----------------------------------------------------------------------------------------------------------


class Spec(Value):
    """Instructions for one job. `kind` is a literal in each subclass."""

    kind: str

    def words(self) -> str:
        """Return a short description of the job for a person."""
        return self.kind

    def renditions_made(self) -> tuple[str, ...]:
        """Return the names of the renditions that the job makes."""
        return ()

    def requirements(self) -> Requirements:
        """Return the requirements on a worker."""
        return Requirements(kind=cast(JobKind, self.kind))


class Source(Value):
    """The uploaded file that a job reads.

    `etag` is the store's from the completion of the upload: an object that was replaced since is noticed.
    """

    object_key: str
    size_bytes: int
    sha256: str | None = None
    etag: str | None = None


class AnalyseSpec(Spec):
    """Analyse the source. `settings` are for the plan that follows: a later change does not reach it."""

    kind: Literal["analyse"] = "analyse"
    source: Source
    settings: PlanSettings | None = None

    def words(self) -> str:
        """See `Spec`."""
        return "analysis"


class EncodeSpec(Spec):
    """Encode one chunk of the video stream into every rung, in one decode."""

    kind: Literal["encode"] = "encode"
    source: Source
    format: Literal["cmaf", "hls_ts"]
    plan: VideoPlan
    chunk: Chunk

    def words(self) -> str:
        """See `Spec`."""
        return f"chunk {self.chunk.index}"

    def renditions_made(self) -> tuple[str, ...]:
        """See `Spec`."""
        return tuple(rung.name for rung in self.plan.rungs)

    def requirements(self) -> Requirements:
        """Return the requirements on a worker: the plan's encoder and the height of the largest rung."""
        return Requirements(kind=self.kind, encoder=self.plan.encoder, height=max(rung.height for rung in self.plan.rungs))


class AudioSpec(Spec):
    """Encode one audio track into its renditions, in one decode: `duration_ms` from the timestamp `start_ms`.

    `channels` and `channel_layout` are those of the source (0: unknown, in older specs). A track is `optional` when the video has
    pictures or other sound; if it cannot be decoded, it becomes silence, and the result carries a warning.

    A job on a long track makes the segments from `first_segment` up to, but not including, `end_segment` (None: to the end). It
    encodes from the beginning all the same, so that the pieces join to the bytes of one run.
    """

    kind: Literal["audio"] = "audio"
    source: Source
    format: Literal["cmaf", "hls_ts"]
    segment_ms: int
    start_ms: int = 0
    duration_ms: int
    renditions: tuple[AudioPlan, ...]
    channels: int = 0
    channel_layout: MachineLine = "unknown"
    optional: bool = False
    clock: tuple[ClockPiece, ...] = ()
    first_segment: int = Field(0, ge=0)
    end_segment: int | None = Field(None, ge=1)

    @property
    def end_ms(self) -> int:
        """The approximate end of the piece: sound is cut at the end of a frame."""
        return self.duration_ms if self.end_segment is None else min(self.duration_ms, self.end_segment * self.segment_ms)

    def words(self) -> str:
        """See `Spec`."""
        track = f"audio track {self.renditions[0].track}" if self.renditions else "audio"
        return f"{track} from segment {self.first_segment}" if self.first_segment else track

    def renditions_made(self) -> tuple[str, ...]:
        """See `Spec`."""
        return tuple(rendition.name for rendition in self.renditions)


class ExtrasSpec(Spec):
    """Make the thumbnail and convert the text subtitles; their time 0 is the source's timestamp `start_ms`.

    `clock` lists the stretches of a source whose clock jumps; `start_ms` is then on the joined clock. `demuxer` is ffmpeg's
    name of the source's format. `decoder` is ffmpeg's name of the picture decoder, set only when it is not the default one.
    """

    kind: Literal["extras"] = "extras"
    source: Source
    track: int | None = None
    start_ms: int = 0
    thumbnail_ms: int | None = None
    demuxer: str | None = None
    decoder: str | None = None
    filters: tuple[str, ...] = ()
    subtitles: tuple[SubtitlePlan, ...] = ()
    clock: tuple[ClockPiece, ...] = ()

    def words(self) -> str:
        """See `Spec`."""
        return "thumbnail and subtitles"

    def renditions_made(self) -> tuple[str, ...]:
        """See `Spec`."""
        return tuple(subtitle.name for subtitle in self.subtitles)


class VerifySpec(Spec):
    """Read all output again; `results` are the result.json objects that the finished jobs wrote."""

    kind: Literal["verify"] = "verify"
    plan: Plan
    results: tuple[ObjectRef, ...]

    def words(self) -> str:
        """See `Spec`."""
        return "verification"


Repeatable = AnalyseSpec | EncodeSpec | AudioSpec | ExtrasSpec | VerifySpec
"""Every kind of work except the rerun, which repeats one of these."""
RepeatableSpec = Annotated[Repeatable, Field(discriminator="kind")]


class RerunSpec(Spec):
    """Repeat a failed attempt for the record only: no output is kept. `failed` is the original failure."""

    kind: Literal["rerun"] = "rerun"
    failure_id: str
    failed: Failure
    spec: RepeatableSpec

    def words(self) -> str:
        """See `Spec`."""
        return f"rerun of {self.failure_id}"

    def requirements(self) -> Requirements:
        """Return the requirements of the repeated work, with the kind `rerun`."""
        return self.spec.requirements().model_copy(update={"kind": self.kind})


JobSpec = Annotated[Repeatable | RerunSpec, Field(discriminator="kind")]


# --- results --------------------------------------------------------------------------------------------------------


class AnalyseResult(Value):
    """The probe of the source."""

    kind: Literal["analyse"] = "analyse"
    probe: Probe


class Earlier(Value):
    """Totals of the parts that were reported before the result."""

    parts: int = Field(ge=1)
    segments: int = Field(ge=0)
    size_bytes: int = Field(ge=0)


class MediaResult(Value):
    """Output of an encode or audio job; `result` is the result.json that repeats this in the store.

    When one record cannot hold all segments, those counted in `earlier` are in events of their own (`PartAccepted`).

    `warnings` are sentences for a person about concealed damage in the source. `encoder` is the encoder that was used;
    when it is not the plan's, `fallback` gives the reason.
    """

    kind: Literal["media"] = "media"
    renditions: tuple[Rendition, ...]
    result: ObjectRef
    encoder: MachineLine = ""
    fallback: MachineLine | None = None
    warnings: tuple[MachineLine, ...] = ()
    earlier: Earlier | None = None


class ExtrasResult(Value):
    """Thumbnail and subtitles. `warnings` are sentences for a person about anything that could not be made."""

    kind: Literal["extras"] = "extras"
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()
    result: ObjectRef
    warnings: tuple[MachineLine, ...] = ()


class VerifyResult(Value):
    """All output was read again and is correct. `warnings` are those of all jobs."""

    kind: Literal["verify"] = "verify"
    duration_ms: int
    rungs: tuple[str, ...]
    thumbnail: ObjectRef | None = None
    warnings: tuple[MachineLine, ...] = ()


class RerunResult(Value):
    """Outcome of a rerun: `failure`, or success when it is None, after `seconds`."""

    kind: Literal["rerun"] = "rerun"
    seconds: float
    failure: Failure | None = None


MakingResult = AnalyseResult | MediaResult | ExtrasResult | VerifyResult
"""Results that make up a video. mypy lists the folds that a new one touches; these folds skip results of other kinds."""

JobResult = Annotated[MakingResult | RerunResult, Field(discriminator="kind")]

# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work. It fails in `stage`; `weight` is its share of a video's progress (0: not part of making one).

    A `light` kind takes little of a machine: a worker does it beside an encoding, so that nobody waits for a long chunk.
    """

    spec: type[Spec]
    result: type[Value]
    stage: FailureStage
    weight: float = 0.0
    light: bool = False

    @property
    def keeps_objects(self) -> bool:
        """Whether it writes objects, and their list into a result.json. Any other kind names only objects of other jobs."""
        return "result" in self.result.model_fields

    @property
    def in_parts(self) -> bool:
        """Whether its result may be reported in parts, before the end."""
        return "earlier" in self.result.model_fields


def foreign(kind: Kind, named: Iterable[ObjectRef], *, video_id: str, attempt: str) -> list[str]:
    """Return the keys of the named objects that lie outside the result's fence, which is the attempt's own prefix.

    A kind that keeps no objects may name objects of its video's other jobs, as a verification names the thumbnail.
    """
    fence = attempt if kind.keeps_objects else video_prefix(video_id)
    return [ref.key for ref in named if not ref.key.startswith(fence) or "/." in ref.key]


KINDS: Mapping[JobKind, Kind] = MappingProxyType(
    {
        "analyse": Kind(AnalyseSpec, AnalyseResult, "analysis", weight=2.0, light=True),
        "encode": Kind(EncodeSpec, MediaResult, "encoding", weight=90.0),
        "audio": Kind(AudioSpec, MediaResult, "encoding", weight=3.0, light=True),
        "extras": Kind(ExtrasSpec, ExtrasResult, "encoding", weight=1.0, light=True),
        "verify": Kind(VerifySpec, VerifyResult, "post_processing", weight=4.0, light=True),
        "rerun": Kind(RerunSpec, RerunResult, "encoding"),
    }
)
"""Every kind of work. A worker claims the kinds for which it has a slot (setting `worker_slots`), by these names."""
