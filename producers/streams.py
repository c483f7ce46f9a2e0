"""Events about streams of viewers. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event
from events.streams import StreamEvent


def about(context: Context, event: StreamEvent) -> Envelope[Event]:
    """Return a stream's event; all of a viewer are under one key."""
    id_ = context.new_id()
    return Envelope(id_, context.source, event.viewer_id, context.now, event, event.session_id)
