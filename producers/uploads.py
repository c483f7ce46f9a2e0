"""Events about an upload. Pure."""

import unicodedata
from typing import Literal

from events.clock import Context
from events.contents import ContentClaimed
from events.envelope import Envelope, Event, derived_id
from events.objects import source_key
from events.text import JOINERS
from events.videos import UploadAbandoned, UploadStarted, VideoUploaded

_UPLOADED, _ABANDONED = 1, 2
"""An upload is completed or abandoned once: these events' ids derive from the video's, so every repeat has the same id."""

TITLE_MAX = 255
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
"""Unicode's categories of control, format and private characters and line ends: some turn a name's order around."""


def title_of(filename: str) -> str:
    """Return a video's default title: its file's name without invisible characters."""
    seen = "".join(char if char in JOINERS or unicodedata.category(char) not in _UNSEEN else " " for char in filename)
    return " ".join(seen.split())[:TITLE_MAX].strip() or "untitled"


def started(
    context: Context,
    *,
    video_id: str,
    filename: str,
    size_bytes: int | None,
    multipart_id: str | None,
    part_bytes: int | None,
    sha256: str | None = None,
    force: bool = False,
) -> Envelope[Event]:
    """Record that a sender received addresses for a source."""
    event = UploadStarted(
        video_id=video_id,
        filename=filename,
        size_bytes=size_bytes,
        object_key=source_key(video_id),
        multipart_id=multipart_id,
        part_bytes=part_bytes,
        sha256=sha256,
        force=force,
    )
    return Envelope(video_id, context.source, video_id, context.now, event, video_id)


def claimed(context: Context, upload: VideoUploaded, *, instead_of: str | None) -> Envelope[Event]:
    """Claim a content for a complete upload: as the first claim, or instead of a holder that came to nothing."""
    assert upload.sha256 is not None
    event = ContentClaimed(sha256=upload.sha256, video_id=upload.video_id, instead_of=instead_of, upload=upload)
    return Envelope(context.new_id(), context.source, upload.sha256, context.now, event, upload.video_id, upload.video_id)


def uploaded(context: Context, upload: VideoUploaded) -> Envelope[Event]:
    """Record that the complete source is in the store."""
    id_ = derived_id(upload.video_id, _UPLOADED)
    return Envelope(id_, context.source, upload.video_id, context.now, upload, upload.video_id, upload.video_id)


def abandoned(
    context: Context, *, video_id: str, reason: Literal["expired", "cancelled", "known"], same_as: str | None = None
) -> Envelope[Event]:
    """Record that the upload will not be completed."""
    event = UploadAbandoned(video_id=video_id, object_key=source_key(video_id), reason=reason, same_as=same_as)
    id_ = derived_id(video_id, _ABANDONED)
    return Envelope(id_, context.source, video_id, context.now, event, video_id, video_id)
