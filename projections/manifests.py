"""HLS playlists and the DASH manifest, rendered from the catalog's rows. Pure: rows in, text out.

HLS follows RFC 8216, DASH ISO/IEC 23009-1 (static, SegmentList). Both formats are a few lines per segment, so they are
written here: what a library would add is a model to fill first. The tests read everything back with `m3u8` and ffmpeg.

While chunks are still being encoded, HLS serves the contiguous prefix as an EVENT playlist: segments are only ever added
at its end, and ENDLIST comes with publication. The master appears when the first segment of some rung, and of sound when
there is any, is there. Addresses are absolute paths of the public app:

    /videos/{slug}/master.m3u8   /videos/{slug}/{rendition}.m3u8   /videos/{slug}/manifest.mpd   /media/{object}
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from xml.etree import ElementTree

from events.media import AudioPlan, ObjectRef, Plan, Rendition, Rung, Segment, Subtitle
from projections.catalog import Media, Video

HLS_TYPE = "application/vnd.apple.mpegurl"
DASH_TYPE = "application/dash+xml"
DASH_NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
OBJECTS = "videos/"


@dataclass(frozen=True, slots=True)
class Track:
    """A rendition over all its jobs, as far as it is there without a gap."""

    name: str
    codecs: str
    timescale: int
    init: ObjectRef | None
    segments: tuple[Segment, ...]

    def seconds(self, segment: Segment) -> Fraction:
        """Return a segment's length."""
        return Fraction(segment.duration, self.timescale)

    @property
    def total_s(self) -> Fraction:
        """Length of all segments."""
        return sum((self.seconds(segment) for segment in self.segments), Fraction())

    @property
    def peak_bps(self) -> int:
        """Highest rate of a segment, bits per second."""
        return max((ceil(segment.object.size_bytes * 8 / self.seconds(segment)) for segment in self.segments), default=0)

    @property
    def mean_bps(self) -> int:
        """Rate over all segments, bits per second."""
        size = sum(segment.object.size_bytes for segment in self.segments)
        return ceil(size * 8 / self.total_s) if self.total_s else 0


def media_path(key: str) -> str:
    """Return the public path of an object that a job made."""
    return "/media/" + key.removeprefix(OBJECTS)


def object_key(path: str) -> str:
    """Return the key of a public media path's rest; the inverse of `media_path`."""
    return OBJECTS + path


def tracks(video: Video, media: Sequence[Media]) -> dict[str, Track]:
    """Return what can be played now, by name: of each rendition the segments from 0 on without a gap.

    Of two results for one segment the first accepted stays, so that a playlist never changes what it has said.
    """
    parts: dict[str, list[Rendition]] = {}
    for row in _current(video, media):
        for rendition in row.renditions:
            parts.setdefault(rendition.name, []).append(rendition)
    found = {}
    for name, renditions in parts.items():
        segments: dict[int, Segment] = {}
        for rendition in renditions:
            for segment in rendition.segments:
                segments.setdefault(segment.number, segment)
        prefix: list[Segment] = []
        while len(prefix) in segments:
            prefix.append(segments[len(prefix)])
        if prefix:
            first = renditions[0]
            found[name] = Track(name, first.codecs, first.timescale, first.init, tuple(prefix))
    return found


def subtitles(video: Video, media: Sequence[Media]) -> tuple[Subtitle, ...]:
    """Return the video's WebVTT files."""
    return next((row.subtitles for row in _current(video, media) if row.kind == "extras"), ())


def _current(video: Video, media: Sequence[Media]) -> Iterable[Media]:
    """Return the results of the jobs of the plan that counts; those of an older round are left out."""
    wanted = set(video.job_ids)
    return (row for row in media if row.job_id in wanted)


# --- HLS ------------------------------------------------------------------------------------------------------------


def hls_master(video: Video, media: Sequence[Media]) -> str | None:
    """Return the master playlist, None while nothing can be played."""
    plan = video.plan
    if plan is None or video.status not in ("processing", "ready"):
        return None
    playable = tracks(video, media)
    audio = [item for item in plan.audio if item.name in playable]
    if plan.audio and not audio:
        return None
    rungs = [rung for rung in plan.video.rungs if rung.name in playable] if plan.video else []
    if plan.video and not rungs:
        return None
    base = f"/videos/{video.slug}"
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    texts = subtitles(video, media)
    if rungs:
        lines += [_audio_line(base, item) for item in audio]
    lines += [_subtitle_line(base, text) for text in texts]
    for rung in rungs:
        lines += _variant(base, plan, rung, playable, audio, bool(texts))
    if not rungs:
        for item in audio:
            track = playable[item.name]
            values = {"BANDWIDTH": str(track.peak_bps), "AVERAGE-BANDWIDTH": str(track.mean_bps), "CODECS": f'"{track.codecs}"'}
            lines += [_stream(values), f"{base}/{item.name}.m3u8"]
    return "\n".join(lines) + "\n"


def hls_media(video: Video, media: Sequence[Media], name: str) -> str | None:
    """Return the playlist of a rendition or of a subtitle track, None when there is nothing of that name yet."""
    if video.plan is None or video.status not in ("processing", "ready"):
        return None
    for text in subtitles(video, media):
        if text.name == name:
            return _subtitle_playlist(video, text)
    track = tracks(video, media).get(name)
    if track is None:
        return None
    final = video.status == "ready"
    longest = max(round(track.seconds(segment)) for segment in track.segments)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(longest, ceil(video.plan.segment_ms / 1000))}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if final else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    if track.init is not None:
        lines.append(f'#EXT-X-MAP:URI="{media_path(track.init.key)}"')
    for segment in track.segments:
        lines += [f"#EXTINF:{float(track.seconds(segment)):.6f},", media_path(segment.object.key)]
    if final:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _variant(
    base: str, plan: Plan, rung: Rung, playable: dict[str, Track], audio: Sequence[AudioPlan], captioned: bool
) -> list[str]:
    """Return a rung's stream line and address; it names the sound of the rate nearest to its own."""
    assert plan.video is not None
    track = playable[rung.name]
    rates = sorted({item.kbps for item in audio}, key=lambda kbps: (abs(kbps - rung.audio_kbps), kbps))
    sound = [playable[item.name] for item in audio if rates and item.kbps == rates[0]]
    codecs = ",".join(dict.fromkeys([track.codecs, *(item.codecs for item in sound)]))
    values = {
        "BANDWIDTH": str(track.peak_bps + max((item.peak_bps for item in sound), default=0)),
        "AVERAGE-BANDWIDTH": str(track.mean_bps + max((item.mean_bps for item in sound), default=0)),
        "CODECS": f'"{codecs}"',
        "RESOLUTION": f"{rung.width}x{rung.height}",
        "FRAME-RATE": f"{float(Fraction(plan.video.frame_rate)):.3f}",
    }
    if sound:
        values["AUDIO"] = f'"{_group(rates[0])}"'
    if captioned:
        values["SUBTITLES"] = '"subtitles"'
    return [_stream(values), f"{base}/{rung.name}.m3u8"]


def _stream(values: dict[str, str]) -> str:
    return "#EXT-X-STREAM-INF:" + ",".join(f"{name}={value}" for name, value in values.items())


def _group(kbps: int) -> str:
    return f"audio-{kbps}k"


def _audio_line(base: str, item: AudioPlan) -> str:
    return (
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{_group(item.kbps)}",NAME="{_quoted(item.label)}",LANGUAGE="{_quoted(item.language)}",'
        f'DEFAULT={_yes(item.default)},AUTOSELECT=YES,CHANNELS="{item.channels}",URI="{base}/{item.name}.m3u8"'
    )


def _subtitle_line(base: str, text: Subtitle) -> str:
    return (
        f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subtitles",NAME="{_quoted(text.label)}",LANGUAGE="{_quoted(text.language)}",'
        f'DEFAULT={_yes(text.default)},AUTOSELECT=YES,FORCED={_yes(text.forced)},URI="{base}/{text.name}.m3u8"'
    )


def _subtitle_playlist(video: Video, text: Subtitle) -> str:
    """Return a playlist with the whole WebVTT file as its one segment."""
    assert video.plan is not None
    seconds = (video.duration_ms or video.plan.duration_ms) / 1000
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{max(1, ceil(seconds))}", "#EXT-X-MEDIA-SEQUENCE:0"]
    lines += ["#EXT-X-PLAYLIST-TYPE:VOD", f"#EXTINF:{seconds:.6f},", media_path(text.object.key), "#EXT-X-ENDLIST"]
    return "\n".join(lines) + "\n"


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _quoted(text: str) -> str:
    """Return text that may stand in a quoted string: RFC 8216 allows neither quotes nor line breaks there."""
    return "".join(" " if char in '"\r\n' else char for char in text)


# --- DASH -----------------------------------------------------------------------------------------------------------


def dash(video: Video, media: Sequence[Media]) -> str | None:
    """Return the manifest of a published CMAF video, else None."""
    plan = video.plan
    if plan is None or video.status != "ready" or plan.format != "cmaf":
        return None
    playable = tracks(video, media)
    seconds = max((track.total_s for track in playable.values()), default=Fraction())
    root = ElementTree.Element(
        "MPD",
        {
            "xmlns": DASH_NAMESPACE,
            "type": "static",
            "profiles": "urn:mpeg:dash:profile:isoff-main:2011",
            "mediaPresentationDuration": f"PT{float(seconds):.3f}S",
            "minBufferTime": f"PT{plan.segment_ms / 1000:.1f}S",
        },
    )
    period = ElementTree.SubElement(root, "Period", {"id": "0", "start": "PT0S"})
    if plan.video is not None:
        pictures = _adaptation(period, "video", "video/mp4", {"frameRate": plan.video.frame_rate})
        for rung in plan.video.rungs:
            size = {"width": str(rung.width), "height": str(rung.height), "sar": "1:1"}
            _representation(pictures, playable[rung.name], size)
    for track in dict.fromkeys(item.track for item in plan.audio):
        items = [item for item in plan.audio if item.track == track]
        sound = _adaptation(period, "audio", "audio/mp4", {"lang": items[0].language})
        ElementTree.SubElement(sound, "Label").text = items[0].label
        role = {"schemeIdUri": "urn:mpeg:dash:role:2011", "value": "main" if items[0].default else "alternate"}
        ElementTree.SubElement(sound, "Role", role)
        for item in items:
            _representation(sound, playable[item.name], {"audioSamplingRate": str(playable[item.name].timescale)})
    for text in subtitles(video, media):
        captions = _adaptation(period, "text", "text/vtt", {"lang": text.language})
        ElementTree.SubElement(captions, "Label").text = text.label
        representation = ElementTree.SubElement(captions, "Representation", {"id": text.name, "bandwidth": "1000"})
        ElementTree.SubElement(representation, "BaseURL").text = media_path(text.object.key)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _adaptation(period: ElementTree.Element, kind: str, media_type: str, more: dict[str, str]) -> ElementTree.Element:
    values = {"contentType": kind, "mimeType": media_type, "segmentAlignment": "true", "startWithSAP": "1", **more}
    return ElementTree.SubElement(period, "AdaptationSet", values)


def _representation(parent: ElementTree.Element, track: Track, more: dict[str, str]) -> None:
    values = {"id": track.name, "codecs": track.codecs, "bandwidth": str(track.peak_bps), **more}
    representation = ElementTree.SubElement(parent, "Representation", values)
    listing = ElementTree.SubElement(representation, "SegmentList", {"timescale": str(track.timescale)})
    if track.init is not None:
        ElementTree.SubElement(listing, "Initialization", {"sourceURL": media_path(track.init.key)})
    timeline = ElementTree.SubElement(listing, "SegmentTimeline")
    start = 0
    for segment in track.segments:
        ElementTree.SubElement(timeline, "S", {"t": str(start), "d": str(segment.duration)})
        start += segment.duration
    for segment in track.segments:
        ElementTree.SubElement(listing, "SegmentURL", {"media": media_path(segment.object.key)})
