"""Awkward input: small clips of every kind that people upload, and the decided answer to each.

`AWKWARD` is the catalogue: name -> `Recipe`. `docs/reference/inputs.md` tells the same answers to people; a test compares the two.
"""

from typing import assert_never

from tests.support.broadcasts import STREAMS
from tests.support.recipes import (
    AAC,
    ASS,
    MARKS,
    SCC,
    SRT,
    WEBVTT,
    X264,
    Failed,
    Published,
    Recipe,
    captioned,
    constant,
    corrupt_middle,
    cropped_mkv,
    cropped_mp4,
    cut_at_90_percent,
    fields,
    in_yuv,
    lying_mkv,
    lying_mp4,
    marked,
    patches,
    pgs,
    picture,
    random_bytes,
    talkie,
    tone,
)


def _published(*rungs: str, **details: object) -> Published:
    return Published(rungs, **details)  # type: ignore[arg-type]


TALKIE = _published("240p", sizes=((320, 240),), audio_tracks=1)
HDR = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-color_primaries", "bt2020")
HDR_X265 = "log-level=error:pools=1:frame-threads=1:colorprim=bt2020:colormatrix=bt2020nc:transfer="
HALF_TRANSPARENT = (
    *("-f", "lavfi", "-i"),
    "color=0xFF00FF@0:s=160x240:r=25:d=0.2,format=rgba[l];color=0x00B000@1:s=160x240:r=25:d=0.2,format=rgba[r];[l][r]hstack",
)
"""Magenta that nobody may see on the left, opaque green on the right."""
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

AWKWARD: dict[str, Recipe] = {
    # --- pictures
    "portrait": Recipe(
        "portrait.mp4",
        "portrait: landscape pictures with a rotation flag",
        _published("360p", sizes=((360, 640),)),
        ("-display_rotation", "90", "-i", "{clip:landscape}", "-c", "copy"),
    ),
    "landscape": Recipe(
        "landscape.mp4",
        "plain landscape, no sound",
        _published("360p", sizes=((640, 360),)),
        (*picture("640x360"), *X264),
    ),
    "odd": Recipe(
        "odd.mkv",
        "odd width and height",
        _published("240p", sizes=((320, 240),)),
        ("-f", "lavfi", "-i", "testsrc=s=321x241:r=25:d=1", *X264, "-pix_fmt", "yuv444p"),
    ),
    "tiny": Recipe("tiny.mp4", "2x2", _published("2p", sizes=((2, 2),)), (*picture("2x2"), *X264)),
    "uhd": Recipe(
        "uhd.mp4",
        "4K, very short",
        _published(
            *("2160p", "1440p", "1080p", "720p", "480p", "360p"),
            sizes=((3840, 2160), (2560, 1440), (1920, 1080), (1280, 720), (854, 480), (640, 360)),
            duration_ms=200,
        ),
        (*picture("3840x2160", seconds="0.2"), *X264),
    ),
    "cinema": Recipe(
        "cinema.mp4",
        "wide picture between two steps of the ladder",
        _published("480p", "360p", sizes=((1146, 480), (860, 360)), duration_ms=200),
        (*picture("1280x536", seconds="0.2"), *X264),
    ),
    "variable_rate": Recipe(
        "variable_rate.mkv",
        "variable frame rate",
        _published("240p", frame_rate="30/1", duration_ms=2000, warnings=("variable frame rate",)),
        (
            *picture(rate="30", seconds="2"),
            *(
                "-vf",
                "settb=1/1000,setpts='(N/30+eq(mod(N,4),3)*0.012)/TB'",
                "-fps_mode",
                "passthrough",
                "-enc_time_base:v",
                "1:1000",
            ),
            *X264,
        ),
    ),
    "standing_pictures": Recipe(
        "standing.mkv",
        "pictures that only stand are left out",
        _published("240p", frame_rate="30/1", duration_ms=1900),
        (*picture(rate="30", seconds="2"), "-vf", "select='not(mod(n,4))+not(mod(n,7))'", "-fps_mode", "passthrough", *X264),
    ),
    "fps120": Recipe(
        "fps120.mp4",
        "120 frames a second",
        _published("240p", frame_rate="60/1", warnings=("120",)),
        (*picture(rate="120"), *X264),
    ),
    "ntsc": Recipe(
        "ntsc.mkv",
        "30000/1001 in a container that rounds times to milliseconds",
        _published("240p", frame_rate="30000/1001", duration_ms=1001),
        (*picture(rate="30000/1001", seconds="1.001"), *X264),
    ),
    "hdr_pq": Recipe(
        "hdr_pq.mp4",
        "10-bit HDR, PQ",
        _published("360p", sizes=((640, 360),), duration_ms=400, warnings=("tone-mapped",)),
        (
            *picture("640x360", seconds="0.4"),
            *(*HDR, "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-tag:v", "hvc1"),
            *("-x265-params", HDR_X265 + "smpte2084"),
        ),
    ),
    "hdr_hlg": Recipe(
        "hdr_hlg.mkv",
        "10-bit HDR, HLG",
        _published("360p", sizes=((640, 360),), duration_ms=400, warnings=("tone-mapped",)),
        (
            *picture("640x360", seconds="0.4"),
            *(*HDR, "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc"),
            *("-x265-params", HDR_X265 + "arib-std-b67"),
        ),
    ),
    "interlaced": Recipe(
        "interlaced.ts",
        "interlaced, top field first",
        _published("480p", "360p", sizes=((600, 480), (450, 360)), warnings=("deinterlaced",)),
        (
            *(*picture("720x576", rate="50"), "-vf", "setsar=1,interlace=scan=tff"),
            *("-c:v", "mpeg2video", "-b:v", "2M", "-flags", "+ilme+ildct"),
        ),
    ),
    "anamorphic": Recipe(
        "anamorphic.mp4",
        "pixels that are not square",
        _published("480p", "360p", sizes=((872, 480), (654, 360)), duration_ms=400),
        (*picture("720x576", seconds="0.4"), "-vf", "setsar=16/11", *X264),
    ),
    "one_frame": Recipe(
        "one_frame.mp4",
        "a single picture",
        _published("240p", duration_ms=40),
        (*picture(seconds="0.04"), *X264),
    ),
    "full_range_rgb": Recipe(
        "full_range_rgb.mkv",
        "RGB pictures, as screen recorders write them",
        _published("240p"),
        (*picture(), "-c:v", "ffv1", "-pix_fmt", "bgr0"),
    ),
    "two_video_tracks": Recipe(
        "two_video_tracks.mp4",
        "two video tracks",
        _published("240p", warnings=("more than one video",)),
        (*picture(), *picture("160x120"), "-map", "0", "-map", "1", *X264),
    ),
    "cropped_mkv": Recipe(
        "cropped.mkv",
        "cropped by the container (Matroska)",
        _published("264p", sizes=((640, 264),), duration_ms=200),
        (*marked(), *X264),
        edit=cropped_mkv,
    ),
    "cropped_mp4": Recipe(
        "cropped.mp4",
        "cropped by the container (clean aperture in MP4)",
        _published("264p", sizes=((640, 264),), duration_ms=200),
        (*marked(), *X264),
        edit=cropped_mp4,
    ),
    "cropped_portrait": Recipe(
        "cropped_portrait.mp4",
        "cropped by the container, turned, and with pixels that are not square",
        _published("352p", sizes=((352, 640),), duration_ms=200, warnings=("made square",)),
        ("-display_rotation", "90", "-i", "{clip:cropped_mp4}", "-c", "copy", "-aspect", "4:3"),
    ),
    "marked": Recipe(
        "marked.mp4",
        "plain pictures, for comparison with turned ones",
        _published("360p", sizes=((640, 360),), duration_ms=200),
        (*marked(), *X264),
    ),
    "turned_by_sei": Recipe(
        "turned.mp4",
        "turned by a message in the H.264 stream (SEI)",
        _published("360p", sizes=((360, 640),), duration_ms=200),
        ("-i", "{clip:marked}", "-c", "copy", "-bsf:v", "h264_metadata=display_orientation=insert:rotate=90"),
    ),
    "mirrored": Recipe(
        "mirrored.mp4",
        "mirrored by the container's matrix",
        _published("360p", sizes=((640, 360),), duration_ms=200),
        ("-display_hflip", "-i", "{clip:marked}", "-c", "copy"),
    ),
    "odd_hdr": Recipe(
        "odd_hdr.mkv",
        "high dynamic range with odd sides",
        _published("240p", sizes=((320, 240),), duration_ms=200, warnings=("tone-mapped",)),
        (
            *("-f", "lavfi", "-i", "testsrc=s=321x241:r=25:d=0.2", "-c:v", "ffv1"),
            *in_yuv("bt2020", "tv", "yuv420p10le", "bt2020nc", "bt2020", "smpte2084"),
        ),
    ),
    "hdr_other_primaries": Recipe(
        "hdr_p3.mkv",
        "PQ with other primaries than BT.2020, in 8 bit",
        _published("240p", duration_ms=200, warnings=("tone-mapped",)),
        (
            *(*picture(seconds="0.2"), "-c:v", "ffv1"),
            *in_yuv("bt709", "tv", "yuv420p", "bt709", "smpte432", "smpte2084"),
        ),
    ),
    "interlaced_dv": Recipe(
        "interlaced.dv",
        "interlaced, known only to the pictures (DV)",
        _published("480p", "360p", sizes=((640, 480), (480, 360)), duration_ms=400, warnings=("deinterlaced",)),
        (*fields("bff"), "-vf", "setfield=bff,fieldorder=bff,setsar=16/15", "-c:v", "dvvideo", "-pix_fmt", "yuv420p"),
    ),
    "interlaced_mpeg4": Recipe(
        "interlaced.avi",
        "interlaced, known only to the pictures (MPEG-4 in AVI)",
        _published("480p", "360p", sizes=((600, 480), (450, 360)), duration_ms=400, warnings=("deinterlaced",)),
        (*fields("tff"), "-vf", "setfield=tff", "-c:v", "mpeg4", "-b:v", "3M", "-flags", "+ildct+ilme"),
    ),
    "combed": Recipe(
        "combed.mkv",
        "interlaced and not flagged at all",
        _published("480p", "360p", sizes=((600, 480), (450, 360)), duration_ms=400, warnings=("deinterlaced",)),
        (*fields("bff"), *X264),
    ),
    "untagged_hd": Recipe(
        "untagged.mp4",
        "high definition without colour tags",
        _published("720p", "480p", "360p", duration_ms=200),
        (*patches("214x720"), *in_yuv("bt709", "tv", "yuv420p"), *X264),
    ),
    "untagged_sd": Recipe(
        "untagged.mkv",
        "standard definition without colour tags, 4:4:4",
        _published("360p", duration_ms=200),
        (*patches(), *in_yuv("bt601", "tv", "yuv444p"), *X264, "-pix_fmt", "yuv444p"),
    ),
    "reserved_matrix": Recipe(
        "reserved.mp4",
        "a colour matrix that no scaler knows",
        _published("720p", "480p", "360p", duration_ms=200, warnings=("colour matrix",)),
        (
            *("-i", "{clip:untagged_hd}", "-c", "copy", "-bsf:v"),
            "h264_metadata=colour_primaries=0:transfer_characteristics=0:matrix_coefficients=13",
        ),
    ),
    "full_range": Recipe(
        "full_range.avi",
        "full range, as cameras write it (Motion JPEG)",
        _published("720p", "480p", "360p", duration_ms=200),
        (*patches("214x720"), *in_yuv("bt601", "pc", "yuvj420p"), "-c:v", "mjpeg", "-q:v", "2"),
    ),
    "rgb": Recipe("rgb.mkv", "H.264 in RGB", _published("360p", duration_ms=200), (*patches(), "-c:v", "libx264rgb")),
    "gray": Recipe(
        "gray.mkv",
        "shades of grey",
        _published("240p", duration_ms=200),
        (*picture(seconds="0.2"), "-c:v", "ffv1", "-pix_fmt", "gray"),
    ),
    "transparent": Recipe(
        "transparent.mov",
        "transparent pictures (PNG in QuickTime)",
        _published("240p", duration_ms=200, warnings=("black is shown",)),
        (*HALF_TRANSPARENT, "-c:v", "png", "-pix_fmt", "rgba"),
    ),
    "transparent_vp9": Recipe(
        "transparent.webm",
        "transparent pictures (VP9)",
        _published("240p", duration_ms=200, warnings=("black is shown",)),
        (
            *HALF_TRANSPARENT,
            "-c:v",
            "libvpx-vp9",
            "-pix_fmt",
            "yuva420p",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-b:v",
            "500k",
        ),
    ),
    # --- sound
    "silent": Recipe("silent.mp4", "no sound", _published("240p"), (*picture(), *X264)),
    "audio_only": Recipe("audio_only.m4a", "only sound", _published(audio_tracks=1), (*tone(), *AAC)),
    "cover_art": Recipe(
        "cover_art.mp3",
        "only sound, with a cover picture",
        _published(audio_tracks=1),
        (
            *(*tone(), *picture("64x64", seconds="0.04"), "-map", "0", "-map", "1", "-c:a", "libmp3lame"),
            *("-c:v", "png", "-disposition:v", "attached_pic", "-id3v2_version", "3"),
        ),
    ),
    "two_languages": Recipe(
        "two_languages.mkv",
        "two languages",
        _published("240p", audio_tracks=2),
        (
            *(*picture(), *tone(440), *tone(880), "-map", "0", "-map", "1", "-map", "2", *X264, *AAC),
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger"),
            *("-metadata:s:a:1", "title=Kommentar", "-disposition:a:0", "0", "-disposition:a:1", "default"),
        ),
    ),
    "surround": Recipe(
        "surround.mkv",
        "5.1 sound",
        _published("240p", audio_tracks=1, warnings=("mixed down",)),
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
        _published("240p", audio_tracks=1, duration_ms=1500),
        ("-itsoffset", "0.5", *picture(), *tone(seconds="1.5"), *X264, *AAC),
    ),
    # --- subtitles and attachments
    "text_subtitles_mkv": Recipe(
        "text_subtitles.mkv",
        "text subtitles (SubRip in Matroska)",
        _published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "srt", "-metadata:s:s:0", "language=eng"),
        {"subtitles.srt": SRT},
    ),
    "text_subtitles_mp4": Recipe(
        "text_subtitles.mp4",
        "text subtitles (mov_text in MP4)",
        _published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "mov_text", "-metadata:s:s:0", "language=deu"),
        {"subtitles.srt": SRT},
    ),
    "subtitles_with_marks": Recipe(
        "marks.mkv",
        "SubRip with angle brackets, arrows, styles and a right-to-left line",
        _published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "copy", "-metadata:s:s:0", "language=heb"),
        {"subtitles.srt": MARKS},
    ),
    "subtitles_latin1": Recipe(
        "latin1.mkv",
        "SubRip that is not UTF-8",
        _published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.srt}"), "-c:s", "copy"),
        {"subtitles.srt": "1\n00:00:00,100 --> 00:00:00,500\nÜberraschung für Jürgen: schöne Grüße aus Köln\n\n".encode("latin-1")},
    ),
    "subtitles_ass": Recipe(
        "subtitles_ass.mkv",
        "ASS subtitles with drawings, comments and signs",
        _published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.ass}"), "-c:s", "copy"),
        {"subtitles.ass": ASS},
    ),
    "subtitles_webvtt": Recipe(
        "subtitles_webvtt.mkv",
        "WebVTT subtitles with voices and places",
        _published("240p", audio_tracks=1, subtitles=1),
        (*talkie("-i", "{subtitles.vtt}"), "-c:s", "copy"),
        {"subtitles.vtt": WEBVTT},
    ),
    "captions_track": Recipe(
        "captions.mov",
        "closed captions (CEA-608) in a track of their own",
        _published("240p", audio_tracks=1, subtitles=1, warnings=("closed captions",)),
        (*talkie("-i", "{captions.scc}"), "-c:s", "copy"),
        {"captions.scc": SCC},
    ),
    "captions_in_pictures": Recipe(
        "captions.mp4",
        "closed captions (CEA-608) inside the pictures",
        _published("240p", subtitles=1, warnings=("closed captions",)),
        (*picture(), *X264, "-bf", "0", "-movflags", "frag_keyframe+empty_moov"),
        edit=captioned,
    ),
    "strange_languages": Recipe(
        "languages.mkv",
        "two tracks of one language, and one of a language that is none",
        _published("240p", audio_tracks=3),
        (
            *(*talkie(), "-map", "0", "-map", "1", "-map", "1", "-map", "1", "-metadata:s:a:0", "language=deu"),
            *("-metadata:s:a:1", "language=ger", "-metadata:s:a:2", "language=x<&>"),
        ),
    ),
    "image_subtitles": Recipe(
        "image_subtitles.mkv",
        "image subtitles (PGS)",
        _published("240p", audio_tracks=1, warnings=("image subtitles",)),
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
    # --- times
    "edit_list": Recipe(
        "edit_list.mp4",
        "an edit list that leaves out the start",
        _published("240p", audio_tracks=1, duration_ms=600),
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
        _published("240p", audio_tracks=1, warnings=("duration",)),
        ("-i", "{clip:mkv}", "-c", "copy"),
        edit=lying_mkv,
    ),
    # --- containers
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
        _published("240p", audio_tracks=1, warnings=("in one piece",)),
        (*picture(), *tone(), "-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame"),
    ),
    "webm": Recipe(
        "plain.webm",
        "WebM",
        TALKIE,
        (*picture(), *tone(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    ),
    "ts": Recipe("plain.ts", "MPEG transport stream", TALKIE, ("-i", "{clip:mp4}", "-c", "copy")),
    # --- damage
    "truncated_mkv": Recipe(
        "truncated.mkv",
        "Matroska cut off at 90 %",
        _published("240p", audio_tracks=1, duration_ms=880, warnings=("incomplete", "in one piece")),
        ("-i", "{clip:mkv}", "-c", "copy"),
        edit=cut_at_90_percent,
    ),
    "truncated_faststart": Recipe(
        "truncated_faststart.mp4",
        "MP4 with its index first, cut off at 90 %",
        _published("240p", audio_tracks=1, duration_ms=880, warnings=("incomplete", "damaged")),
        ("-i", "{clip:mp4}", "-c", "copy", "-movflags", "+faststart"),
        edit=cut_at_90_percent,
    ),
    "truncated_ts": Recipe(
        "truncated.ts",
        "MPEG transport stream cut off at 90 %",
        _published("240p", audio_tracks=1),
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
        _published("240p", audio_tracks=1, warnings=("damaged",)),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=corrupt_middle,
    ),
    "corrupt_ts": Recipe(
        "corrupt_middle.ts",
        "noise in the middle (MPEG transport stream)",
        _published("240p", audio_tracks=1, warnings=("damaged",)),
        ("-i", "{clip:ts}", "-c", "copy"),
        edit=corrupt_middle,
    ),
    # --- not a video
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
AWKWARD |= STREAMS
AWKWARD |= {
    f"nasty_name_{number}": Recipe(
        name if name.count("/") == 0 and name != ".." else f"nasty_{number}.mp4",
        "a nasty file name",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy"),
        upload_name=name,
    )
    for number, name in enumerate(NASTY_NAMES)
}


def answer_of(expected: Published | Failed) -> str:
    """Return the decided answer in words, for `docs/reference/inputs.md`."""
    match expected:
        case Failed(code=code):
            return f"refused: `{code}`"
        case Published():
            rate = f" at {expected.frame_rate}" if expected.frame_rate != "25/1" else ""
            parts = [f"{', '.join(expected.rungs)}{rate}"] if expected.rungs else ["sound only"]
            if expected.audio_tracks > 1:
                parts.append(f"{expected.audio_tracks} sound tracks")
            if expected.subtitles:
                parts.append(f"{expected.subtitles} WebVTT")
            if expected.warnings:
                parts.append(f"told: “{'”, “'.join(expected.warnings)}”")
            return "published: " + "; ".join(parts)
        case _:
            assert_never(expected)


def table() -> str:
    """Return the table of `docs/reference/inputs.md`: `python -m tests.support.awkward` prints it."""
    rows = [
        f"| {recipe.about} | `{name}` | {answer_of(recipe.expected)} |"
        for name, recipe in AWKWARD.items()
        if not name.startswith("nasty_name_")
    ]
    return "\n".join(["| Input | Clip | Answer |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
