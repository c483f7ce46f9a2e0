"""The manifests of a video, rendered from the catalog's rows. Pure: rows in, text out.

`tracks` selects the playable tracks; `hls` and `dash` render them. Both formats take a few lines per segment and are
written by hand. The `m3u8` library (6.0) renders durations as floats and reorders tags, so a playlist would not be a prefix
of its successor; `mpegdash` (0.4.1) lacks Label. The tests read everything back with `m3u8`, an XML parser and ffmpeg.

Addresses, in the public app and in the object store behind a CDN:

    public app   /videos/{slug}/master.m3u8   /videos/{slug}/{rendition or subtitle}.m3u8   /videos/{slug}/manifest.mpd
                 /media/{video_id}/{job_id}/{epoch}/…    the object videos/{video_id}/…, which never changes
                 /media/~{proof}/{video_id}/…            the same, and manifests, of a private video
    store        videos/{video_id}/master.m3u8 …         copies, written once the video is published: `stored`

Every address inside a manifest is relative to it, so both work behind any host and path. The renderers ignore whether a
video is archived; the serving app checks that.
"""

from collections.abc import Sequence
from functools import partial

from events.objects import video_prefix
from projections.catalog import Media, Video
from projections.playback import dash as dash_format
from projections.playback import hls
from projections.playback.dash import MEDIA_TYPE as DASH_TYPE
from projections.playback.hls import MEDIA_TYPE as HLS_TYPE
from projections.playback.tracks import Address, Track, from_app, from_store, media_path, object_key, subtitles, thumbnail, tracks

__all__ = [
    "DASH_TYPE",
    "HLS_TYPE",
    "Address",
    "Track",
    "dash",
    "from_app",
    "from_store",
    "has_dash",
    "has_hls",
    "hls_master",
    "hls_media",
    "media_path",
    "object_key",
    "stored",
    "subtitles",
    "thumbnail",
    "tracks",
]

hls_master = hls.master
hls_media = partial(hls.playlist, address=from_app)
dash = partial(dash_format.manifest, address=from_app)


def has_hls(video: Video, media: Sequence[Media]) -> bool:
    """Return whether a master playlist exists, without rendering it. For a published video, `media` may be empty."""
    return video.status == "ready" or hls.master(video, media) is not None


def has_dash(video: Video) -> bool:
    """Return whether a DASH manifest exists, without rendering it."""
    return video.status == "ready" and video.plan is not None and video.plan.format == "cmaf"


def stored(video: Video, media: Sequence[Media]) -> dict[str, tuple[str, str]]:
    """Return a published video's manifests for the store, {object key: (text, media type)}; empty for any other video."""
    if video.status != "ready":
        return {}
    prefix = video_prefix(video.video_id)
    names = [*tracks(video, media), *(text.name for text in subtitles(video, media))]
    files = {f"{prefix}{name}.m3u8": (hls.playlist(video, media, name, from_store), HLS_TYPE) for name in names}
    files[f"{prefix}master.m3u8"] = hls.master(video, media), HLS_TYPE
    files[f"{prefix}manifest.mpd"] = dash_format.manifest(video, media, from_store), DASH_TYPE
    return {key: (text, media_type) for key, (text, media_type) in files.items() if text is not None}
