"""Awkward streams: clocks, the choice among streams, channels, containers and protections."""

from tests.support.recipes import AAC, TALKIE, X264, Edit, Failed, Recipe, picture, published, tone

LIBVPX = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")
ONE_RED = ("-f", "lavfi", "-i", "color=red:s=320x240:d=0.04:r=25")
SECOND = ("-f", "lavfi", "-i", "color=red:s=160x120:d=1:r=25")
CENC = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
CHAPTERS = b";FFMETADATA1\n" + b"".join(
    b"[CHAPTER]\nTIMEBASE=1/1000\nSTART=%d\nEND=%d\ntitle=Kapitel\n" % (at, at + 250) for at in (0, 250, 500, 750)
)


def without_stream(pid: int) -> Edit:
    """Return an edit that leaves out the packets of one stream of a transport stream; it stays announced."""

    def edit(data: bytes) -> bytes:
        packets = [data[at : at + 188] for at in range(0, len(data), 188)]
        return b"".join(packet for packet in packets if (packet[1] & 31) << 8 | packet[2] != pid)

    return edit


def twice(data: bytes) -> bytes:
    """Join the file to itself: its clock starts anew in the middle."""
    return data * 2


def jump(seconds: int, kinds: str = "va") -> tuple[str, ...]:
    """Return ffmpeg's arguments that set the clock of these kinds of streams ahead after half a second."""
    ahead = f"gte(DTS*TB\\,0.5)*{seconds}/TB"
    return tuple(word for kind in kinds for word in (f"-bsf:{kind}", f"setts=pts=PTS+{ahead}:dts=DTS+{ahead}"))


FLASH = "drawbox=enable='between(t,0.479,0.579)':t=fill:color=white"
FLASHES = (
    *("-f", "lavfi", "-i", f"color=c=0x303030:s=320x240:r=25:d=1,{FLASH}"),
    *("-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*1000*t)*between(t,0.48,0.58)':s=48000:d=1"),
)
"""A second of grey in which picture and sound flash together at 0.48 s."""
SAID = (*FLASHES, "-i", "{flash.srt}", *X264, *AAC, "-c:s", "srt")
SAYING = {"flash.srt": b"1\n00:00:00,480 --> 00:00:00,580\nflash\n\n2\n00:00:00,700 --> 00:00:00,900\nafter\n\n"}
"""The same with subtitles that name the flash."""

CLOCKS: dict[str, Recipe] = {
    "clock_restarts": Recipe(
        "clock_restarts.ts",
        "two transport streams joined: the clock starts anew",
        published("240p", audio_tracks=1, duration_ms=2000, warnings=("clock", "in one piece")),
        (*FLASHES, *X264, *AAC),
        edit=twice,
    ),
    "clock_restarts_vob": Recipe(
        "clock_restarts.vob",
        "the same with programme streams",
        published("240p", audio_tracks=1, duration_ms=2000, warnings=("clock", "in one piece")),
        (*FLASHES, "-c:v", "mpeg2video", "-q:v", "3", "-c:a", "mp2", "-f", "vob"),
        edit=twice,
    ),
    "chained_ogg": Recipe(
        "chained.ogv",
        "two Ogg files joined",
        published("240p", audio_tracks=1, duration_ms=2080, warnings=("clock", "in one piece")),
        (*FLASHES, "-c:v", "libtheora", "-q:v", "6", "-c:a", "libvorbis"),
        edit=twice,
    ),
    "clock_jumps": Recipe(
        "clock_jumps.ts",
        "a transport stream whose clock jumps by five minutes",
        published("240p", audio_tracks=1, duration_ms=1080, warnings=("clock",)),
        (*FLASHES, *X264, *AAC, *jump(300)),
    ),
    "clock_jumps_days": Recipe(
        "clock_jumps_days.mkv",
        "a Matroska file whose clock jumps by 45 days; its subtitles jump along",
        published("240p", audio_tracks=1, subtitles=1, duration_ms=1080, warnings=("clock",)),
        (*SAID, *jump(45 * 86_400, "vas")),
        SAYING,
    ),
    "clock_restarts_mkv": Recipe(
        "clock_restarts.mkv",
        "two Matroska files with subtitles joined",
        published("240p", audio_tracks=1, subtitles=1, duration_ms=2000, warnings=("clock", "in one piece")),
        SAID,
        SAYING,
        edit=twice,
    ),
}
"""Sources whose clocks jump."""

STREAMS: dict[str, Recipe] = {
    "unknown_length": Recipe(
        "unknown_length.webm",
        "WebM without a length, as recorders leave it that are killed",
        TALKIE,
        (*picture(), *tone(), *LIBVPX, "-c:a", "libopus", "-live", "1", "-f", "webm"),
    ),
    "still_and_sound": Recipe(
        "still_and_sound.mp4",
        "a single picture and a longer sound",
        published("240p", audio_tracks=1, warnings=("stands",)),
        (*picture(seconds="0.04"), *tone(), *X264, *AAC),
    ),
    "cover_first": Recipe(
        "cover_first.mkv",
        "a track of a single picture before the film",
        published("240p", audio_tracks=1, warnings=("attachments", "in one piece")),
        (
            *(*ONE_RED, "-i", "{clip:mp4}", "-map", "0:v", "-map", "1:v", "-map", "1:a", "-c:v:0", "mjpeg", "-c:v:1", "copy"),
            *("-c:a", "copy", "-disposition:v:0", "default", "-disposition:v:1", "0"),
        ),
    ),
    "empty_track_first": Recipe(
        "empty_track_first.ts",
        "a video track that is announced and never sent, before the film",
        TALKIE,
        (*SECOND, "-i", "{clip:mp4}", "-map", "0:v", "-map", "1:v", "-map", "1:a", *X264, "-c:a", "copy"),
        edit=without_stream(0x100),
    ),
    "two_programmes": Recipe(
        "two_programmes.ts",
        "a broadcast of two programmes, each with a clock of its own",
        published("240p", audio_tracks=1, warnings=("programmes", "“A”")),
        (
            *("-i", "{clip:mp4}", "-itsoffset", "40", "-i", "{clip:mp4}", "-map", "0", "-map", "1", "-c", "copy"),
            *("-program", "title=A:program_num=1:st=0:st=1", "-program", "title=B:program_num=2:st=2:st=3"),
            *("-max_interleave_delta", "0"),
        ),
    ),
    "data_first": Recipe(
        "data_first.mov",
        "a track of time codes",
        published("240p", audio_tracks=1),
        ("-i", "{clip:mp4}", "-c", "copy", "-timecode", "01:00:00:00"),
    ),
    "ambisonic": Recipe(
        "ambisonic.mkv",
        "ambisonic sound",
        published("240p", audio_tracks=1, warnings=("mixed down",)),
        (
            *(*picture(), "-f", "lavfi", "-i", "sine=f=440:r=48000:d=1,pan=ambisonic 1|c0=c0|c1=c0|c2=0*c0|c3=0*c0"),
            *(*X264, "-c:a", "libopus", "-mapping_family", "2"),
        ),
    ),
    "nine_channels": Recipe(
        "nine_channels.mov",
        "nine channels that nothing names",
        published("240p", audio_tracks=1, warnings=("mixed down",)),
        (
            *(*picture(), "-f", "lavfi", "-i", "sine=f=440:r=48000:d=1,pan=9C|" + "|".join(f"c{n}=c0" for n in range(9))),
            *(*X264, "-c:a", "pcm_s16le"),
        ),
    ),
    "hamasaki": Recipe(
        "hamasaki.mkv",
        "22.2 sound",
        published("240p", audio_tracks=1, warnings=("mixed down",)),
        (*picture(), *tone(layout="22.2"), *X264, "-c:a", "pcm_s16le"),
    ),
    "chapters": Recipe(
        "chapters.m4b",
        "an audio book with chapters",
        published(audio_tracks=1, warnings=("4 chapters",)),
        (*tone(), "-i", "{chapters.txt}", "-map", "0", "-map_metadata", "1", "-map_chapters", "1", *AAC, "-f", "ipod"),
        {"chapters.txt": CHAPTERS},
    ),
    "long_comment": Recipe(
        "long_comment.mkv",
        "a comment of 100,000 characters",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy", "-metadata", f"comment={'x' * 100_000}"),
    ),
    "real_media": Recipe(
        "real_media.rm",
        "RealMedia",
        published("240p", audio_tracks=1, warnings=("in one piece",)),
        (*picture("320x240"), *tone(), "-c:v", "rv20", "-b:v", "300k", "-c:a", "ac3", "-ar", "44100"),
    ),
    "flash": Recipe(
        "flash.flv",
        "Flash video",
        TALKIE,
        ("-i", "{clip:mp4}", "-c", "copy"),
    ),
    "captions_joined": Recipe(
        "captions_joined.ts",
        "two transport streams with closed captions inside the pictures, joined",
        published("240p", subtitles=1, duration_ms=2000, warnings=("closed captions", "clock", "in one piece")),
        ("-i", "{clip:captions_in_pictures}", "-c", "copy"),
        edit=twice,
    ),
    "joined_flv": Recipe(
        "joined.flv",
        "two Flash videos joined with their headers: ffmpeg reads the first one",
        published("240p", audio_tracks=1, warnings=("joined end to end",)),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=twice,
    ),
    "joined_mp4": Recipe(
        "joined.mp4",
        "two MP4 files joined with their headers: likewise",
        published("240p", audio_tracks=1, warnings=("joined end to end",)),
        ("-i", "{clip:mp4}", "-c", "copy"),
        edit=twice,
    ),
    "programme_stream": Recipe(
        "programme_stream.mpg",
        "MPEG programme stream",
        TALKIE,
        (*picture(), *tone(), "-c:v", "mpeg2video", "-c:a", "mp2", "-f", "vob"),
    ),
    "windows_media": Recipe(
        "windows_media.wmv",
        "Windows Media",
        TALKIE,
        (*picture(), *tone(), "-c:v", "wmv2", "-b:v", "500k", "-c:a", "wmav2"),
    ),
    "mxf": Recipe(
        "broadcast.mxf",
        "MXF",
        TALKIE,
        (*picture(), *tone(), "-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-f", "mxf"),
    ),
    "ogg": Recipe("ogg.ogv", "Ogg", TALKIE, (*picture(), *tone(), "-c:v", "libtheora", "-q:v", "5", "-c:a", "libvorbis")),
    "raw_h264": Recipe(
        "raw.h264",
        "H.264 without a container",
        published("240p", warnings=("in one piece",)),
        ("-i", "{clip:mp4}", "-map", "0:v", "-c", "copy", "-bsf:v", "h264_mp4toannexb"),
    ),
    "vvc": Recipe(
        "vvc.mp4",
        "VVC (H.266)",
        published("240p", duration_ms=400),
        (*picture(seconds="0.4"), "-pix_fmt", "yuv420p10le", "-c:v", "libvvenc", "-preset", "faster"),
    ),
    "animated_png": Recipe("animated.png", "an animated PNG", published("240p"), (*picture(), "-plays", "0", "-f", "apng")),
    "encrypted": Recipe(
        "encrypted.mp4",
        "pictures that are encrypted (Common Encryption)",
        Failed("FILE_ENCRYPTED"),
        ("-i", "{clip:mp4}", "-c", "copy", *CENC, "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"),
    ),
    "still_avif": Recipe(
        "still.avif",
        "a still picture (AVIF)",
        Failed("FILE_NOT_MEDIA"),
        (*picture(), "-frames:v", "1", "-c:v", "libaom-av1", "-still-picture", "1", "-cpu-used", "8"),
    ),
    "unknown_container": Recipe(
        "film.roq",
        "a container that is not taken",
        Failed("CONTAINER_REFUSED"),
        (*picture("128x128", rate="30"), "-c:v", "roqvideo"),
    ),
}
"""Name -> how it is made and what becomes of it."""
STREAMS |= CLOCKS
