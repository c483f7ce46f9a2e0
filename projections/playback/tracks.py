"""What can be played of a video, and where it is: the catalog's rows as tracks, object keys as addresses. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from urllib.parse import quote

from events.media import AudioPlan, ObjectRef, Plan, Rendition, Segment, Subtitle
from events.objects import MADE
from projections.catalog import Media, Video

PLAYABLE = ("processing", "ready")
Address = Callable[[str], str]
"""Object key -> where a manifest says the object is."""


def media_path(key: str) -> str:
    """Return the public path of an object that a job made."""
    return "/media/" + quote(key.removeprefix(MADE))


def object_key(path: str) -> str:
    """Return the key of a public media path's rest; the inverse of `media_path`."""
    return MADE + path


def from_app(key: str) -> str:
    """Return the object's address relative to the manifests of the public app."""
    return "../.." + media_path(key)


def from_store(key: str) -> str:
    """Return the object's address relative to the manifests that lie beside it in the store."""
    return quote(key.split("/", 2)[2])


@dataclass(frozen=True, slots=True)
class Track:
    """A rendition over all its jobs, as far as it is there without a gap. Durations are in ticks of `timescale`."""

    name: str
    codecs: str
    timescale: int
    init: ObjectRef | None
    segments: tuple[Segment, ...]

    @property
    def total_s(self) -> Fraction:
        """Length of all segments, seconds."""
        return Fraction(sum(segment.duration for segment in self.segments), self.timescale)

    @property
    def mean_bps(self) -> int:
        """Rate over all segments, bits per second."""
        size = sum(segment.object.size_bytes for segment in self.segments)
        return ceil(size * 8 / self.total_s) if self.total_s > 0 else 0

    def peak_bps(self, target_s: int) -> int:
        """Return the highest rate, bits per second, of neighbours that last 0.5 to 1.5 target durations (RFC 8216, 4.1)."""
        least, most = target_s * self.timescale / 2, target_s * self.timescale * 3 / 2
        parts = [(segment.object.size_bytes, segment.duration) for segment in self.segments]
        peak = 0
        for first in range(len(parts)):
            size = ticks = 0
            for n in range(first, len(parts)):
                size, ticks = size + parts[n][0], ticks + parts[n][1]
                if ticks > most:
                    break
                if ticks >= least and ticks > 0:
                    peak = max(peak, -(-size * 8 * self.timescale // ticks))
        return peak or self.mean_bps


def tracks(video: Video, media: Sequence[Media]) -> dict[str, Track]:
    """Return what can be played now, by name: of each rendition the segments from 0 on without a gap.

    Of two results for one segment the first accepted stays, so that a playlist never changes what it has said. A part
    that its initialisation segment does not fit ends the track: it will not be published as it is.
    """
    parts: dict[str, dict[int, tuple[Rendition, Segment]]] = {}
    for row in _current(video, media):
        for rendition in row.renditions:
            segments = parts.setdefault(rendition.name, {})
            for segment in rendition.segments:
                segments.setdefault(segment.number, (rendition, segment))
    found = {}
    for name, segments in parts.items():
        if 0 not in segments:
            continue
        first = segments[0][0]
        prefix: list[Segment] = []
        while len(prefix) in segments and _continues(first, segments[len(prefix)][0]):
            prefix.append(segments[len(prefix)][1])
        found[name] = Track(name, first.codecs, first.timescale, first.init, tuple(prefix))
    return found


def _continues(first: Rendition, part: Rendition) -> bool:
    """Tell whether the initialisation segment of `first` is that of `part`, too."""
    if first.init is None or part.init is None:
        return first.init is part.init and first.timescale == part.timescale
    return first.init.sha256 == part.init.sha256 and first.timescale == part.timescale


def subtitles(video: Video, media: Sequence[Media]) -> tuple[Subtitle, ...]:
    """Return the video's WebVTT files."""
    return tuple(text for row in _current(video, media) for text in row.subtitles)


def thumbnail(video: Video, media: Sequence[Media]) -> ObjectRef | None:
    """Return the video's picture, also while the rest is still being made."""
    return video.thumbnail or next((row.thumbnail for row in _current(video, media) if row.thumbnail), None)


def _current(video: Video, media: Sequence[Media]) -> list[Media]:
    """Return the results of the jobs of the plan that counts, first accepted first; those of an older plan are left out."""
    wanted = set(video.job_ids)
    return sorted((row for row in media if row.job_id in wanted), key=lambda row: (row.completed_at, row.job_id))


def sounds(plan: Plan, playable: dict[str, Track]) -> tuple[AudioPlan, ...]:
    """Return the sound that can be heard now: nothing until the default track is there, for players choose only once."""
    there = tuple(item for item in plan.audio if item.name in playable)
    default = default_sound(plan)
    return there if any(item.track == default for item in there) else ()


def default_sound(plan: Plan) -> int | None:
    """Return the source track that is heard when nobody chooses."""
    return next((item.track for item in plan.audio if item.default), plan.audio[0].track if plan.audio else None)


def target_s(plan: Plan, *among: Track) -> int:
    """Return the target duration, whole seconds: of the plan, so that it is the same for all playlists and never changes.

    Sound is cut where the next frame begins, at most 21 ms late, and still rounds to it. Segments that are longer
    against the plan raise it, as the format demands.
    """
    longest = max((Fraction(s.duration, track.timescale) for track in among for s in track.segments), default=Fraction())
    return max(1, ceil(Fraction(plan.segment_ms, 1000)), int(longest + Fraction(1, 2)))
