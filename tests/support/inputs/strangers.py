"""Files that are no videos, and names that are no names."""

from tests.support.recipes import SRT, TALKIE, Failed, Recipe, constant, picture, random_bytes

M3U8 = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://169.254.169.254/latest/meta-data/\n#EXTINF:2,\n/etc/passwd\n#EXT-X-ENDLIST\n"

FFCONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\nfile 'http://169.254.169.254/x.mp4'\n"

MPD = (
    b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
    b"<Period><BaseURL>http://169.254.169.254/</BaseURL></Period></MPD>\n"
)

NASTY_NAMES = (
    "two words.mp4",
    'it\'s "quoted" & `$(touch pwned)`; %s.mp4',
    "line\nbreak.mp4",
    "emoji 🎬 ürsprünglich.mp4",
    "-vf crop=1.mp4",
    "file:concat|x.mp4",
    "../../escape.mp4",
    "..",
    "a" * 251 + ".mp4",
)
"""File names that must neither break anything nor change what is read or written."""
STRANGERS: dict[str, Recipe] = {
    "zero_bytes": Recipe("zero_bytes.mp4", "no bytes at all", Failed("FILE_EMPTY"), edit=constant(b"")),
    "noise": Recipe("noise.mp4", "random bytes", Failed("FILE_NOT_MEDIA"), edit=random_bytes),
    "text": Recipe(
        "text.mp4",
        "a text file named .mp4",
        Failed("FILE_NOT_MEDIA"),
        edit=constant(b"This is not a video.\nIt only says so.\n" * 40),
    ),
    "picture": Recipe("picture.png", "a still picture", Failed("FILE_NOT_MEDIA"), (*picture(seconds="0.04"),)),
    "subtitles_only": Recipe(
        "subtitles_only.mkv",
        "a container with nothing to see or hear",
        Failed("NO_STREAMS"),
        ("-i", "{subtitles.srt}", "-c:s", "srt"),
        {"subtitles.srt": SRT},
    ),
    "playlist_m3u8": Recipe(
        "playlist.m3u8",
        "an HLS playlist that points elsewhere",
        Failed("PLAYLIST_REFUSED"),
        edit=constant(M3U8),
    ),
    "playlist_named_mp4": Recipe(
        "playlist.mp4",
        "the same, named .mp4",
        Failed("PLAYLIST_REFUSED"),
        edit=constant(M3U8),
    ),
    "playlist_concat": Recipe(
        "concat.mp4",
        "an ffconcat script named .mp4",
        Failed("PLAYLIST_REFUSED"),
        edit=constant(FFCONCAT),
    ),
    "playlist_dash": Recipe(
        "manifest.mp4",
        "a DASH manifest named .mp4",
        Failed("PLAYLIST_REFUSED"),
        edit=constant(MPD),
    ),
}
NASTY = {
    f"nasty_name_{number}": Recipe(
        name if name.count("/") == 0 and name != ".." else f"nasty_{number}.mp4",
        "a nasty file name",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy"),
        upload_name=name,
    )
    for number, name in enumerate(NASTY_NAMES)
}
