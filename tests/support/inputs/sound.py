"""Awkward sound: none, alone, late, in many channels and languages."""

from tests.support.recipes import AAC, TALKIE, X264, Recipe, picture, published, tone

SOUND: dict[str, Recipe] = {
    "silent": Recipe("silent.mp4", "no sound", published("240p"), (*picture(), *X264)),
    "audio_only": Recipe("audio_only.m4a", "only sound", published(audio_tracks=1), (*tone(), *AAC)),
    "cover_art": Recipe(
        "cover_art.mp3",
        "only sound, with a cover picture",
        published(audio_tracks=1),
        (
            *(*tone(), *picture("64x64", seconds="0.04"), "-map", "0", "-map", "1", "-c:a", "libmp3lame"),
            *("-c:v", "png", "-disposition:v", "attached_pic", "-id3v2_version", "3"),
        ),
    ),
    "two_languages": Recipe(
        "two_languages.mkv",
        "two languages",
        published("240p", audio_tracks=2),
        (
            *(*picture(), *tone(440), *tone(880), "-map", "0", "-map", "1", "-map", "2", *X264, *AAC),
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger"),
            *("-metadata:s:a:1", "title=Kommentar", "-disposition:a:0", "0", "-disposition:a:1", "default"),
        ),
    ),
    "surround": Recipe(
        "surround.mkv",
        "5.1 sound",
        published("240p", audio_tracks=1, warnings=("mixed down",)),
        (*picture(), *tone(layout="5.1"), *X264, "-c:a", "ac3"),
    ),
    "late_audio": Recipe(
        "late_audio.mp4",
        "sound that starts half a second late",
        TALKIE,
        (*picture(), "-itsoffset", "0.5", *tone(seconds="0.5"), *X264, *AAC),
    ),
    "late_video": Recipe(
        "late_video.mp4",
        "pictures that start half a second late",
        published("240p", audio_tracks=1, duration_ms=1500),
        ("-itsoffset", "0.5", *picture(), *tone(seconds="1.5"), *X264, *AAC),
    ),
}
