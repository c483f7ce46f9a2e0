"""Anonymous reports of a worker about its encodes. Pure: the job and its outcome in, a report out.

Only encodes of the video are reported, because a leaderboard compares them. A job is one chunk in all its rungs; the report
has its largest rung and the chunk's part of the source.
"""

from dataclasses import dataclass
from fractions import Fraction

from events.kinds import EncodeSpec, JobResult, MediaResult
from events.media import Failure
from producers.reports import Report

LINES = (2160, 1440, 1080, 720, 480)


@dataclass(frozen=True, slots=True)
class Node:
    """Constant fields of all reports: the version of the program and the name of the processor."""

    app_version: str
    hardware_model: str


def started(node: Node, spec: object) -> Report | None:
    """Return the report for the start of a job; None for a job that is no encode."""
    if not isinstance(spec, EncodeSpec):
        return None
    return Report(
        app_version=node.app_version,
        event_type="job_started",
        hardware_model=node.hardware_model,
        encoder=spec.plan.encoder,
        video_codec=spec.plan.codec,
        resolution=resolution(spec),
        input_size_bytes=_input_bytes(spec),
    )


def finished(node: Node, spec: object, seconds: float, result: JobResult | None, failure: Failure | None) -> Report | None:
    """Return the report for the end of a job; a job without result and failure was cancelled.

    The encoder is the one that made the result; the report of a failed job has the plan's encoder.
    """
    report = started(node, spec)
    if report is None or not isinstance(spec, EncodeSpec):
        return None
    report.event_type = "job_finished"
    report.duration_ms = round(seconds * 1000)
    if isinstance(result, MediaResult):
        report.encoder = result.encoder or report.encoder  # the software encoder, if the planned hardware failed
        report.status = "success"
        report.output_size_bytes = _output_bytes(spec, result)
        report.speed_factor = round(_source_seconds(spec) / seconds, 4) if seconds > 0 else None
    else:
        report.status = "failure"
        report.failure_reason = failure.code.lower() if failure else "cancelled"
    return report


def resolution(spec: EncodeSpec) -> str:
    """Return the name of the largest rung's height, in the form that the predecessor's clients use."""
    height = max(rung.height for rung in spec.plan.rungs)
    return f"{next((line for line in LINES if height >= line), height)}p"


def _source_seconds(spec: EncodeSpec) -> float:
    return float(spec.chunk.frames / Fraction(spec.plan.frame_rate))


def _input_bytes(spec: EncodeSpec) -> int:
    """Return the chunk's part of the source, as if each frame had the same size."""
    return spec.source.size_bytes * spec.chunk.frames // sum(chunk.frames for chunk in spec.plan.chunks)


def _output_bytes(spec: EncodeSpec, result: MediaResult) -> int | None:
    largest = max(spec.plan.rungs, key=lambda rung: rung.height).name
    made = next((rendition for rendition in result.renditions if rendition.name == largest), None)
    return sum(segment.object.size_bytes for segment in made.segments) if made else None
