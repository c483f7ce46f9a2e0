"""The plan for a source, decided once from its probe: `plan(probe, settings) -> Plan | Failure`. Pure.

`docs/reference/inputs.md` lists every decision.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil

from events.kinds import AudioSpec, EncodeSpec, ExtrasSpec, JobSpec, Source
from events.languages import language_tag
from events.media import (
    SOFTWARE_ENCODERS,
    AudioPlan,
    Cut,
    Failure,
    Plan,
    PlanSettings,
    Probe,
    Rung,
    VideoCodec,
    VideoPlan,
    VideoTrack,
)
from processors.planning.filters import filters, still_filters
from processors.planning.ladder import ladder
from processors.planning.text import labels, subtitle_plans
from producers.probes import bounded

AUDIO_ONLY_KBPS = (128, 96)
STANDARD_RATES = tuple(Fraction(rate) for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60"))
RATE_MAX = Fraction(60)
RATE_MIN = Fraction(10)
TIMESCALE_MIN = 10_000

SIDE_MAX = 8192
SIDE_MIN: dict[VideoCodec, int] = {"h264": 2, "hevc": 16, "av1": 4}
"""Least pixels of a side that encoders accept (tried: x265 fails at 2x2 and works at 16x16, SVT-AV1 fails at 2x2)."""

GOP_MAX_S = 2.0
"""Approximate time between two key frames: players seek to them at once, and show them while winding."""
FIRST_SEGMENTS = 1
"""Playing begins with the first chunk: in a video longer than `EARLY_MIN_S` that chunk is one segment."""
GROWTH = 2
"""Ratio of the lengths of consecutive chunks until one is whole: each is made while the previous one plays."""
EARLY_MIN_S = 12.0
SOUND_GROWTH, SOUND_REST = 16, 4
"""Ratio of the ends of consecutive pieces of sound, and least ratio of the track to the first piece: beginnings encoded again cost
at most 27 % of the sound, and usually much less.
"""

THUMBNAIL_MS = 5000
LEAD_MAX_MS = 100
"""Maximum lead of sound before the first picture (encoder delay) that is cut; a longer lead gets a still picture."""

INDEXED_CONTAINERS = ("mov,", "matroska,")
"""ffprobe's names of containers in which ffmpeg finds the key frame before any time (tried)."""
CHANGING_CONTAINERS = frozenset(("mpegts", "mpeg", "ogg", "flv", "rm", "aac", "mp3", "ac3", "eac3"))
"""ffprobe's names of containers whose sound may change from mono to stereo midway, as in broadcasts."""
READ_LEAD_MAX_MS = 30_000
READ_LEAD_MARGIN_MS = 1_000
DEINTERLACE_LEAD_MS = 200

SVT_PRESETS = {
    "ultrafast": "12",
    "superfast": "11",
    "veryfast": "10",
    "faster": "9",
    "fast": "8",
    "medium": "6",
    "slow": "5",
    "slower": "4",
    "veryslow": "3",
}
"""SVT-AV1's numbers for the preset names of x264 and x265; other values pass unchanged."""
NVENC_PRESET = "p4"


@dataclass(frozen=True, slots=True)
class _Video:
    """The video plan, with notes about its decisions."""

    plan: VideoPlan | None
    notes: tuple[str, ...]


def plan(probe: Probe, settings: PlanSettings) -> Plan | Failure:
    """Return the plan for a source, or the failure of one from which nothing can be made."""
    if probe.video is None and not probe.audio:
        return _failure("NO_STREAMS", "The file has neither pictures nor sound that can be played.")
    if probe.duration_ms <= 0:
        return _failure("NO_DURATION", "The file has no frame and no sound that lasts.")
    if probe.video is not None and max(probe.video.width, probe.video.height, *_display(probe.video)) > SIDE_MAX:
        return _failure("VIDEO_TOO_LARGE", f"The pictures are larger than {SIDE_MAX} pixels on a side.")
    if (failure := _too_long(probe, settings)) is not None:
        return failure
    probe, cut_notes = bounded(probe, tracks_max=settings.tracks_max, text_max=settings.name_max)
    start_ms = _start_ms(probe)
    video = _video_plan(probe, probe.video, start_ms, settings) if probe.video is not None else _Video(None, ())
    rungs = video.plan.rungs if video.plan is not None else ()
    audio, audio_notes = _audio_plans(probe, rungs)
    subtitles, subtitle_notes = subtitle_plans(probe)
    duration_ms = max(1, _end_ms(probe) - start_ms)
    return Plan(
        format=settings.format,
        start_ms=start_ms,
        duration_ms=duration_ms,
        segment_ms=_segment_ms(video.plan, settings),
        video=video.plan,
        audio=audio,
        subtitles=subtitles,
        thumbnail_ms=thumbnail_ms(_frames_ms(video.plan)) if video.plan is not None else None,
        notes=(*cut_notes, *video.notes, *audio_notes, *subtitle_notes, *_attachment_notes(probe), *_chapter_notes(probe)),
    )


def _too_long(probe: Probe, settings: PlanSettings) -> Failure | None:
    """Return the failure of a file that lasts too long, else None."""
    length_s = max(probe.duration_ms, _end_ms(probe) - _start_ms(probe)) / 1000
    if length_s > settings.length_max_s:
        message = (
            f"The file lasts {_hours(length_s)} by its own clock, and at most {_hours(settings.length_max_s)} are made. "
            "If it is shorter, its clock jumps: write it anew with ffmpeg; else split it."
        )
        return _failure("VIDEO_TOO_LONG", message)
    gap_s = probe.video.gap_ms / 1000 if probe.video is not None else 0.0
    if gap_s > settings.gap_max_s:
        message = (
            f"By the file's own clock one picture stands for {_hours(gap_s)}, and at most {_hours(settings.gap_max_s)} are made: "
            "its clock jumps. Write the file anew with ffmpeg, or split it there."
        )
        return _failure("CLOCK_GAP", message)
    return None


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours"


def jobs_for(source: Source, plan: Plan, probe: Probe) -> dict[str, JobSpec]:
    """Return the jobs of a plan in the order of the queue, by a name that is unique in the video.

    There is one job per chunk, one per audio track or piece of it, one for the thumbnail, and one for subtitles if there are any.
    Playing begins with the first chunk and the first piece of the default sound; sound stays ahead of the pictures. Subtitles
    come late: their job reads the whole source, and the thumbnail does not wait for that.
    """
    chunks = plan.video.chunks if plan.video is not None else ()
    encodes: dict[str, JobSpec] = {
        f"encode-{chunk.index}": EncodeSpec(source=source, format=plan.format, plan=plan.video, chunk=chunk) for chunk in chunks
    }
    jobs: dict[str, JobSpec] = {}
    for number, sounds in enumerate(_sound_jobs(source, plan, probe) or [{}]):
        jobs |= {name: encodes.pop(name) for name in [*encodes][:1]}
        jobs |= sounds
        if number == 0 and plan.video is not None and plan.thumbnail_ms is not None:
            jobs["extras"] = ExtrasSpec(
                source=source,
                track=plan.video.track,
                start_ms=plan.start_ms,
                thumbnail_ms=plan.thumbnail_ms,
                decoder=plan.video.decoder,
                filters=() if probe.video is None else still_filters(probe.video),
                clock=probe.clock,
            )
    if plan.subtitles:
        jobs["subtitles"] = ExtrasSpec(
            source=source,
            track=None if plan.video is None else plan.video.track,
            start_ms=plan.start_ms,
            demuxer=probe.container.split(",")[0],
            subtitles=plan.subtitles,
            clock=probe.clock,
        )
    return jobs | encodes


def _sound_jobs(source: Source, plan: Plan, probe: Probe) -> list[dict[str, JobSpec]]:
    """Return the jobs of all sound tracks, the default one first: a dictionary for each piece of time."""
    tracks = {track.index: track for track in probe.audio}
    wanted = dict.fromkeys(rendition.track for rendition in sorted(plan.audio, key=lambda rendition: not rendition.default))
    pieces = sound_pieces(plan.duration_ms, plan.segment_ms) if wanted else ()
    return [
        {
            f"audio-{track}" + (f"-{number}" if number else ""): AudioSpec(
                source=source,
                format=plan.format,
                segment_ms=plan.segment_ms,
                start_ms=plan.start_ms,
                duration_ms=plan.duration_ms,
                renditions=tuple(rendition for rendition in plan.audio if rendition.track == track),
                channels=tracks[track].channels,
                channel_layout=tracks[track].channel_layout,
                optional=plan.video is not None or len(tracks) > 1,
                clock=probe.clock,
                first_segment=first,
                end_segment=end,
            )
            for track in wanted
        }
        for number, (first, end) in enumerate(pieces)
    ]


def sound_pieces(duration_ms: int, segment_ms: int) -> tuple[tuple[int, int | None], ...]:
    """Return (first segment, first of the next piece) of each piece of sound: one piece unless playing must begin early.

    Each piece is encoded from the beginning of the track, so there must be few.
    """
    starts: list[int | None] = [0]
    end = FIRST_SEGMENTS
    while duration_ms > EARLY_MIN_S * 1000 and SOUND_REST * end * segment_ms < duration_ms:
        starts.append(end)
        end *= SOUND_GROWTH
    return tuple((first or 0, following) for first, following in pairwise([*starts, None]))


# --- pictures -------------------------------------------------------------------------------------------------------


def _video_plan(probe: Probe, track: VideoTrack, start_ms: int, settings: PlanSettings) -> _Video:
    rungs = ladder(*_display(track), settings.ladder)
    codec, codec_notes = _codec(settings, rungs)
    keep_hdr = track.hdr is not None and settings.hdr == "keep" and codec != "h264"
    rate, rate_notes = constant_rate(track)
    picture = filters(track, rate, keep_hdr)
    standing_ms = _standing_ms(probe, track)
    end_ms = track.start_ms + track.duration_ms + standing_ms
    frames = max(1, round(Fraction(end_ms - start_ms, 1000) * rate))
    segment_frames = max(1, round(Fraction(settings.segment_s) * rate))
    whole = not track.seekable or standing_ms > 0  # no chunk can start after the last picture
    segments = ceil(frames / segment_frames)
    early = not whole and frames > EARLY_MIN_S * rate and settings.chunks_max > segments.bit_length()
    per_chunk = segments if whole else _chunk_segments(segments, settings, early=early)
    stand_notes = (f"the last picture stands for {standing_ms / 1000:.1f} s: the sound is longer",) if standing_ms else ()
    seek_notes = () if track.seekable else ("the source can only be read from its start: it is encoded in one piece",)
    encoder = settings.encoder if settings.encoder is not None and codec == settings.codec else SOFTWARE_ENCODERS[codec]
    video = VideoPlan(
        track=track.index,
        codec=codec,
        encoder=encoder,
        preset=_preset(settings.preset, encoder),
        pixel_format="yuv420p10le" if keep_hdr else "yuv420p",
        frame_rate=_text(rate),
        timescale=timescale(rate),
        segment_frames=segment_frames,
        start_ms=start_ms,
        lead_ms=_read_lead_ms(probe, track),
        clock=probe.clock,
        decoder=track.decoder,
        source_filters=picture.source,
        filters=picture.picture,
        rungs=rungs,
        cut=Cut(
            frames=frames,
            chunk_segments=per_chunk,
            first_segments=FIRST_SEGMENTS if early else None,
            growth=GROWTH if early else None,
        ),
        gop_frames=_gop_frames(segment_frames, settings),
    )
    return _Video(video, (*codec_notes, *rate_notes, *picture.notes, *stand_notes, *seek_notes))


def _gop_frames(segment_frames: int, settings: PlanSettings) -> int | None:
    """Return the frames between two key frames, `GOP_MAX_S` or a little less; None where a segment cannot be divided so."""
    least = ceil(settings.segment_s / GOP_MAX_S)
    return next((segment_frames // count for count in range(least, 2 * least + 1) if segment_frames % count == 0), None)


def _chunk_segments(segments: int, settings: PlanSettings, *, early: bool) -> int:
    """Return the number of segments in a chunk: by the settings, more when there would be too many chunks."""
    wanted = max(1, round(settings.chunk_s / settings.segment_s))
    short = segments.bit_length() if early else 0  # maximum chunks before a whole one
    return max(wanted, ceil(segments / (settings.chunks_max - short)))


def _preset(preset: str, encoder: str) -> str:
    """Return the encoder's own name of the preset; for NVENC and a name of x264 and x265, its middle preset."""
    if encoder == "libsvtav1":
        return SVT_PRESETS.get(preset, preset)
    if encoder.endswith("_nvenc") and preset in SVT_PRESETS:
        return NVENC_PRESET
    return preset


def constant_rate(track: VideoTrack) -> tuple[Fraction, tuple[str, ...]]:
    """Return the output's constant frame rate, 10 to 60 a second, and why it differs from the source's.

    A variable rate becomes the standard rate nearest to the usual distance between two pictures. A rate above 60 is halved
    until it fits, one below 10 multiplied, so that pictures are dropped or repeated evenly.
    """
    own = Fraction(track.frame_rate)
    if track.variable_frame_rate:
        rate = min(STANDARD_RATES, key=lambda standard: abs(standard - own))
        return rate, (f"variable frame rate, made constant at {_text(rate)}",)
    rate = own
    while rate > RATE_MAX:
        rate /= 2
    if rate < RATE_MIN:
        rate *= ceil(RATE_MIN / rate)
    if rate == own:
        return rate, ()
    verb = "left out" if rate < own else "repeated"
    return rate, (f"{_text(own)} frames a second: some are {verb}, {_text(rate)} remain",)


def timescale(rate: Fraction) -> int:
    """Return the timescale, at least 10,000 ticks a second, in which a frame is a whole number (as ffmpeg's MP4 muxer does)."""
    ticks = rate.numerator
    while ticks < TIMESCALE_MIN:
        ticks *= 2
    return ticks


def _codec(settings: PlanSettings, rungs: tuple[Rung, ...]) -> tuple[VideoCodec, tuple[str, ...]]:
    """Return the codec: that of the settings, unless its encoder cannot make such small pictures or the format cannot carry it."""
    if settings.codec == "av1" and settings.format == "hls_ts":
        return "h264", ("H.264 instead of AV1: MPEG-TS does not carry AV1",)
    smallest = min(min(rung.width, rung.height) for rung in rungs)
    if smallest < SIDE_MIN[settings.codec]:
        return "h264", (f"H.264 instead of {settings.codec.upper()}: no encoder for {smallest} pixels",)
    return settings.codec, ()


def thumbnail_ms(duration_ms: int) -> int:
    """Return the moment of the thumbnail: 5 s, or the middle of clips shorter than twice that."""
    return min(THUMBNAIL_MS, duration_ms // 2)


# --- sound and text -------------------------------------------------------------------------------------------------


def _audio_plans(probe: Probe, rungs: tuple[Rung, ...]) -> tuple[tuple[AudioPlan, ...], tuple[str, ...]]:
    """Return every track at the highest and the lowest bit rate of the rungs; more than two channels become two.

    Mono stays mono in a container that cannot change to stereo midway.
    """
    tracks = probe.audio
    fixed = probe.container not in CHANGING_CONTAINERS
    wanted = sorted({rung.audio_kbps for rung in rungs} or AUDIO_ONLY_KBPS, reverse=True)
    rates = sorted({wanted[0], wanted[-1]}, reverse=True)
    default = next((track.index for track in tracks if track.default), tracks[0].index if tracks else None)
    plans = [
        AudioPlan(
            name=f"audio-{track.index}-{kbps}k",
            track=track.index,
            language=language_tag(track.language),
            label=label,
            default=track.index == default,
            channels=1 if track.channels == 1 and fixed else 2,
            kbps=kbps,
        )
        for track, label in zip(tracks, labels((t.title, t.language) for t in tracks), strict=True)
        for kbps in rates
    ]
    mixed = [track for track in tracks if track.channels > 2]
    return tuple(plans), tuple(f"sound track {t.index}: {t.channels} channels are mixed down to stereo" for t in mixed)


def _attachment_notes(probe: Probe) -> tuple[str, ...]:
    names = [attachment.filename or attachment.media_type or "unnamed" for attachment in probe.attachments]
    return (f"attachments stay in the source: {', '.join(names)[:500]}",) if names else ()


def _chapter_notes(probe: Probe) -> tuple[str, ...]:
    return (f"{probe.chapters} chapters stay in the source",) if probe.chapters else ()


# --- arithmetic -----------------------------------------------------------------------------------------------------


def _start_ms(probe: Probe) -> int:
    """Return the source's timestamp that becomes time 0.

    That is the first picture's, when sound leads it by at most `LEAD_MAX_MS`: such a lead is an encoder's delay or a cut
    between two sound frames, and is cut. With a longer lead the first picture stands still until its time.
    """
    starts = [track.start_ms for track in probe.audio]
    if probe.video is None:
        return min(starts)
    first = min([probe.video.start_ms, *starts])
    return probe.video.start_ms if probe.video.start_ms - first <= LEAD_MAX_MS else first


def _end_ms(probe: Probe) -> int:
    """Return the source's timestamp at which its last track ends."""
    tracks = [track for track in (probe.video, *probe.audio) if track is not None]
    return max(track.start_ms + track.duration_ms for track in tracks)


def _standing_ms(probe: Probe, track: VideoTrack) -> int:
    """Return for how long the last picture stands while sound goes on: players end, or never begin, where pictures run out."""
    rest = _end_ms(probe) - track.start_ms - track.duration_ms
    return rest if rest > LEAD_MAX_MS else 0


def _read_lead_ms(probe: Probe, track: VideoTrack) -> int:
    """Return how long before a picture reading must begin to decode it, at most 30 s.

    A container with an exact index leads to the key frame before it; for others, reading begins earlier by the longest stretch
    after a key frame. Where pictures stand for longer than a frame, the one that stands when a chunk begins must be read as
    well. A deinterlacer needs the previous picture.
    """
    leads = [0]
    if not probe.container.startswith(INDEXED_CONTAINERS):
        interval = track.keyframe_interval_ms
        leads.append(READ_LEAD_MAX_MS if interval is None else interval + READ_LEAD_MARGIN_MS)
    if track.gap_ms > 1500 / Fraction(track.frame_rate):
        leads.append(track.gap_ms)
    if track.interlaced:
        leads.append(DEINTERLACE_LEAD_MS)
    return min(READ_LEAD_MAX_MS, max(leads))


def _segment_ms(video: VideoPlan | None, settings: PlanSettings) -> int:
    """Return the length of a full segment; sound is cut at the same times as the pictures."""
    if video is None:
        return round(settings.segment_s * 1000)
    return max(1, round(video.segment_frames * 1000 / Fraction(video.frame_rate)))


def _frames_ms(video: VideoPlan) -> int:
    last = video.chunks[-1]
    return round((last.start_frame + last.frames) * 1000 / Fraction(video.frame_rate))


def _display(track: VideoTrack) -> tuple[int, int]:
    return track.display_width, track.display_height


def _text(rate: Fraction) -> str:
    return f"{rate.numerator}/{rate.denominator}"


def _failure(code: str, message: str) -> Failure:
    return Failure(stage="analysis", category="validation", code=code, message=message, retryable=False)
