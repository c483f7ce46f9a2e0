"""Awkward subtitles, captions and attachments."""

from tests.support.recipes import ASS, MARKS, SCC, SRT, TALKIE, WEBVTT, X264, Recipe, captioned, pgs, picture, published, talkie

CAPTIONS: dict[str, Recipe] = {
    "text_subtitles_mkv": Recipe(
        "text_subtitles.mkv",
        "text subtitles (SubRip in Matroska)",
        published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "srt", "-metadata:s:s:0", "language=eng"),
        {"subtitles.srt": SRT},
    ),
    "text_subtitles_mp4": Recipe(
        "text_subtitles.mp4",
        "text subtitles (mov_text in MP4)",
        published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "mov_text", "-metadata:s:s:0", "language=deu"),
        {"subtitles.srt": SRT},
    ),
    "subtitles_with_marks": Recipe(
        "marks.mkv",
        "SubRip with angle brackets, arrows, styles and a right-to-left line",
        published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "copy", "-metadata:s:s:0", "language=heb"),
        {"subtitles.srt": MARKS},
    ),
    "subtitles_latin1": Recipe(
        "latin1.mkv",
        "SubRip that is not UTF-8",
        published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "copy"),
        {"subtitles.srt": "1\n00:00:00,100 --> 00:00:00,500\nÜberraschung für Jürgen: schöne Grüße aus Köln\n\n".encode("latin-1")},
    ),
    "subtitles_ass": Recipe(
        "subtitles_ass.mkv",
        "ASS subtitles with drawings, comments and signs",
        published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.ass}"), "-c:s", "copy"),
        {"subtitles.ass": ASS},
    ),
    "subtitles_webvtt": Recipe(
        "subtitles_webvtt.mkv",
        "WebVTT subtitles with voices and positions",
        published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.vtt}"), "-c:s", "copy"),
        {"subtitles.vtt": WEBVTT},
    ),
    "captions_track": Recipe(
        "captions.mov",
        "closed captions (CEA-608) in a track of their own",
        published("240p", audio_tracks=1, subtitles=1, warnings=("closed captions",)),
        (*talkie("-i", "{captions.scc}"), "-c:s", "copy"),
        {"captions.scc": SCC},
    ),
    "captions_in_pictures": Recipe(
        "captions.mp4",
        "closed captions (CEA-608) inside the pictures",
        published("240p", subtitles=1, warnings=("closed captions",)),
        (*picture(), *X264, "-bf", "0", "-movflags", "frag_keyframe+empty_moov"),
        edit=captioned,
    ),
    "strange_languages": Recipe(
        "languages.mkv",
        "two tracks of one language, and one of a language that is none",
        published("240p", audio_tracks=3),
        (
            *(*talkie(), "-map", "0", "-map", "1", "-map", "1", "-map", "1", "-metadata:s:a:0", "language=deu"),
            *("-metadata:s:a:1", "language=ger", "-metadata:s:a:2", "language=x<&>"),
        ),
    ),
    "image_subtitles": Recipe(
        "image_subtitles.mkv",
        "image subtitles (PGS)",
        published("240p", audio_tracks=1, warnings=("image subtitles",)),
        (*talkie("-i", "{subtitles.sup}"), "-c:s", "copy"),
        {"subtitles.sup": pgs()},
    ),
    "attachment": Recipe(
        "attachment.mkv",
        "an attached font",
        TALKIE,
        (*talkie(), "-attach", "{font.ttf}", "-metadata:s:t", "mimetype=application/x-truetype-font"),
        {"font.ttf": b"\x00\x01\x00\x00" + bytes(200)},
    ),
}
