"""Results of long jobs, with as many segments as a test asks for."""

from events.kinds import MediaResult
from events.media import ObjectRef, Rendition, Segment
from events.objects import attempt_prefix

VIDEO = "01890000-0000-7000-8000-000000000001"
JOB = "5d1f1c8e-3c0b-5d2a-9a43-6f1f0b7c2e10"


def rendition(name: str, segments: int, job: str = JOB, epoch: int = 123) -> Rendition:
    """Return a rendition with as many segments, each as long in words as the longest."""
    prefix = f"{attempt_prefix(VIDEO, job, epoch)}{name}"
    made = tuple(
        Segment(
            number=number,
            duration=288_288,
            object=ObjectRef(key=f"{prefix}/{number:05d}.m4s", size_bytes=12_345_678, sha256="ab" * 32),
        )
        for number in range(segments)
    )
    init = ObjectRef(key=f"{prefix}/init.mp4", size_bytes=1000, sha256="cd" * 32)
    return Rendition(name=name, kind="audio", codecs="mp4a.40.2", timescale=48_000, init=init, segments=made, frames=segments)


def long_result(*segments: int, job: str = JOB, epoch: int = 123) -> MediaResult:
    """Return the result of a job with renditions of so many segments."""
    renditions = tuple(rendition(f"audio-{number}-128k", count, job, epoch) for number, count in enumerate(segments))
    key = f"{attempt_prefix(VIDEO, job, epoch)}result.json"
    return MediaResult(renditions=renditions, result=ObjectRef(key=key, size_bytes=1, sha256="00"))
