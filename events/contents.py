"""Which video is of which content: topic `contents`, key = sha256."""

from events.envelope import Event
from events.videos import VideoUploaded


class ContentClaimed(Event, type="kinolog.content.claimed.v1"):
    """A whole upload of this content lies in the store, and wants to become its video.

    The first claim holds the content. A later one takes it over only when it names the holder as `instead_of`, because the holder
    came to nothing; every other claim changes nothing, and its upload is given up. `upload` is what is recorded when the
    claim holds, by whoever finds that it is not yet.
    """

    sha256: str
    video_id: str
    instead_of: str | None = None
    upload: VideoUploaded


ContentEvent = ContentClaimed
