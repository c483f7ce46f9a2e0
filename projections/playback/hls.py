"""HLS playlists (RFC 8216) from the catalog's rows. Pure: rows in, text out.

While chunks are still being encoded, a media playlist is an EVENT playlist of the segments available from the start
without a gap. It only grows at its end, byte for byte; publication adds ENDLIST and nothing else. EXT-X-START sends players
to the beginning: without it they begin near the end of the available segments. Its offset is one millisecond, because
Shaka treats 0 as a missing offset. Only media playlists have it: ffmpeg 9 mistakes a master with it for a media playlist.

The master appears once something can be played from the start: the first chunk, and the default sound track if there is
sound. Players read it once, so it names the tracks of that moment. All rungs are among them: one job makes them all.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil

from events.languages import UNKNOWN, language_tag
from events.media import PEAK, AudioPlan, Plan, Rung, Subtitle
from projections.catalog import Media, Video
from projections.playback.tracks import (
    PLAYABLE,
    Address,
    Track,
    default_sound,
    from_app,
    sounds,
    subtitles,
    target_s,
    tracks,
)

MEDIA_TYPE = "application/vnd.apple.mpegurl"
START_KBPS_MAX = 3000
"""The best rung up to this rate is listed first: many players begin with the first variant, whatever the bandwidth."""
_START = "#EXT-X-START:TIME-OFFSET=0.001,PRECISE=YES"
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, ord('"')), " ")


def master(video: Video, media: Sequence[Media]) -> str | None:
    """Return the master playlist; None while nothing can be played. Its addresses are the names of playlists."""
    plan = video.plan
    if plan is None or video.status not in PLAYABLE:
        return None
    playable = tracks(video, media)
    rungs = [rung for rung in plan.video.rungs if rung.name in playable] if plan.video else []
    heard = sounds(plan, playable)
    if (plan.audio and not heard) or (plan.video and not rungs) or not (rungs or heard):
        return None
    texts = subtitles(video, media)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += _audio_groups(plan, heard, with_pictures=bool(rungs))
    lines += [_subtitle_line(text) for text in texts]
    for rung in _in_order(rungs):
        lines += _picture_variant(video, plan, rung, playable, heard, bool(texts))
    if not rungs:
        lines += _sound_variants(video, plan, playable, heard)
    return _text(lines)


def playlist(video: Video, media: Sequence[Media], name: str, address: Address = from_app) -> str | None:
    """Return the playlist of a rendition or subtitle track; None while nothing has that name.

    `media` may be limited to that rendition.
    """
    plan = video.plan
    if plan is None or video.status not in PLAYABLE:
        return None
    for text in subtitles(video, media):
        if text.name == name:
            return _subtitle_playlist(plan, text, address)
    track = tracks(video, media).get(name)
    if track is None:
        return None
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{7 if track.init else 3}", f"#EXT-X-TARGETDURATION:{target_s(plan, track)}"]
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:EVENT", "#EXT-X-INDEPENDENT-SEGMENTS", _START]
    if track.init is not None:
        lines.append(f'#EXT-X-MAP:URI="{address(track.init.key)}"')
    edge = ticks = 0
    for segment in track.segments:
        ticks += segment.duration
        end = round(Fraction(ticks * 1_000_000, track.timescale))
        lines += [f"#EXTINF:{_seconds(end - edge)},", address(segment.object.key)]
        edge = end  # the next duration corrects this rounding: the total stays exact to the microsecond
    if video.status == "ready":
        lines.append("#EXT-X-ENDLIST")
    return _text(lines)


# --- variants -------------------------------------------------------------------------------------------------------


def _in_order(rungs: Sequence[Rung]) -> list[Rung]:
    """Return the rung to begin with, then the others in plan order."""
    first = next((rung for rung in rungs if rung.video_kbps <= START_KBPS_MAX), None)
    return [rung for rung in rungs if rung is first] + [rung for rung in rungs if rung is not first]


def _picture_variant(
    video: Video, plan: Plan, rung: Rung, playable: dict[str, Track], heard: Sequence[AudioPlan], captioned: bool
) -> list[str]:
    """Return a rung's stream line and address. The line names the sound group with the rate nearest to the rung's own."""
    assert plan.video is not None
    rates = sorted({item.kbps for item in heard}, key=lambda kbps: (abs(kbps - rung.audio_kbps), kbps))
    group = [item for item in heard if item.kbps == rates[0]]
    pictures = [(ceil(rung.video_kbps * PEAK), playable[rung.name])]
    values = _rates(video, plan, pictures, [(a.kbps, playable[a.name]) for a in group])
    values["RESOLUTION"] = f"{rung.width}x{rung.height}"
    values["FRAME-RATE"] = f"{float(Fraction(plan.video.frame_rate)):.3f}"
    if dynamic_range := _range(video, plan):
        values["VIDEO-RANGE"] = dynamic_range
    if group:
        values["AUDIO"] = f'"{_group(rates[0])}"'
    if captioned:
        values["SUBTITLES"] = '"subtitles"'
    return [_stream(values), f"{rung.name}.m3u8"]


def _sound_variants(video: Video, plan: Plan, playable: dict[str, Track], heard: Sequence[AudioPlan]) -> list[str]:
    """Return one variant per rate of the default track; its group holds the other tracks."""
    lines = []
    for item in heard:
        if item.track == default_sound(plan):
            group = [other for other in heard if other.kbps == item.kbps]
            values = _rates(video, plan, [], [(other.kbps, playable[other.name]) for other in group])
            if len(group) > 1:
                values["AUDIO"] = f'"{_group(item.kbps)}"'
            lines += [_stream(values), f"{item.name}.m3u8"]
    return lines


def _rates(video: Video, plan: Plan, pictures: Sequence[tuple[int, Track]], group: Sequence[tuple[int, Track]]) -> dict[str, str]:
    """Return bandwidths and codecs of a variant: its pictures plus the largest sound of its group.

    Rates are measured. While segments are missing, the peak is at least the encoder's limit, which comes with each track
    in kbit/s.
    """
    target = target_s(plan)

    def peak(kbps: int, track: Track) -> int:
        measured = track.peak_bps(target)
        return measured if video.status == "ready" else max(measured, kbps * 1000)

    peaks = sum(peak(*item) for item in pictures) + max((peak(*item) for item in group), default=0)
    means = sum(track.mean_bps for _, track in pictures) + max((track.mean_bps for _, track in group), default=0)
    codecs = dict.fromkeys(track.codecs for _, track in (*pictures, *group))
    return {"BANDWIDTH": str(peaks), "AVERAGE-BANDWIDTH": str(means), "CODECS": f'"{",".join(codecs)}"'}


def _range(video: Video, plan: Plan) -> str | None:
    """Return PQ or HLG when the plan keeps high dynamic range."""
    source = video.probe.video if video.probe else None
    kept = plan.video is not None and plan.video.pixel_format.endswith("10le")
    return source.hdr.upper() if kept and source is not None and source.hdr is not None else None


# --- lines ----------------------------------------------------------------------------------------------------------


def _audio_groups(plan: Plan, heard: Sequence[AudioPlan], *, with_pictures: bool) -> list[str]:
    """Return the lines of sound tracks, one group per rate. Without pictures the default track is the variant itself."""
    if not with_pictures and len({item.track for item in heard}) < 2:
        return []
    lines = []
    for item in heard:
        default = item.track == default_sound(plan)
        values = {
            **_named("AUDIO", _group(item.kbps), item.label, item.language),
            "DEFAULT": _yes(default),
            "AUTOSELECT": "YES",
            "CHANNELS": f'"{item.channels}"',
        }
        if with_pictures or not default:
            values["URI"] = f'"{item.name}.m3u8"'
        lines.append(_tag("#EXT-X-MEDIA", values))
    return lines


def _subtitle_line(text: Subtitle) -> str:
    values = {
        **_named("SUBTITLES", "subtitles", text.label, text.language),
        "DEFAULT": _yes(text.default),
        "AUTOSELECT": "YES",
        "FORCED": _yes(text.forced),
        "URI": f'"{text.name}.m3u8"',
    }
    return _tag("#EXT-X-MEDIA", values)


def _named(kind: str, group: str, label: str, language: str) -> dict[str, str]:
    values = {"TYPE": kind, "GROUP-ID": f'"{group}"', "NAME": f'"{_quotable(label)}"'}
    if (tag := language_tag(language)) != UNKNOWN:  # older plans hold the file's own spelling
        values["LANGUAGE"] = f'"{tag}"'
    return values


def _subtitle_playlist(plan: Plan, text: Subtitle, address: Address) -> str:
    """Return a playlist whose single segment is the WebVTT file. It is complete from the start."""
    length = max(1, plan.duration_ms)
    return _text(
        [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{-(-length // 1000)}",
            "#EXT-X-MEDIA-SEQUENCE:0",
            "#EXT-X-PLAYLIST-TYPE:VOD",
            f"#EXTINF:{_seconds(length * 1000)},",
            address(text.object.key),
            "#EXT-X-ENDLIST",
        ]
    )


def _stream(values: dict[str, str]) -> str:
    return _tag("#EXT-X-STREAM-INF", values)


def _tag(name: str, values: dict[str, str]) -> str:
    return f"{name}:" + ",".join(f"{key}={value}" for key, value in values.items())


def _group(kbps: int) -> str:
    return f"audio-{kbps}k"


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _quotable(text: str) -> str:
    """Return text that is valid in a quoted string: no quotes, line breaks or control characters."""
    return text.translate(_CONTROLS)


def _seconds(microseconds: int) -> str:
    """Return seconds with six decimals, exact."""
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
