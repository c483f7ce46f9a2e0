"""Awkward files: times that lie, every container, damage."""

from tests.support.recipes import (
    TALKIE,
    Failed,
    Recipe,
    corrupt_middle,
    cut_at_90_percent,
    lying_mkv,
    lying_mp4,
    picture,
    published,
    talkie,
    tone,
)

TIMES: dict[str, Recipe] = {
    "edit_list": Recipe(
        "edit_list.mp4",
        "an edit list that leaves out the start",
        published("240p", audio_tracks=1, duration_ms=600),
        ("-ss", "0.4", "-i", "{clip:mp4}", "-c", "copy"),
    ),
    "negative_times": Recipe(
        "negative_times.ts",
        "timestamps below zero: the 33-bit clock of a transport stream starts anew on the way",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-output_ts_offset", "95443.3", "-mpegts_copyts", "1"),
    ),
    "lying_mp4": Recipe(
        "lying.mp4",
        "an MP4 whose headers say ten times its length",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=lying_mp4,
    ),
    "lying_mkv": Recipe(
        "lying.mkv",
        "a Matroska file whose headers say ten times its length",
        published("240p", audio_tracks=1, warnings=("duration",)),
        ("-i", "{clip:mkv}", "-c", "copy"),
        edit=lying_mkv,
    ),
}
CONTAINERS: dict[str, Recipe] = {
    "mp4": Recipe("plain.mp4", "MP4 with its index (moov) last", TALKIE, talkie()),
    "mp4_faststart": Recipe(
        "faststart.mp4",
        "MP4 with its index first",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+faststart"),
    ),
    "mp4_fragmented": Recipe(
        "fragmented.mp4",
        "MP4 in fragments",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+frag_keyframe+empty_moov+default_base_moof"),
    ),
    "mov": Recipe("plain.mov", "QuickTime", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
    "mkv": Recipe("plain.mkv", "Matroska", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
    "avi": Recipe(
        "plain.avi",
        "AVI with B-frames",
        published("240p", audio_tracks=1, warnings=("in one piece",)),
        (*picture(), *tone(), "-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame"),
    ),
    "webm": Recipe(
        "plain.webm",
        "WebM",
        TALKIE,
        (*picture(), *tone(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    ),
    "ts": Recipe("plain.ts", "MPEG transport stream", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
}
DAMAGE: dict[str, Recipe] = {
    "truncated_mkv": Recipe(
        "truncated.mkv",
        "Matroska cut off at 90 %",
        published("240p", audio_tracks=1, duration_ms=880, warnings=("incomplete", "in one piece")),
        ("-i", "{clip:mkv}", "-c", "copy"),
        edit=cut_at_90_percent,
    ),
    "truncated_faststart": Recipe(
        "truncated_faststart.mp4",
        "MP4 with its index first, cut off at 90 %",
        published("240p", audio_tracks=1, duration_ms=880, warnings=("incomplete", "damaged")),
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+faststart"),
        edit=cut_at_90_percent,
    ),
    "truncated_ts": Recipe(
        "truncated.ts",
        "MPEG transport stream cut off at 90 %",
        published("240p", audio_tracks=1),
        ("-i", "{clip:ts}", "-c", "copy"),
        edit=cut_at_90_percent,
    ),
    "truncated_mp4": Recipe(
        "truncated.mp4",
        "MP4 with its index last, cut off at 90 %: the index is gone",
        Failed("FILE_TRUNCATED"),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=cut_at_90_percent,
    ),
    "corrupt_middle": Recipe(
        "corrupt_middle.mp4",
        "noise over some pictures in the middle (MP4)",
        published("240p", audio_tracks=1, warnings=("damaged",)),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=corrupt_middle,
    ),
    "corrupt_ts": Recipe(
        "corrupt_middle.ts",
        "noise in the middle (MPEG transport stream)",
        published("240p", audio_tracks=1, warnings=("damaged",)),
        ("-i", "{clip:ts}", "-c", "copy"),
        edit=corrupt_middle,
    ),
}
