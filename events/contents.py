"""Claims of contents by videos: topic `contents`, key = sha256."""

from events.envelope import Event
from events.videos import VideoUploaded


class ContentClaimed(Event, type="kinolog.content.claimed.v1"):
    """A complete upload of this content is in the store and claims to become its video.

    The first claim holds the content. A later claim takes it over only when it names the holder as `instead_of`, because
    the holder came to nothing. Every other claim changes nothing, and its upload is given up. `upload` is the event to
    record once the claim holds; any reader that finds it missing records it.
    """

    sha256: str
    video_id: str
    instead_of: str | None = None
    upload: VideoUploaded


ContentEvent = ContentClaimed
