"""Requests of people about videos. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event
from events.people import Role
from events.videos import (
    VideoArchived,
    VideoEdited,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoVisibilityChanged,
    Visibility,
)


def edited(context: Context, video_id: str, *, title: str | None, description: str | None) -> Envelope[Event]:
    """Change a video's title or description."""
    return _about(context, video_id, VideoEdited(video_id=video_id, title=title, description=description))


def shown_to(
    context: Context, video_id: str, visibility: Visibility, *, roles: tuple[Role, ...], users: tuple[str, ...]
) -> Envelope[Event]:
    """Decide who may watch a video."""
    return _about(context, video_id, VideoVisibilityChanged(video_id=video_id, visibility=visibility, roles=roles, users=users))


def archived(context: Context, video_id: str) -> Envelope[Event]:
    """Take a video off the public pages."""
    return _about(context, video_id, VideoArchived(video_id=video_id))


def restored(context: Context, video_id: str) -> Envelope[Event]:
    """Put a video back on the public pages."""
    return _about(context, video_id, VideoRestored(video_id=video_id))


def purged(context: Context, video_id: str) -> Envelope[Event]:
    """Delete a video, its source and all its output."""
    return _about(context, video_id, VideoPurged(video_id=video_id))


def retry_requested(context: Context, video_id: str, reason: str) -> Envelope[Event]:
    """Try a failed video again."""
    return _about(context, video_id, VideoRetryRequested(video_id=video_id, reason=reason))


def _about(context: Context, video_id: str, event: Event) -> Envelope[Event]:
    return Envelope(context.new_id(), context.source, video_id, context.now, event, video_id)
