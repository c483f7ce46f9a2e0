"""The DASH manifest (ISO/IEC 23009-1, static) from the catalog's rows. Pure: rows in, text out.

Every segment is listed with its address and its exact time (SegmentList with SegmentTimeline): the objects of a rendition
lie under the jobs that made them, so no template covers them. dash.js 5, Shaka 4 and ffmpeg read this. One `S` element
for each segment, none repeated: dash.js pairs them with the addresses one by one. Each representation has a BaseURL, the
place of its first segment, for ffmpeg 9 cuts off addresses that are longer than the manifest's own and the BaseURL's.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from xml.etree import ElementTree

from events.media import AudioPlan, Plan, Subtitle
from projections.catalog import Media, Video
from projections.tracks import Address, Track, default_sound, from_app, subtitles, target_s, tracks

MEDIA_TYPE = "application/dash+xml"
NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
ROLES = "urn:mpeg:dash:role:2011"
CHANNELS = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def manifest(video: Video, media: Sequence[Media], address: Address = from_app) -> str | None:
    """Return the manifest of a published CMAF video, else None."""
    plan = video.plan
    if plan is None or video.status != "ready" or plan.format != "cmaf":
        return None
    playable = tracks(video, media)
    if not playable:
        return None
    length_ms = ceil(max(track.total_s for track in playable.values()) * 1000)
    root = ElementTree.Element(
        "MPD",
        {
            "xmlns": NAMESPACE,
            "type": "static",
            "profiles": "urn:mpeg:dash:profile:isoff-main:2011",
            "mediaPresentationDuration": _duration(length_ms),
            "minBufferTime": _duration(target_s(plan) * 1000),
        },
    )
    period = ElementTree.SubElement(root, "Period", {"id": "0", "start": "PT0S"})
    _pictures(period, plan, playable, address)
    for track in dict.fromkeys(item.track for item in plan.audio):
        _sound(period, plan, [item for item in plan.audio if item.track == track and item.name in playable], playable, address)
    for text in subtitles(video, media):
        _captions(period, text, address)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _pictures(period: ElementTree.Element, plan: Plan, playable: dict[str, Track], address: Address) -> None:
    if plan.video is None:
        return
    rate = Fraction(plan.video.frame_rate)
    values = {**_aligned("video"), "frameRate": f"{rate.numerator}/{rate.denominator}", "par": _shape(plan)}
    pictures = ElementTree.SubElement(period, "AdaptationSet", values)
    for rung in plan.video.rungs:
        if rung.name in playable:
            size = {"width": str(rung.width), "height": str(rung.height), "sar": "1:1"}
            _representation(pictures, plan, playable[rung.name], size, address)


def _sound(
    period: ElementTree.Element, plan: Plan, items: Sequence[AudioPlan], playable: dict[str, Track], address: Address
) -> None:
    if not items:
        return
    sound = ElementTree.SubElement(period, "AdaptationSet", {**_aligned("audio"), **_language(items[0].language)})
    channels = {"schemeIdUri": CHANNELS, "value": str(items[0].channels)}
    ElementTree.SubElement(sound, "AudioChannelConfiguration", channels)
    _role(sound, "main" if items[0].track == default_sound(plan) else "alternate")
    ElementTree.SubElement(sound, "Label").text = _printable(items[0].label)
    for item in items:
        _representation(sound, plan, playable[item.name], {"audioSamplingRate": str(playable[item.name].timescale)}, address)


def _captions(period: ElementTree.Element, text: Subtitle, address: Address) -> None:
    values = {"contentType": "text", "mimeType": "text/vtt", **_language(text.language)}
    captions = ElementTree.SubElement(period, "AdaptationSet", values)
    _role(captions, "forced-subtitle" if text.forced else "subtitle")
    if text.default:
        _role(captions, "main")
    ElementTree.SubElement(captions, "Label").text = _printable(text.label)
    representation = ElementTree.SubElement(captions, "Representation", {"id": text.name, "bandwidth": "1000"})
    ElementTree.SubElement(representation, "BaseURL").text = address(text.object.key)


def _representation(parent: ElementTree.Element, plan: Plan, track: Track, more: dict[str, str], address: Address) -> None:
    values = {"id": track.name, "codecs": track.codecs, "bandwidth": str(track.peak_bps(target_s(plan))), **more}
    representation = ElementTree.SubElement(parent, "Representation", values)
    base = address(track.segments[0].object.key).rpartition("/")[0] + "/"
    ElementTree.SubElement(representation, "BaseURL").text = base
    listing = ElementTree.SubElement(representation, "SegmentList", {"timescale": str(track.timescale)})
    if track.init is not None:
        ElementTree.SubElement(listing, "Initialization", {"sourceURL": _relative(base, address(track.init.key))})
    timeline = ElementTree.SubElement(listing, "SegmentTimeline")
    start = 0
    for segment in track.segments:
        ElementTree.SubElement(timeline, "S", {"t": str(start), "d": str(segment.duration)})
        start += segment.duration
    for segment in track.segments:
        ElementTree.SubElement(listing, "SegmentURL", {"media": _relative(base, address(segment.object.key))})


def _relative(base: str, address: str) -> str:
    """Return the address as it is written below `base`, a directory of the same kind of address."""
    here, there = base.split("/")[:-1], address.split("/")
    same = next((n for n, (a, b) in enumerate(zip(here, there[:-1], strict=False)) if a != b), min(len(here), len(there) - 1))
    return "/".join([".."] * (len(here) - same) + there[same:])


def _aligned(kind: str) -> dict[str, str]:
    return {"contentType": kind, "mimeType": f"{kind}/mp4", "segmentAlignment": "true", "startWithSAP": "1"}


def _language(language: str) -> dict[str, str]:
    return {} if language == "und" else {"lang": _printable(language)}


def _role(parent: ElementTree.Element, value: str) -> None:
    ElementTree.SubElement(parent, "Role", {"schemeIdUri": ROLES, "value": value})


def _shape(plan: Plan) -> str:
    """Return the picture's aspect ratio, of the largest rung."""
    assert plan.video is not None
    shape = Fraction(plan.video.rungs[0].width, plan.video.rungs[0].height)
    return f"{shape.numerator}:{shape.denominator}"


def _duration(milliseconds: int) -> str:
    """Return an ISO 8601 duration in seconds."""
    return f"PT{milliseconds // 1000}.{milliseconds % 1000:03d}S"


def _printable(text: str) -> str:
    """Return text without characters that XML cannot hold."""
    return _NOT_XML.sub(" ", text)
