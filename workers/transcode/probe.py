"""Description of a source: from ffprobe's headers and the times of its packets to a `Probe`. Pure; the effects are in `analyse`.

Headers may lie and often do, so duration, frame rate and its constancy are measured from the packets.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from events.media import Attachment, AudioTrack, Failure, Probe, SubtitleTrack, VideoTrack
from workers.transcode.accepted import STILL_BRANDS, clock_broken, dolby_vision, encrypted, not_media, nothing_to_play
from workers.transcode.clock import JUMPING, in_order
from workers.transcode.packets import PacketScan, StreamTimes, frame_rate, ticks
from workers.transcode.streams import Program, choose, is_video, programs_of

TEXT_SUBTITLES = frozenset(("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text", "microdvd", "sami", "realtext")) | {
    *("subviewer", "subviewer1", "mpl2", "ttml", "jacosub", "stl", "pjs", "vplayer", "eia_608", "dvb_teletext", "arib_caption")
}
MATROSKA = "matroska,webm"
INTERLACED = frozenset(("tt", "bb", "tb", "bt"))
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that keep the alpha channel, which ffmpeg's own ones drop."""
HDR_TRANSFERS: Mapping[str | None, Any] = {"smpte2084": "pq", "arib-std-b67": "hlg"}
PROBE_SCORE_MIN = 26
"""ffmpeg's AVPROBE_SCORE_RETRY + 1: a file with a lower score was recognised as media only by its name or by accident."""
_JOINED = "{} files are joined end to end: behind the first one, much cannot be read. Join them with ffmpeg or mkvmerge."
COMPLAINTS_CUT = ("partial file", "File ended prematurely", "Truncat", "truncat")


# --- headers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Headers:
    """Output of `ffprobe -show_streams -show_format -show_programs -show_chapters -of json`."""

    format: Mapping[str, Any]
    streams: tuple[Mapping[str, Any], ...]
    programs: tuple[Program, ...] = ()
    chapters: int = 0

    @property
    def start_s(self) -> Fraction:
        """Return the declared first timestamp. ffmpeg computes it differently in each version, so nothing relies on it."""
        return _seconds(self.format.get("start_time")) or Fraction(0)

    @property
    def duration_s(self) -> Fraction | None:
        """Return the declared duration."""
        return _seconds(self.format.get("duration"))

    @property
    def has_pictures(self) -> bool:
        """Whether moving pictures are announced."""
        return any(map(is_video, self.streams))

    def time_base(self, index: int) -> Fraction:
        """Return the length of a tick of the stream, seconds."""
        return next(Fraction(stream["time_base"]) for stream in self.streams if stream["index"] == index)

    def scan(self) -> PacketScan:
        """Return a scan of this file's packets."""
        timed = [stream for stream in self.streams if stream.get("codec_type") == "audio" or is_video(stream)]
        return PacketScan(
            {int(stream["index"]): base for stream in timed if (base := _ratio(stream.get("time_base"))) is not None},
            frozenset(int(stream["index"]) for stream in timed if is_video(stream)),
            [program.streams for program in self.programs],
            jumping=self.format.get("format_name") in JUMPING,
            delays={int(stream["index"]): int(stream.get("has_b_frames") or 0) for stream in timed},
        )


def parse_headers(text: str) -> Headers | None:
    """Parse ffprobe's JSON; None when it reports no format."""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(parsed, dict) or not parsed.get("format"):
        return None
    return Headers(parsed["format"], tuple(parsed.get("streams", ())), programs_of(parsed), len(parsed.get("chapters", ())))


def with_languages(headers: Headers, languages: Mapping[int, str]) -> Headers:
    """Return the headers with languages that ffprobe does not report, by the stream's index."""

    def named(stream: Mapping[str, Any]) -> Mapping[str, Any]:
        tag = languages.get(int(stream["index"]))
        return stream if tag is None else {**stream, "tags": {**stream.get("tags", {}), "language": tag}}

    return replace(headers, streams=tuple(named(stream) for stream in headers.streams))


def probe_of(
    headers: Headers, scan: PacketScan, *, size_bytes: int, sha256: str, files: int = 1, complaints: str = ""
) -> Probe | Failure:
    """Combine headers and packets into a probe. `files` are joined in it; `complaints` is ffprobe's output on standard error.

    Returns a Failure when the source has nothing to see or hear.
    """
    if int(headers.format.get("probe_score", 100)) < PROBE_SCORE_MIN:
        return not_media("its content was recognised by accident at best")
    if "DRM protected" in complaints:
        return encrypted()
    chosen = choose(headers.streams, headers.programs, scan)
    if isinstance(chosen, Failure):
        return chosen
    raw = chosen.video
    if raw is not None and (profile := _closed_dolby_vision(raw)) is not None:
        return dolby_vision(profile)
    main = next((int(stream["index"]) for stream in (raw, *chosen.audio) if stream is not None), -1)
    if scan.is_broken(main):
        return clock_broken()
    clock = scan.clock(main)
    cut = any(word in complaints for word in COMPLAINTS_CUT)
    video = None if raw is None else _video_track(raw, scan, seekable=in_order(clock) and _is_seekable(headers, raw, cut=cut))
    audio = tuple(track for raw in chosen.audio if (track := _audio_track(raw, scan)) is not None)
    if video is None and not audio:
        return nothing_to_play(str(stream.get("codec_type", "unknown")) for stream in headers.streams)
    if video is not None and not audio and _is_still(headers, video):
        return not_media("it is a still picture")
    tracks: list[VideoTrack | AudioTrack] = [*audio] if video is None else [video, *audio]
    duration_ms = max(t.start_ms + t.duration_ms for t in tracks) - min(t.start_ms for t in tracks)
    declared_ms = None if headers.duration_s is None else _ms(headers.duration_s)
    jumps = (f"The clock of the file jumps, {len(clock) - 1} time(s); the parts before and after are joined.",) if clock else ()
    joined = (_JOINED.format(files),) if files > 1 else ()
    warnings = [*chosen.warnings, *jumps, *joined, *_damage(duration_ms, declared_ms, scan, complaints)]
    return Probe(
        container=str(headers.format.get("format_name", "")),
        duration_ms=duration_ms,
        declared_duration_ms=declared_ms,
        size_bytes=size_bytes,
        sha256=sha256,
        video=video,
        audio=audio,
        subtitles=tuple(_subtitle_track(stream) for stream in chosen.subtitles),
        attachments=tuple(
            _attachment(stream)
            for stream in headers.streams
            if stream.get("codec_type") == "attachment" or _flag(stream, "attached_pic") or stream in chosen.covers
        ),
        chapters=headers.chapters,
        clock=clock,
        warnings=tuple(warnings),
    )


def _closed_dolby_vision(raw: Mapping[str, Any]) -> int | None:
    """Return the profile of Dolby Vision pictures that are compatible with nothing else (5, 10.0)."""
    for side_data in raw.get("side_data_list", ()):
        if side_data.get("dv_bl_signal_compatibility_id") == 0:
            return int(side_data.get("dv_profile", 5))
    return None


def _is_still(headers: Headers, video: VideoTrack) -> bool:
    """Return whether the file is a picture (AVIF, HEIC, GIF, PNG), not a film of one picture."""
    brand = str(headers.format.get("tags", {}).get("major_brand", ""))
    picture = brand in STILL_BRANDS or headers.format.get("format_name") in ("gif", "apng")
    return picture and video.frame_count == 1


def _is_seekable(headers: Headers, video: Mapping[str, Any], *, cut: bool) -> bool:
    """Return whether reading may begin in the middle and still give each picture its own time (tried).

    A truncated Matroska file has lost its index, and seeking in it may find nothing. AVI has no presentation times: with
    B-frames ffmpeg guesses them, and guesses differently after seeking. Pictures without a container have no times.
    """
    match headers.format.get("format_name"):
        case value if value == MATROSKA:
            return not cut
        case "avi":
            return not video.get("has_b_frames")
        case "h264" | "hevc" | "vvc" | "obu" | "mpegvideo" | "m4v" | "rm" | "apng":
            return False
        case _:
            return True


def _video_track(raw: Mapping[str, Any], scan: PacketScan, *, seekable: bool) -> VideoTrack:
    """Return the video track."""
    index = int(raw["index"])
    times = scan.streams[index]
    width, height, codec, pixel_format = int(raw["width"]), int(raw["height"]), raw["codec_name"], raw["pix_fmt"]
    time_base = Fraction(raw["time_base"])
    declared = [rate for name in ("r_frame_rate", "avg_frame_rate") if (rate := _ratio(raw.get(name))) is not None]
    measured = frame_rate(times.distances, time_base, declared)
    start_s, duration_s = _extent(times, time_base, 1 / measured.rate)
    rotation = _rotation(raw)
    sar = aspect(raw.get("sample_aspect_ratio"))
    display = (max(1, round(width * sar)), height)
    transfer = raw.get("color_transfer")
    return VideoTrack(
        index=index,
        codec=str(codec),
        profile=raw.get("profile"),
        width=width,
        height=height,
        display_width=display[rotation in (90, 270)],
        display_height=display[rotation not in (90, 270)],
        rotation_degrees=rotation,
        sample_aspect_ratio=f"{sar.numerator}:{sar.denominator}",
        frame_rate=f"{measured.rate.numerator}/{measured.rate.denominator}",
        variable_frame_rate=measured.variable,
        frame_count=times.packets,
        pixel_format=str(pixel_format),
        bit_depth=bit_depth(str(pixel_format), ticks(str(raw.get("bits_per_raw_sample", "")))),
        color_primaries=raw.get("color_primaries"),
        color_transfer=transfer,
        color_space=raw.get("color_space"),
        color_range=raw.get("color_range"),
        hdr=HDR_TRANSFERS.get(transfer),
        interlaced=raw.get("field_order") in INTERLACED,
        decoder=ALPHA_DECODERS.get(str(codec)) if _tag(raw, "alpha_mode") == "1" else None,
        start_ms=_ms(start_s),
        duration_ms=_ms(duration_s),
        keyframe_interval_ms=_ms(times.key_distance * time_base) if times.key_at is not None else None,
        gap_ms=_ms(times.gap * time_base),
        seekable=seekable,
    )


def _audio_track(raw: Mapping[str, Any], scan: PacketScan) -> AudioTrack | None:
    """Return the sound track; None when it has no duration."""
    start_s, duration_s = _extent(scan.streams[int(raw["index"])], Fraction(raw["time_base"]), Fraction(0))
    if duration_s <= 0:
        return None
    return AudioTrack(
        index=int(raw["index"]),
        codec=str(raw["codec_name"]),
        profile=raw.get("profile"),
        channels=int(raw["channels"]),
        channel_layout=str(raw.get("channel_layout") or "unknown")[:100],
        sample_rate_hz=int(raw["sample_rate"]),
        language=_tag(raw, "language") or "und",
        title=_tag(raw, "title"),
        default=_flag(raw, "default"),
        start_ms=_ms(start_s),
        duration_ms=_ms(duration_s),
    )


def _subtitle_track(raw: Mapping[str, Any]) -> SubtitleTrack:
    codec = str(raw.get("codec_name") or "unknown")
    return SubtitleTrack(
        index=int(raw["index"]),
        codec=codec,
        kind="text" if codec in TEXT_SUBTITLES else "image",
        language=_tag(raw, "language") or "und",
        title=_tag(raw, "title"),
        default=_flag(raw, "default"),
        forced=_flag(raw, "forced"),
    )


def _attachment(raw: Mapping[str, Any]) -> Attachment:
    cover = raw.get("codec_type") == "video"
    media_type = f"image/{raw.get('codec_name')}" if cover else _tag(raw, "mimetype")
    return Attachment(index=int(raw["index"]), filename=_tag(raw, "filename"), media_type=media_type)


def _extent(times: StreamTimes, time_base: Fraction, last_s: Fraction) -> tuple[Fraction, Fraction]:
    """Return first timestamp and duration of a stream, seconds. `last_s` is the length of a last packet without a duration."""
    if times.first is None or times.end is None:
        return Fraction(0), times.packets * last_s
    start_s = times.first * time_base
    return start_s, times.end * time_base + (0 if times.last_has_length else last_s) - start_s


def _damage(duration_ms: int, declared_ms: int | None, scan: PacketScan, complaints: str) -> Iterable[str]:
    """Yield the faults of the file that can be found without decoding it."""
    off = declared_ms is not None and abs(duration_ms - declared_ms) > 50 + declared_ms // 20
    if any(word in complaints for word in COMPLAINTS_CUT):
        declared = f" It should last {declared_ms / 1000:.1f} s." if declared_ms is not None and off else ""
        yield f"The file is incomplete: the {duration_ms / 1000:.1f} s that are there are used.{declared}"
    elif off and declared_ms is not None:
        yield f"The declared duration is {declared_ms / 1000:.1f} s, the real one {duration_ms / 1000:.1f} s."
    if sum(times.corrupt for times in scan.streams.values()) or "nvalid" in complaints or "corrupt" in complaints:
        yield "Some of the data is damaged; what can be decoded is used."


# --- values ---------------------------------------------------------------------------------------------------------


def _flag(stream: Mapping[str, Any], name: str) -> bool:
    return bool(stream.get("disposition", {}).get(name))


def _tag(stream: Mapping[str, Any], name: str) -> str | None:
    """Return a tag by its name in any case; the text is printable and at most 200 characters long."""
    for key, value in stream.get("tags", {}).items():
        if key.lower() == name:
            text = "".join(c for c in str(value) if c.isprintable()).strip()
            return text[:200] or None
    return None


def _seconds(text: Any) -> Fraction | None:
    try:
        return None if text is None else Fraction(str(text))
    except ValueError:
        return None


def _ratio(text: Any) -> Fraction | None:
    """Parse `30000/1001`; None for `0/0` and the like."""
    try:
        value = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def aspect(text: Any) -> Fraction:
    """Parse `16:11`; unknown, zero or absurd (beyond 1:20 and 20:1) is square."""
    value = _ratio(str(text).replace(":", "/")) or Fraction(1)
    return value if Fraction(1, 20) <= value <= 20 else Fraction(1)


def _rotation(raw: Mapping[str, Any]) -> int:
    """Return the display rotation, 0, 90, 180 or 270 degrees counter-clockwise as ffprobe counts."""
    for side_data in raw.get("side_data_list", ()):
        if "rotation" in side_data:
            return round(float(side_data["rotation"]) / 90) * 90 % 360
    return 0


def bit_depth(pixel_format: str, declared: int | None) -> int:
    """Return bits per component: from names like yuv420p10le and p010le, else as declared, else 8."""
    for depth in (9, 10, 12, 14, 16):
        if pixel_format.endswith((f"p{depth}le", f"p{depth}be", f"p0{depth}le", f"y{depth}le")):
            return depth
    declared = declared or 8
    return declared if 8 <= declared <= 16 else 8


def _ms(seconds: Fraction) -> int:
    return round(seconds * 1000)
