"""Records of an attempt's end: a result with many segments is reported in parts. Pure."""

from collections.abc import Iterator, Sequence

from events.jobs import PartReported, ResultReported
from events.kinds import Earlier, MediaResult
from events.media import Rendition

SEGMENTS_MAX = 1500
"""Maximum segments in one record: each takes 260 to 400 bytes."""


def in_parts(report: ResultReported) -> list[PartReported | ResultReported]:
    """Return the events that together equal the report, in order: each fits into a record, and the last ends the attempt."""
    result = report.result
    if not isinstance(result, MediaResult):
        return [report]
    *before, last = list(_slices(result.renditions)) or [()]
    if not before:
        return [report]
    segments = [segment for part in before for rendition in part for segment in rendition.segments]
    size_bytes = sum(segment.object.size_bytes for segment in segments)
    earlier = Earlier(parts=len(before), segments=len(segments), size_bytes=size_bytes)
    claim = {"job_id": report.job_id, "pool": report.pool, "worker_id": report.worker_id, "epoch": report.epoch}
    parts = [PartReported(**claim, part=number, renditions=part) for number, part in enumerate(before)]
    rest = result.model_copy(update={"renditions": last, "earlier": earlier})
    return [*parts, report.model_copy(update={"result": rest})]


def _slices(renditions: Sequence[Rendition]) -> Iterator[tuple[Rendition, ...]]:
    """Yield the renditions with at most `SEGMENTS_MAX` segments at a time; a rendition's frames are counted in its first slice."""
    part: list[Rendition] = []
    room = SEGMENTS_MAX
    for rendition in renditions:
        left, frames = rendition.segments, rendition.frames
        while True:
            if not room:
                yield tuple(part)
                part, room = [], SEGMENTS_MAX
            part.append(rendition.model_copy(update={"segments": left[:room], "frames": frames}))
            taken = len(part[-1].segments)
            left, room, frames = left[taken:], room - taken, None
            if not left:
                break
    if part:
        yield tuple(part)
