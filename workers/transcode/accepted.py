"""Accepted files: the containers, and the refusals with their sentences. Pure."""

from collections.abc import Iterable

from events.media import Failure, FailureCategory
from workers.attempts.failures import refused
from workers.transcode.clock import PIECES_MAX

ACCEPTED = {
    "MP4, QuickTime, 3GPP, M4A, M4B": "mov,mp4,m4a,3gp,3g2,mj2",
    "Matroska, WebM": "matroska,webm",
    "AVI": "avi",
    "MPEG transport and programme streams, VOB": "mpegts,mpeg",
    "Flash video": "flv",
    "Windows Media, recordings of Windows Media Center": "asf,wtv",
    "RealMedia": "rm",
    "Ogg": "ogg",
    "MXF, GXF": "mxf,gxf",
    "DV, NUT, IVF, Y4M": "dv,nut,ivf,yuv4mpegpipe",
    "animated GIF and PNG": "gif,apng",
    "pictures without a container: H.264, HEVC, VVC, AV1, MPEG-1, -2 and -4": "h264,hevc,vvc,obu,mpegvideo,m4v",
    "sound: WAV, AIFF, CAF, AU, MP3, AAC, FLAC, AC-3, E-AC-3, AMR, DTS, TrueHD, MLP, WavPack, Monkey's Audio, TTA, DSF": (
        "wav,w64,aiff,caf,au,mp3,aac,flac,ac3,eac3,amr,dts,dtshd,truehd,mlp,wv,ape,tta,dsf"
    ),
}
"""Common names of the accepted containers -> ffmpeg's names of their demuxers."""

CONTAINERS = ",".join(ACCEPTED.values())
"""The demuxers that ffprobe and ffmpeg may use (`-format_whitelist`): real containers, each a single file. None of them
follows a reference to another file or address; playlists, manifests, picture sequences and devices are left out."""

PLAYLIST_DEMUXERS = frozenset(("hls", "concat", "dash", "sdp", "imf", "webm_dash_manifest", "rtsp"))
PLAYLIST_STARTS = (b"#extm3u", b"ffconcat", b"[playlist]", b"<mpd", b"<smil", b"<asx", b"[reference]", b"<smoothstreamingmedia")
PICTURE_DEMUXERS = frozenset(("image2", "image2pipe", "ico", "webp_anim", "jpegxl_anim", "fits", "svg"))
TEXT_DEMUXERS = frozenset(
    ("tty", "srt", "ass", "webvtt", "lrc", "sami", "subviewer", "subviewer1", "microdvd", "mpl2", "jacosub", "stl", "pjs", "scc")
) | {"realtext", "vplayer", "aqtitle", "mcc", "ffmetadata"}
STILL_BRANDS = frozenset(("avif", "mif1", "mif2", "heic", "heix", "heim", "heis", "miaf", "jpeg", "jxl "))
"""Major brands (ISO/IEC 14496-12) of single-picture files; picture sequences have others (`avis`, `msf1`, `hevc`)."""
ISO_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"moof", b"styp"))
TRANSPORT_SYNC, TRANSPORT_PACKETS = 0x47, ((188, 0), (192, 4))


def refusal(head: bytes, size_bytes: int) -> Failure | None:
    """Refuse files that no tool should open: an empty file, or a list of other files. `head` is the start of the file."""
    if size_bytes == 0:
        return failure("validation", "FILE_EMPTY", "The file is empty.")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(PLAYLIST_STARTS) or (start.startswith(b"<?xml") and any(s in start for s in PLAYLIST_STARTS)):
        return _playlist()
    return None


def unreadable(complaints: str, head: bytes) -> Failure:
    """Return why ffprobe could not open the file, from its messages and the start of the file."""
    if "not on whitelist" in complaints:
        demuxer = complaints.split("Format not on whitelist")[0].rpartition("[")[2].partition(" ")[0]
        if demuxer in PLAYLIST_DEMUXERS:
            return _playlist()
        if demuxer in TEXT_DEMUXERS or demuxer.endswith("_pipe") or demuxer in PICTURE_DEMUXERS:
            return not_media("it is text" if demuxer in TEXT_DEMUXERS else "it is a still picture", complaints)
        message = f"The file is in a container that is not taken ({demuxer[:40]}); write it anew, for example as MP4 or Matroska."
        return failure("validation", "CONTAINER_REFUSED", message, complaints)
    if head[4:8] in ISO_BOXES and "moov atom not found" in complaints:
        message = "The file is incomplete: its index, which this kind of file has at the end, is missing."
        return failure("validation", "FILE_TRUNCATED", message, complaints)
    return not_media("no known container", complaints)


def not_media(reason: str, complaints: str = "") -> Failure:
    """Return the failure of a file that is neither video nor sound."""
    return failure("validation", "FILE_NOT_MEDIA", f"The file is not a video or sound file: {reason}.", complaints)


def _playlist() -> Failure:
    message = "The file is a playlist that points to other files or addresses; upload the video itself."
    return failure("validation", "PLAYLIST_REFUSED", message)


def failure(category: FailureCategory, code: str, message: str, detail: str = "") -> Failure:
    """Return a permanent failure of the analysis: every attempt would fail alike."""
    return refused("analysis", code, message, detail, category=category, retryable=False)


def clock_broken() -> Failure:
    """Return the failure of a file whose clock jumps too often."""
    message = f"The clock of the file jumps more than {PIECES_MAX} times; write the file anew with ffmpeg."
    return failure("validation", "CLOCK_BROKEN", message)


def encrypted() -> Failure:
    """Return the failure of a copy-protected file."""
    message = "The file is encrypted: it is protected against copying and cannot be read without its key."
    return failure("validation", "FILE_ENCRYPTED", message)


def is_scrambled(head: bytes) -> bool:
    """Return whether most packets of a transport stream, 188 bytes or a disc's 192, are scrambled (ISO/IEC 13818-1)."""
    for size, offset in TRANSPORT_PACKETS:
        packets = [head[at : at + 4] for at in range(offset, len(head) - size + 1, size)]
        if packets and all(packet[0] == TRANSPORT_SYNC for packet in packets):
            return 2 * sum(packet[3] & 0xC0 > 0 for packet in packets) > len(packets)
    return False


def dolby_vision(profile: int) -> Failure:
    """Return the failure of pictures without a base layer that other players understand."""
    message = (
        f"The file has Dolby Vision of profile {profile}: only its own players know its colours. Export it as HDR10, HLG or SDR."
    )
    return failure("codec_issues", "VIDEO_DOLBY_VISION", message)


def nothing_to_play(kinds: Iterable[str]) -> Failure:
    """Return the failure of a file without a visible or audible stream; `kinds` are the kinds of its streams."""
    message = f"The file has neither pictures nor sound that can be played (it has: {', '.join(sorted(set(kinds))) or 'nothing'})."
    return failure("validation", "NO_STREAMS", message)
