"""Kinds of work: what a job is to do, what comes of it, and the table that says the rest of each kind, `KINDS`.

A kind is a spec and a result with the same `kind`, and a row in the table. Guards of the worker app, the fence around
objects, progress, capsules, settings and the reference derive from these three.
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
    """What a worker must have to take a job; a worker's `Capabilities` must cover each field. `not_worker` gets it never."""

    kind: JobKind
    encoder: str | None = None
    height: int | None = None
    vram_bytes: int | None = None
    not_worker: str | None = None


class Capabilities(Value):
    """What a worker can do. `gpu` workers go first."""

    kinds: tuple[JobKind, ...]
    encoders: tuple[MachineLine, ...] = ()
    height_max: int = 4320
    vram_bytes: int = 0
    gpu: bool = False


# --- specs ----------------------------------------------------------------------------------------------------------


class Spec(Value):
    """What a job is to do. `kind` is a literal in each subclass."""

    kind: str

    def words(self) -> str:
        """Return what the job is, for a person."""
        return self.kind

    def renditions_made(self) -> tuple[str, ...]:
        """Return the names of what the job makes."""
        return ()

    def requirements(self) -> Requirements:
        """Return what a worker needs for the job."""
        return Requirements(kind=cast(JobKind, self.kind))


class Source(Value):
    """The uploaded file that a job reads. `etag` is the store's, from when its upload was completed: addresses to send it to may
    outlive that.
    """

    object_key: str
    size_bytes: int
    sha256: str | None = None
    etag: str | None = None


class AnalyseSpec(Spec):
    """Find out what the source is."""

    kind: Literal["analyse"] = "analyse"
    source: Source

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
        """Return what a worker needs: the plan's encoder, and the height of the largest rung."""
        return Requirements(kind=self.kind, encoder=self.plan.encoder, height=max(rung.height for rung in self.plan.rungs))


class AudioSpec(Spec):
    """Encode one audio track into its renditions, in one decode: `duration_ms` from the timestamp `start_ms`.

    `channels` and `channel_layout` are the source's (0: not known, as of old). When the track cannot be decoded and is
    `optional`, because there are pictures or other sound, it becomes silence, and the result says so.

    Of a long track a job makes the segments from `first_segment` up to, not including, `end_segment` (None: to the end). It
    encodes from the beginning all the same, so that the pieces join to the bytes that one run would have made.
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
        """Where the piece ends, about: sound is cut where a frame ends."""
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

    `demuxer` and `decoder` are ffmpeg's names of the source's format, and of the decoder of its pictures where that is not
    the usual one.
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

    def words(self) -> str:
        """See `Spec`."""
        return "thumbnail and subtitles"

    def renditions_made(self) -> tuple[str, ...]:
        """See `Spec`."""
        return tuple(subtitle.name for subtitle in self.subtitles)


class VerifySpec(Spec):
    """Read everything again; `results` are the result.json objects that the finished jobs wrote."""

    kind: Literal["verify"] = "verify"
    plan: Plan
    results: tuple[ObjectRef, ...]

    def words(self) -> str:
        """See `Spec`."""
        return "verification"


Repeatable = AnalyseSpec | EncodeSpec | AudioSpec | ExtrasSpec | VerifySpec
"""Every kind of work but the rerun, which does one of these once more."""
RepeatableSpec = Annotated[Repeatable, Field(discriminator="kind")]


class RerunSpec(Spec):
    """Do once more what failed, for the record only: nothing of it is kept. `failed` is how that ended."""

    kind: Literal["rerun"] = "rerun"
    failure_id: str
    failed: Failure
    spec: RepeatableSpec

    def words(self) -> str:
        """See `Spec`."""
        return f"rerun of {self.failure_id}"

    def requirements(self) -> Requirements:
        """Return what a worker needs for the work itself, and that it does reruns."""
        return self.spec.requirements().model_copy(update={"kind": self.kind})


JobSpec = Annotated[Repeatable | RerunSpec, Field(discriminator="kind")]


# --- results --------------------------------------------------------------------------------------------------------


class AnalyseResult(Value):
    """The probe of the source."""

    kind: Literal["analyse"] = "analyse"
    probe: Probe


class Earlier(Value):
    """What of a result was reported before it, in so many parts."""

    parts: int = Field(ge=1)
    segments: int = Field(ge=0)
    size_bytes: int = Field(ge=0)


class MediaResult(Value):
    """What an encode or audio job made; `result` is the result.json that repeats this in the store.

    When it has more segments than one record takes, those of `earlier` are in events of their own (`PartAccepted`).

    `warnings` are sentences for a person: damage in the source that was covered up. `encoder` is the one that was used;
    when it is not the plan's, `fallback` says why.
    """

    kind: Literal["media"] = "media"
    renditions: tuple[Rendition, ...]
    result: ObjectRef
    encoder: MachineLine = ""
    fallback: MachineLine | None = None
    warnings: tuple[MachineLine, ...] = ()
    earlier: Earlier | None = None


class ExtrasResult(Value):
    """Thumbnail and subtitles. `warnings` are sentences for a person: what could not be made."""

    kind: Literal["extras"] = "extras"
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()
    result: ObjectRef
    warnings: tuple[MachineLine, ...] = ()


class VerifyResult(Value):
    """Everything was read again and is right. `warnings` are those of all jobs."""

    kind: Literal["verify"] = "verify"
    duration_ms: int
    rungs: tuple[str, ...]
    thumbnail: ObjectRef | None = None
    warnings: tuple[MachineLine, ...] = ()


class RerunResult(Value):
    """How a rerun ended: with `failure`, or well when there is none, after so many seconds."""

    kind: Literal["rerun"] = "rerun"
    seconds: float
    failure: Failure | None = None


MakingResult = AnalyseResult | MediaResult | ExtrasResult | VerifyResult
"""What a video is made of. `mypy` lists the folds that a new one touches; results of other kinds pass them by."""

JobResult = Annotated[MakingResult | RerunResult, Field(discriminator="kind")]

# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work. It fails in `stage`; `weight` is its share of a video's progress (0: not part of making one)."""

    spec: type[Spec]
    result: type[Value]
    stage: FailureStage
    weight: float = 0.0

    @property
    def keeps_objects(self) -> bool:
        """Whether it writes objects, and their list into a result.json; a kind that does not names only those of others."""
        return "result" in self.result.model_fields

    @property
    def in_parts(self) -> bool:
        """Whether its result may be reported in parts, before the end."""
        return "earlier" in self.result.model_fields


def foreign(kind: Kind, named: Iterable[ObjectRef], *, video_id: str, attempt: str) -> list[str]:
    """Return the keys among the objects that a result names which lie beyond its fence: the attempt's own prefix.

    A kind that keeps no objects may name those of its video's other jobs, as a verification names the thumbnail.
    """
    fence = attempt if kind.keeps_objects else video_prefix(video_id)
    return [ref.key for ref in named if not ref.key.startswith(fence) or "/." in ref.key]


KINDS: Mapping[JobKind, Kind] = MappingProxyType(
    {
        "analyse": Kind(AnalyseSpec, AnalyseResult, "analysis", weight=2.0),
        "encode": Kind(EncodeSpec, MediaResult, "encoding", weight=90.0),
        "audio": Kind(AudioSpec, MediaResult, "encoding", weight=3.0),
        "extras": Kind(ExtrasSpec, ExtrasResult, "encoding", weight=1.0),
        "verify": Kind(VerifySpec, VerifyResult, "post_processing", weight=4.0),
        "rerun": Kind(RerunSpec, RerunResult, "encoding"),
    }
)
"""Every kind of work. A worker claims those that it has a slot for (setting `worker_slots`), by these names."""
