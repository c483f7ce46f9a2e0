"""Awkward pictures: sizes, rates, colours, turns, crops, fields, transparency."""

from tests.support.recipes import X264, Recipe, cropped_mkv, cropped_mp4, fields, in_yuv, marked, patches, picture, published

HDR = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-color_primaries", "bt2020")

HDR_X265 = "log-level=error:pools=1:frame-threads=1:colorprim=bt2020:colormatrix=bt2020nc:transfer="

HALF_TRANSPARENT = (
    *("-f", "lavfi", "-i"),
    "color=0xFF00FF@0:s=160x240:r=25:d=0.2,format=rgba[l];color=0x00B000@1:s=160x240:r=25:d=0.2,format=rgba[r];[l][r]hstack",
)
"""Magenta that nobody may see on the left, opaque green on the right."""
PICTURES: dict[str, Recipe] = {
    "portrait": Recipe(
        "portrait.mp4",
        "portrait: landscape pictures with a rotation flag",
        published("360p", sizes=((360, 640),)),
        ("-display_rotation", "90", "-i", "{clip:landscape}", "-c", "copy"),
    ),
    "landscape": Recipe(
        "landscape.mp4",
        "plain landscape, no sound",
        published("360p", sizes=((640, 360),)),
        (*picture("640x360"), *X264),
    ),
    "odd": Recipe(
        "odd.mkv",
        "odd width and height",
        published("240p", sizes=((320, 240),)),
        ("-f", "lavfi", "-i", "testsrc=s=321x241:r=25:d=1", *X264, "-pix_fmt", "yuv444p"),
    ),
    "tiny": Recipe("tiny.mp4", "2x2", published("2p", sizes=((2, 2),)), (*picture("2x2"), *X264)),
    "uhd": Recipe(
        "uhd.mp4",
        "4K, very short",
        published(
            *("2160p", "1440p", "1080p", "720p", "480p", "360p"),
            sizes=((3840, 2160), (2560, 1440), (1920, 1080), (1280, 720), (854, 480), (640, 360)),
            duration_ms=200,
        ),
        (*picture("3840x2160", seconds="0.2"), *X264),
    ),
    "cinema": Recipe(
        "cinema.mp4",
        "wide picture between two steps of the ladder",
        published("480p", "360p", sizes=((1146, 480), (860, 360)), duration_ms=200),
        (*picture("1280x536", seconds="0.2"), *X264),
    ),
    "variable_rate": Recipe(
        "variable_rate.mkv",
        "variable frame rate",
        published("240p", frame_rate="30/1", duration_ms=2000, warnings=("variable frame rate",)),
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
        published("240p", frame_rate="30/1", duration_ms=1900),
        (*picture(rate="30", seconds="2"), "-vf", "select='not(mod(n,4))+not(mod(n,7))'", "-fps_mode", "passthrough", *X264),
    ),
    "fps120": Recipe(
        "fps120.mp4",
        "120 frames a second",
        published("240p", frame_rate="60/1", warnings=("120",)),
        (*picture(rate="120"), *X264),
    ),
    "ntsc": Recipe(
        "ntsc.mkv",
        "30000/1001 in a container that rounds times to milliseconds",
        published("240p", frame_rate="30000/1001", duration_ms=1001),
        (*picture(rate="30000/1001", seconds="1.001"), *X264),
    ),
    "hdr_pq": Recipe(
        "hdr_pq.mp4",
        "10-bit HDR, PQ",
        published("360p", sizes=((640, 360),), duration_ms=400, warnings=("tone-mapped",)),
        (
            *picture("640x360", seconds="0.4"),
            *(*HDR, "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-tag:v", "hvc1"),
            *("-x265-params", HDR_X265 + "smpte2084"),
        ),
    ),
    "hdr_hlg": Recipe(
        "hdr_hlg.mkv",
        "10-bit HDR, HLG",
        published("360p", sizes=((640, 360),), duration_ms=400, warnings=("tone-mapped",)),
        (
            *picture("640x360", seconds="0.4"),
            *(*HDR, "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc"),
            *("-x265-params", HDR_X265 + "arib-std-b67"),
        ),
    ),
    "interlaced": Recipe(
        "interlaced.ts",
        "interlaced, top field first",
        published("480p", "360p", sizes=((600, 480), (450, 360)), warnings=("deinterlaced",)),
        (
            *(*picture("720x576", rate="50"), "-vf", "setsar=1,interlace=scan=tff"),
            *("-c:v", "mpeg2video", "-b:v", "2M", "-flags", "+ilme+ildct"),
        ),
    ),
    "anamorphic": Recipe(
        "anamorphic.mp4",
        "pixels that are not square",
        published("480p", "360p", sizes=((872, 480), (654, 360)), duration_ms=400),
        (*picture("720x576", seconds="0.4"), "-vf", "setsar=16/11", *X264),
    ),
    "one_frame": Recipe(
        "one_frame.mp4",
        "a single picture",
        published("240p", duration_ms=40),
        (*picture(seconds="0.04"), *X264),
    ),
    "full_range_rgb": Recipe(
        "full_range_rgb.mkv",
        "RGB pictures, as screen recorders write them",
        published("240p"),
        (*picture(), "-c:v", "ffv1", "-pix_fmt", "bgr0"),
    ),
    "two_video_tracks": Recipe(
        "two_video_tracks.mp4",
        "two video tracks",
        published("240p", warnings=("more than one video",)),
        (*picture(), *picture("160x120"), "-map", "0", "-map", "1", *X264),
    ),
    "cropped_mkv": Recipe(
        "cropped.mkv",
        "cropped by the container (Matroska)",
        published("264p", sizes=((640, 264),), duration_ms=200),
        (*marked(), *X264),
        edit=cropped_mkv,
    ),
    "cropped_mp4": Recipe(
        "cropped.mp4",
        "cropped by the container (clean aperture in MP4)",
        published("264p", sizes=((640, 264),), duration_ms=200),
        (*marked(), *X264),
        edit=cropped_mp4,
    ),
    "cropped_portrait": Recipe(
        "cropped_portrait.mp4",
        "cropped by the container, turned, and with pixels that are not square",
        published("352p", sizes=((352, 640),), duration_ms=200, warnings=("made square",)),
        ("-display_rotation", "90", "-i", "{clip:cropped_mp4}", "-c", "copy", "-aspect", "4:3"),
    ),
    "marked": Recipe(
        "marked.mp4",
        "plain pictures, for comparison with turned ones",
        published("360p", sizes=((640, 360),), duration_ms=200),
        (*marked(), *X264),
    ),
    "turned_by_sei": Recipe(
        "turned.mp4",
        "turned by a message in the H.264 stream (SEI)",
        published("360p", sizes=((360, 640),), duration_ms=200),
        ("-i", "{clip:marked}", "-c", "copy", "-bsf:v", "h264_metadata=display_orientation=insert:rotate=90"),
    ),
    "mirrored": Recipe(
        "mirrored.mp4",
        "mirrored by the container's matrix",
        published("360p", sizes=((640, 360),), duration_ms=200),
        ("-display_hflip", "-i", "{clip:marked}", "-c", "copy"),
    ),
    "odd_hdr": Recipe(
        "odd_hdr.mkv",
        "high dynamic range with odd sides",
        published("240p", sizes=((320, 240),), duration_ms=200, warnings=("tone-mapped",)),
        (
            *("-f", "lavfi", "-i", "testsrc=s=321x241:r=25:d=0.2", "-c:v", "ffv1"),
            *in_yuv("bt2020", "tv", "yuv420p10le", "bt2020nc", "bt2020", "smpte2084"),
        ),
    ),
    "hdr_other_primaries": Recipe(
        "hdr_p3.mkv",
        "PQ with other primaries than BT.2020, in 8 bit",
        published("240p", duration_ms=200, warnings=("tone-mapped",)),
        (
            *(*picture(seconds="0.2"), "-c:v", "ffv1"),
            *in_yuv("bt709", "tv", "yuv420p", "bt709", "smpte432", "smpte2084"),
        ),
    ),
    "interlaced_dv": Recipe(
        "interlaced.dv",
        "interlaced, known only to the pictures (DV)",
        published("480p", "360p", sizes=((640, 480), (480, 360)), duration_ms=400, warnings=("deinterlaced",)),
        (*fields("bff"), "-vf", "setfield=bff,fieldorder=bff,setsar=16/15", "-c:v", "dvvideo", "-pix_fmt", "yuv420p"),
    ),
    "interlaced_mpeg4": Recipe(
        "interlaced.avi",
        "interlaced, known only to the pictures (MPEG-4 in AVI)",
        published("480p", "360p", sizes=((600, 480), (450, 360)), duration_ms=400, warnings=("deinterlaced",)),
        (*fields("tff"), "-vf", "setfield=tff", "-c:v", "mpeg4", "-b:v", "3M", "-flags", "+ildct+ilme"),
    ),
    "combed": Recipe(
        "combed.mkv",
        "interlaced and not flagged at all",
        published("480p", "360p", sizes=((600, 480), (450, 360)), duration_ms=400, warnings=("deinterlaced",)),
        (*fields("bff"), *X264),
    ),
    "untagged_hd": Recipe(
        "untagged.mp4",
        "high definition without colour tags",
        published("720p", "480p", "360p", duration_ms=200),
        (*patches("214x720"), *in_yuv("bt709", "tv", "yuv420p"), *X264),
    ),
    "untagged_sd": Recipe(
        "untagged.mkv",
        "standard definition without colour tags, 4:4:4",
        published("360p", duration_ms=200),
        (*patches(), *in_yuv("bt601", "tv", "yuv444p"), *X264, "-pix_fmt", "yuv444p"),
    ),
    "reserved_matrix": Recipe(
        "reserved.mp4",
        "a colour matrix that no scaler knows",
        published("720p", "480p", "360p", duration_ms=200, warnings=("colour matrix",)),
        (
            *("-i", "{clip:untagged_hd}", "-c", "copy", "-bsf:v"),
            "h264_metadata=colour_primaries=0:transfer_characteristics=0:matrix_coefficients=13",
        ),
    ),
    "full_range": Recipe(
        "full_range.avi",
        "full range, as cameras write it (Motion JPEG)",
        published("720p", "480p", "360p", duration_ms=200),
        (*patches("214x720"), *in_yuv("bt601", "pc", "yuvj420p"), "-c:v", "mjpeg", "-q:v", "2"),
    ),
    "rgb": Recipe("rgb.mkv", "H.264 in RGB", published("360p", duration_ms=200), (*patches(), "-c:v", "libx264rgb")),
    "gray": Recipe(
        "gray.mkv",
        "shades of grey",
        published("240p", duration_ms=200),
        (*picture(seconds="0.2"), "-c:v", "ffv1", "-pix_fmt", "gray"),
    ),
    "transparent": Recipe(
        "transparent.mov",
        "transparent pictures (PNG in QuickTime)",
        published("240p", duration_ms=200, warnings=("black is shown",)),
        (*HALF_TRANSPARENT, "-c:v", "png", "-pix_fmt", "rgba"),
    ),
    "transparent_vp9": Recipe(
        "transparent.webm",
        "transparent pictures (VP9)",
        published("240p", duration_ms=200, warnings=("black is shown",)),
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
    "opaque": Recipe(
        "opaque.mkv",
        "pictures with an alpha channel that hides nothing (BGRA)",
        published("240p", duration_ms=200, silent_about=("transparent",)),
        (*picture(seconds="0.2"), "-c:v", "ffv1", "-pix_fmt", "bgra"),
    ),
    "opaque_gif": Recipe(
        "opaque.gif",
        "an animated GIF, opaque as most are",
        published("240p", duration_ms=200, silent_about=("transparent",)),
        (*picture(seconds="0.2"),),
    ),
}
