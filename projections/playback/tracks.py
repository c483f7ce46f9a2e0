"""Playable tracks of a video and their addresses, from the catalog's rows and object keys. Pure."""

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
"""Maps an object key to the object's address in a manifest."""


def media_path(key: str, signed: str = "") -> str:
    """Return the public path of an object that a job made; that of a private video has a `signed` part, with its slash."""
    return "/media/" + signed + quote(key.removeprefix(MADE))


def object_key(path: str) -> str:
    """Return the object key for the rest of a public media path; the inverse of `media_path`."""
    return MADE + path


def from_app(key: str, signed: str = "") -> str:
    """Return the object's address relative to the manifests of the public app."""
    return "../.." + media_path(key, signed)


def from_store(key: str) -> str:
    """Return the object's address relative to the manifests beside it in the store."""
    return quote(key.split("/", 2)[2])


@dataclass(frozen=True, slots=True)
class Track:
    """A rendition over all its jobs, up to its first gap. Durations are in ticks of `timescale`."""

    name: str
    codecs: str
    timescale: int
    init: ObjectRef | None
    segments: tuple[Segment, ...]

    @property
    def total_s(self) -> Fraction:
        """Total duration of all segments, seconds."""
        return Fraction(sum(segment.duration for segment in self.segments), self.timescale)

    @property
    def mean_bps(self) -> int:
        """Mean rate over all segments, bits per second."""
        size = sum(segment.object.size_bytes for segment in self.segments)
        return ceil(size * 8 / self.total_s) if self.total_s > 0 else 0

    def peak_bps(self, target_s: int) -> int:
        """Return the highest rate, bits per second, of adjacent segments lasting 0.5 to 1.5 target durations (RFC 8216, 4.1)."""
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
    """Return the playable tracks by name: each rendition's segments from 0 up to its first gap.

    The first accepted result for a segment stays, so a playlist never changes a line it has published. A part whose
    initialisation segment differs ends the track: the video cannot be published like that.
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
    """Return whether `first` and `part` have the same initialisation segment."""
    if first.init is None or part.init is None:
        return first.init is part.init and first.timescale == part.timescale
    return first.init.sha256 == part.init.sha256 and first.timescale == part.timescale


def subtitles(video: Video, media: Sequence[Media]) -> tuple[Subtitle, ...]:
    """Return the video's WebVTT files."""
    return tuple(text for row in _current(video, media) for text in row.subtitles)


def thumbnail(video: Video, media: Sequence[Media]) -> ObjectRef | None:
    """Return the video's thumbnail, available before the rest is finished."""
    return video.thumbnail or next((row.thumbnail for row in _current(video, media) if row.thumbnail), None)


def _current(video: Video, media: Sequence[Media]) -> list[Media]:
    """Return the results of the current plan's jobs in order of acceptance, without those of older plans."""
    wanted = set(video.job_ids)
    return sorted((row for row in media if row.job_id in wanted), key=lambda row: (row.completed_at, row.job_id))


def sounds(plan: Plan, playable: dict[str, Track]) -> tuple[AudioPlan, ...]:
    """Return the playable sound tracks: none before the default track is available, because players choose only once."""
    there = tuple(item for item in plan.audio if item.name in playable)
    default = default_sound(plan)
    return there if any(item.track == default for item in there) else ()


def default_sound(plan: Plan) -> int | None:
    """Return the index of the source track that plays by default."""
    return next((item.track for item in plan.audio if item.default), plan.audio[0].track if plan.audio else None)


def target_s(plan: Plan, *among: Track) -> int:
    """Return the target duration in whole seconds. It comes from the plan, so all playlists share it and it never changes.

    Sound is cut at the next frame, at most 21 ms late, and still rounds to it. Segments longer than planned raise it, as
    the format demands.
    """
    longest = max((Fraction(s.duration, track.timescale) for track in among for s in track.segments), default=Fraction())
    return max(1, ceil(Fraction(plan.segment_ms, 1000)), int(longest + Fraction(1, 2)))
