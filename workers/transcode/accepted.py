"""Which files are taken at all: the containers, and the refusals with their sentences. Pure."""

from collections.abc import Iterable

from events.media import Failure, FailureCategory
from workers.failures import refused

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,nut,dv,ivf,gif,"
    "wav,w64,mp3,aac,flac,aiff,caf,ac3,eac3,amr"
)
"""The demuxers that ffprobe and ffmpeg may use (`-format_whitelist`): real containers, each a single file. None of them
follows a reference to another file or address; playlists, manifests, picture sequences and devices are left out."""

PLAYLIST_DEMUXERS = frozenset(("hls", "concat", "dash", "sdp", "imf", "webm_dash_manifest", "rtsp"))
PLAYLIST_STARTS = (b"#extm3u", b"ffconcat", b"[playlist]", b"<mpd", b"<smil", b"<asx", b"[reference]", b"<smoothstreamingmedia")
ISO_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"moof", b"styp"))


def refusal(head: bytes, size_bytes: int) -> Failure | None:
    """Refuse what no tool should be shown: an empty file, or a list of other files. `head` is the start of the file."""
    if size_bytes == 0:
        return failure("validation", "FILE_EMPTY", "The file is empty.")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(PLAYLIST_STARTS) or (start.startswith(b"<?xml") and any(s in start for s in PLAYLIST_STARTS)):
        return _playlist()
    return None


def unreadable(complaints: str, head: bytes) -> Failure:
    """Say why ffprobe could not open the file, from its words and the start of the file."""
    if "not on whitelist" in complaints:
        demuxer = complaints.split("Format not on whitelist")[0].rpartition("[")[2].partition(" ")[0]
        if demuxer in PLAYLIST_DEMUXERS:
            return _playlist()
        return not_media(f"it was recognised as {demuxer[:40]}", complaints)
    if head[4:8] in ISO_BOXES and "moov atom not found" in complaints:
        message = "The file is incomplete: its index, which this kind of file has at the end, is missing."
        return failure("validation", "FILE_TRUNCATED", message, complaints)
    return not_media("no known container", complaints)


def not_media(reason: str, complaints: str = "") -> Failure:
    """Return the failure of a file that is no video and no sound."""
    return failure("validation", "FILE_NOT_MEDIA", f"The file is not a video or sound file: {reason}.", complaints)


def _playlist() -> Failure:
    message = "The file is a playlist that points to other files or addresses; upload the video itself."
    return failure("validation", "PLAYLIST_REFUSED", message)


def failure(category: FailureCategory, code: str, message: str, detail: str = "") -> Failure:
    """Return a failure of the analysis that no other attempt can change."""
    return refused("analysis", code, message, detail, category=category, retryable=False)


def nothing_to_play(kinds: Iterable[str]) -> Failure:
    """Return the failure of a file whose streams, of these kinds, can be neither seen nor heard."""
    message = f"The file has neither pictures nor sound that can be played (it has: {', '.join(sorted(set(kinds))) or 'nothing'})."
    return failure("validation", "NO_STREAMS", message)
