"""A video that was never filmed: its plan and what its jobs would have made of it, for tests of read models and manifests."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any, Literal
from uuid import UUID, uuid5

from events.envelope import Envelope, Event, Recorded
from events.jobs import JobCompleted
from events.kinds import ExtrasResult, MediaResult
from events.media import (
    AudioPlan,
    AudioTrack,
    Chunk,
    ObjectRef,
    Plan,
    Probe,
    Rendition,
    Rung,
    Segment,
    Subtitle,
    SubtitlePlan,
    VideoPlan,
    VideoTrack,
)
from events.videos import VideoPlanned, VideoProbed, VideoPublished, VideoUploaded

VIDEO_ID = "01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"
START = datetime(2100, 3, 1, 12, 0, 0, tzinfo=UTC)
"""In the future: on a real broker, what is kept for days must not be old already."""


def video_track(width: int = 640, height: int = 360, **more: Any) -> VideoTrack:
    """Return a track of plain pictures, four seconds of H.264 unless more is said."""
    plain = VideoTrack(
        index=0,
        codec="h264",
        width=width,
        height=height,
        display_width=width,
        display_height=height,
        frame_rate="25/1",
        pixel_format="yuv420p",
        duration_ms=4000,
    )
    return plain.model_copy(update=more)


PROBE = Probe(
    container="mov,mp4",
    duration_ms=60_000,
    size_bytes=1000,
    sha256="ab" * 32,
    video=video_track(frame_count=1500, duration_ms=60_000),
    audio=(AudioTrack(index=1, codec="aac", channels=2, sample_rate_hz=48_000, duration_ms=60_000),),
)
RUNGS = (
    Rung(name="1080p", width=1920, height=1080, video_kbps=5000, audio_kbps=128),
    Rung(name="720p", width=1280, height=720, video_kbps=2500, audio_kbps=128),
    Rung(name="360p", width=640, height=360, video_kbps=600, audio_kbps=96),
)
CODECS = {"video": "avc1.64001f", "audio": "mp4a.40.2"}


def sha256(text: str) -> str:
    """Return a digest that stands for an object's."""
    return hashlib.sha256(text.encode()).hexdigest()


def id_of(name: str) -> str:
    """Return an id that is always the same for a name."""
    return str(uuid5(UUID(VIDEO_ID), name))


def reference(key: str, size_bytes: int = 1000) -> ObjectRef:
    """Return an object that could be in the store."""
    return ObjectRef(key=key, size_bytes=size_bytes, sha256=sha256(key))


def recorded(event: Event, offset: int, *, topic: str, at_s: float = 0.0, partition: int = 0, name: str = "") -> Recorded[Event]:
    """Return the event at a position on the log; `name` distinguishes equal ones."""
    envelope = Envelope(
        id_of(name or f"{topic}/{partition}/{offset}"),
        "kinolog/test",
        getattr(event, "video_id", "subject"),
        START + timedelta(seconds=at_s),
        event,
        id_of("correlation"),
    )
    return Recorded(topic, partition, offset, envelope)


def plan(
    *,
    rate: str = "30000/1001",
    seconds: float = 24.0,
    segment_frames: int = 180,
    segments_per_chunk: int = 2,
    rungs: Sequence[Rung] = RUNGS,
    languages: Sequence[str] = ("en",),
    kbps: Sequence[int] = (128, 96),
    subtitles: Sequence[str] = (),
    streaming_format: Literal["cmaf", "hls_ts"] = "cmaf",
) -> Plan:
    """Return a plan such as `processors.planning.plan` makes; no `rungs` means audio only, no `languages` means silent."""
    frames = ceil(Fraction(rate) * Fraction(seconds))
    per_chunk = segment_frames * segments_per_chunk
    chunks = tuple(
        Chunk(
            index=index,
            start_frame=start,
            frames=min(per_chunk, frames - start),
            first_segment=index * segments_per_chunk,
            segments=ceil(min(per_chunk, frames - start) / segment_frames),
        )
        for index, start in enumerate(range(0, frames, per_chunk))
    )
    video = VideoPlan(
        track=0,
        codec="h264",
        encoder="libx264",
        preset="medium",
        pixel_format="yuv420p",
        frame_rate=rate,
        timescale=Fraction(rate).numerator,
        segment_frames=segment_frames,
        rungs=tuple(rungs),
        chunks=chunks,
    )
    return Plan(
        format=streaming_format,
        duration_ms=round(seconds * 1000),
        segment_ms=round(segment_frames * 1000 / Fraction(rate)),
        video=video if rungs else None,
        audio=tuple(
            AudioPlan(
                name=f"audio-{track}-{rate_kbps}k",
                track=track,
                language=language,
                label=language.upper(),
                default=track == 1,
                channels=2,
                kbps=rate_kbps,
            )
            for track, language in enumerate(languages, 1)
            for rate_kbps in kbps
        ),
        subtitles=tuple(
            SubtitlePlan(name=f"subtitles-{n}", track=n, language=language, label=language.upper(), default=n == 5, forced=False)
            for n, language in enumerate(subtitles, 5)
        ),
        thumbnail_ms=5000 if rungs else None,
    )


def probe(*, seconds: float = 24.0) -> Probe:
    """Return what the analysis of the source would have found."""
    milliseconds = round(seconds * 1000)
    track = video_track(1920, 1080, frame_rate="30000/1001", duration_ms=milliseconds)
    sound = AudioTrack(index=1, codec="aac", channels=2, sample_rate_hz=48_000, duration_ms=milliseconds)
    return Probe(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        duration_ms=milliseconds,
        size_bytes=12_345_678,
        sha256=sha256("source"),
        video=track,
        audio=(sound,),
    )


def chunk_result(made: Plan, index: int) -> MediaResult:
    """Return what the job of a chunk makes: every rung of it."""
    assert made.video is not None
    chunk, prefix = made.video.chunks[index], prefix_of(f"chunk {index}")
    ticks = Fraction(made.video.timescale) / Fraction(made.video.frame_rate)
    renditions = []
    for rung in made.video.rungs:
        segments = []
        for n in range(chunk.segments):
            frames = min(made.video.segment_frames, chunk.frames - n * made.video.segment_frames)
            size = round(frames / Fraction(made.video.frame_rate) * rung.video_kbps * 125)
            key = f"{prefix}/{rung.name}/{chunk.first_segment + n:05d}.m4s"
            segments.append(
                Segment(number=chunk.first_segment + n, duration=round(frames * ticks), object=reference(key, size + 10 * n))
            )
        renditions.append(_rendition(made, rung.name, "video", made.video.timescale, prefix, segments, chunk.frames))
    return MediaResult(renditions=tuple(renditions), result=reference(f"{prefix}/result.json"), encoder="libx264")


def audio_result(made: Plan, track: int) -> MediaResult:
    """Return what the job of a sound track makes: all of it at each rate, in whole AAC frames."""
    prefix, hertz = prefix_of(f"audio {track}"), 48_000
    frame_edges = [0]
    while frame_edges[-1] * 1000 < made.duration_ms * hertz:
        wanted = Fraction(len(frame_edges) * made.segment_ms * hertz, 1000)
        frame_edges.append(min(ceil(wanted / 1024), ceil(Fraction(made.duration_ms * hertz, 1024 * 1000))) * 1024)
    renditions = []
    for item in made.audio:
        if item.track == track:
            segments = [
                Segment(
                    number=n,
                    duration=stop - start,
                    object=reference(f"{prefix}/{item.name}/{n:05d}.m4s", (stop - start) * item.kbps * 125 // hertz),
                )
                for n, (start, stop) in enumerate(pairwise(frame_edges))
            ]
            renditions.append(_rendition(made, item.name, "audio", hertz, prefix, segments, None))
    return MediaResult(renditions=tuple(renditions), result=reference(f"{prefix}/result.json"))


def extras_result(made: Plan) -> ExtrasResult:
    """Return thumbnail and subtitles."""
    prefix = prefix_of("extras")
    texts = tuple(
        Subtitle(
            name=item.name,
            language=item.language,
            label=item.label,
            default=item.default,
            forced=item.forced,
            object=reference(f"{prefix}/{item.name}.vtt"),
        )
        for item in made.subtitles
    )
    thumbnail = reference(f"{prefix}/thumbnail.jpg") if made.thumbnail_ms is not None else None
    return ExtrasResult(thumbnail=thumbnail, subtitles=texts, result=reference(f"{prefix}/result.json"))


def results(made: Plan) -> dict[str, MediaResult | ExtrasResult]:
    """Return what every job of the plan makes, by the job's id."""
    found: dict[str, MediaResult | ExtrasResult] = {}
    for chunk in made.video.chunks if made.video else ():
        found[id_of(f"chunk {chunk.index}")] = chunk_result(made, chunk.index)
    for track in dict.fromkeys(item.track for item in made.audio):
        found[id_of(f"audio {track}")] = audio_result(made, track)
    found[id_of("extras")] = extras_result(made)
    return found


def completions(made: Plan) -> list[Recorded[Event]]:
    """Return the facts that the plan's jobs completed, in the order of the plan, a second apart."""
    return [
        recorded(
            JobCompleted(
                job_id=job_id, video_id=VIDEO_ID, pool="main", worker_id=id_of("worker"), epoch=1, attempt=1, result=result
            ),
            offset,
            topic="jobs",
            at_s=10 + offset,
        )
        for offset, (job_id, result) in enumerate(results(made).items())
    ]


def life(made: Plan, *, published: bool = True) -> list[Recorded[Event]]:
    """Return the video's own events, from the upload to the plan or to its publication."""
    return list(_life(made, published))


def _life(made: Plan, published: bool) -> Iterator[Recorded[Event]]:
    uploaded = VideoUploaded(
        video_id=VIDEO_ID,
        title="Big Buck Bunny",
        description="A rabbit and three rodents.",
        filename="bbb.mp4",
        object_key="uploads/bbb.mp4",
        size_bytes=12_345_678,
        sha256=sha256("source"),
    )
    yield recorded(uploaded, 0, topic="videos", at_s=0)
    yield recorded(VideoProbed(video_id=VIDEO_ID, probe=probe(seconds=made.duration_ms / 1000)), 1, topic="videos", at_s=2)
    yield recorded(VideoPlanned(video_id=VIDEO_ID, plan=made, job_ids=tuple(results(made))), 2, topic="videos", at_s=3)
    if published:
        rungs = tuple(rung.name for rung in made.video.rungs) if made.video else ()
        event = VideoPublished(
            video_id=VIDEO_ID, duration_ms=made.duration_ms, rungs=rungs, thumbnail=extras_result(made).thumbnail
        )
        yield recorded(event, 3, topic="videos", at_s=60)


def prefix_of(job: str) -> str:
    """Return where a job's objects lie."""
    return f"videos/{VIDEO_ID}/{id_of(job)}/1"


def _rendition(
    made: Plan,
    name: str,
    kind: Literal["video", "audio"],
    timescale: int,
    prefix: str,
    segments: Sequence[Segment],
    frames: int | None,
) -> Rendition:
    if made.format == "hls_ts":
        init = None
        segments = [
            segment.model_copy(update={"object": reference(segment.object.key[:-3] + "ts", segment.object.size_bytes)})
            for segment in segments
        ]
    else:  # every chunk's is the same, byte for byte
        init = ObjectRef(key=f"{prefix}/{name}/init.mp4", size_bytes=800, sha256=sha256(f"init of {name}"))
    return Rendition(
        name=name, kind=kind, codecs=CODECS[kind], timescale=timescale, init=init, segments=tuple(segments), frames=frames
    )
