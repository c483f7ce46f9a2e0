"""The DASH manifest (ISO/IEC 23009-1, static) from the catalog's rows. Pure: rows in, text out.

SegmentList with SegmentTimeline lists the address and exact time of every segment. A template cannot: the objects of a
rendition lie under the jobs that made them. The adaptation set holds the timeline, once: ffmpeg, and so mpv, looks for it
only there when seeking. Each segment has its own `S` element without repeats: dash.js pairs them with addresses one by one.
Each representation has a BaseURL, the directory of its first segment: ffmpeg 9 truncates addresses longer than the
manifest's own plus the BaseURL's. dash.js 5, Shaka 5, mpd-parser, ffmpeg and mpv read this.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from math import ceil
from xml.sax.saxutils import escape, quoteattr

from events.languages import UNKNOWN, language_tag
from events.media import AudioPlan, Plan, Subtitle
from projections.catalog import Media, Video
from projections.playback.tracks import Address, Track, default_sound, from_app, subtitles, target_s, tracks

MEDIA_TYPE = "application/dash+xml"
NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
ROLES = "urn:mpeg:dash:role:2011"
CHANNELS = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def manifest(video: Video, media: Sequence[Media], address: Address = from_app) -> str | None:
    """Return the manifest of a published CMAF video; None for any other."""
    plan = video.plan
    if plan is None or video.status != "ready" or plan.format != "cmaf":
        return None
    playable = tracks(video, media)
    if not playable:
        return None
    length_ms = ceil(max(track.total_s for track in playable.values()) * 1000)
    values = {
        "xmlns": NAMESPACE,
        "type": "static",
        "profiles": "urn:mpeg:dash:profile:isoff-main:2011",
        "mediaPresentationDuration": _duration(length_ms),
        "minBufferTime": _duration(target_s(plan) * 1000),
    }
    sets = _pictures(plan, playable, address)
    for track in dict.fromkeys(item.track for item in plan.audio):
        sets += _sound(plan, [item for item in plan.audio if item.track == track and item.name in playable], playable, address)
    for text in subtitles(video, media):
        sets += _captions(text, address)
    root = _element("MPD", values, _element("Period", {"id": "0", "start": "PT0S"}, sets))
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', *root]) + "\n"


def _pictures(plan: Plan, playable: dict[str, Track], address: Address) -> list[str]:
    if plan.video is None:
        return []
    rate = Fraction(plan.video.frame_rate)
    values = {**_aligned("video"), "frameRate": f"{rate.numerator}/{rate.denominator}", "par": _shape(plan)}
    sizes = {rung.name: {"width": str(rung.width), "height": str(rung.height), "sar": "1:1"} for rung in plan.video.rungs}
    return _sets(plan, values, [], [(playable[name], size) for name, size in sizes.items() if name in playable], address)


def _sound(plan: Plan, items: Sequence[AudioPlan], playable: dict[str, Track], address: Address) -> list[str]:
    if not items:
        return []
    about = [
        *_element("AudioChannelConfiguration", {"schemeIdUri": CHANNELS, "value": str(items[0].channels)}),
        *_role("main" if items[0].track == default_sound(plan) else "alternate"),
        *_element("Label", {}, items[0].label),
    ]
    values = {**_aligned("audio"), **_language(items[0].language)}
    heard = [(playable[item.name], {"audioSamplingRate": str(playable[item.name].timescale)}) for item in items]
    return _sets(plan, values, about, heard, address)


def _captions(text: Subtitle, address: Address) -> list[str]:
    captions = [
        *_role("forced-subtitle" if text.forced else "subtitle"),
        *(_role("main") if text.default else ()),
        *_element("Label", {}, text.label),
        *_element("Representation", {"id": text.name, "bandwidth": "1000"}, _element("BaseURL", {}, address(text.object.key))),
    ]
    return _element("AdaptationSet", {"contentType": "text", "mimeType": "text/vtt", **_language(text.language)}, captions)


def _sets(
    plan: Plan, values: dict[str, str], about: list[str], members: Sequence[tuple[Track, dict[str, str]]], address: Address
) -> list[str]:
    """Return one adaptation set for all tracks with equal segment times; several sets when the times differ."""
    alike: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for track, more in members:
        times = (track.timescale, tuple(segment.duration for segment in track.segments))
        alike.setdefault(times, []).extend(_representation(plan, track, more, address))
    sets: list[str] = []
    for (timescale, durations), representations in alike.items():
        sets += _element("AdaptationSet", values, [*about, *_timeline(timescale, durations), *representations])
    return sets


def _timeline(timescale: int, durations: Sequence[int]) -> list[str]:
    starts = accumulate(durations, initial=0)
    times = [f'<S t="{start}" d="{length}" />' for start, length in zip(starts, durations, strict=False)]
    return _element("SegmentList", {"timescale": str(timescale)}, _element("SegmentTimeline", {}, times))


def _representation(plan: Plan, track: Track, more: dict[str, str], address: Address) -> list[str]:
    base = address(track.segments[0].object.key).rpartition("/")[0] + "/"
    below = _Below(base)
    listing: list[str] = []
    if track.init is not None:
        listing += _element("Initialization", {"sourceURL": below(address(track.init.key))})
    listing += [f"<SegmentURL media={quoteattr(below(address(segment.object.key)))} />" for segment in track.segments]
    values = {"id": track.name, "codecs": track.codecs, "bandwidth": str(track.peak_bps(target_s(plan))), **more}
    segments = _element("SegmentList", {"timescale": str(track.timescale)}, listing)
    return _element("Representation", values, [*_element("BaseURL", {}, base), *segments])


class _Below:
    """Makes addresses relative to `base`, another address of the same kind. Computes each directory once."""

    def __init__(self, base: str) -> None:
        self._base = base.split("/")[:-1]
        self._directories: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        directory, _, name = address.rpartition("/")
        if directory not in self._directories:
            here, there = self._base, directory.split("/")
            same = next((n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
            self._directories[directory] = "".join(f"{step}/" for step in [".."] * (len(here) - same) + there[same:])
        return self._directories[directory] + name


def _element(name: str, values: Mapping[str, str], inner: Sequence[str] = ()) -> list[str]:
    """Return the lines of an element, one per tag. `inner` is the lines inside it, or its text."""
    opening = name + "".join(f" {key}={quoteattr(_printable(value))}" for key, value in values.items())
    if isinstance(inner, str):
        return [f"<{opening}>{escape(_printable(inner))}</{name}>"]
    return [f"<{opening}>", *inner, f"</{name}>"] if inner else [f"<{opening} />"]


def _aligned(kind: str) -> dict[str, str]:
    return {"contentType": kind, "mimeType": f"{kind}/mp4", "segmentAlignment": "true", "startWithSAP": "1"}


def _language(language: str) -> dict[str, str]:
    tag = language_tag(language)  # older plans hold the file's own spelling
    return {} if tag == UNKNOWN else {"lang": tag}


def _role(value: str) -> list[str]:
    return _element("Role", {"schemeIdUri": ROLES, "value": value})


def _shape(plan: Plan) -> str:
    """Return the picture's aspect ratio, taken from the largest rung."""
    assert plan.video is not None
    shape = Fraction(plan.video.rungs[0].width, plan.video.rungs[0].height)
    return f"{shape.numerator}:{shape.denominator}"


def _duration(milliseconds: int) -> str:
    """Return an ISO 8601 duration in seconds."""
    return f"PT{milliseconds // 1000}.{milliseconds % 1000:03d}S"


def _printable(text: str) -> str:
    """Return text without the characters that XML forbids."""
    return _NOT_XML.sub(" ", text)
