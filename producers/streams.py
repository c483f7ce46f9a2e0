"""Events about streams of viewers. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event, program
from events.streams import StreamEvent


def about(context: Context, event: StreamEvent) -> Envelope[Event]:
    """Return a stream's event, under its viewer's key. The app is its actor: the log does not say which person the viewer is."""
    id_ = context.new_id()
    return Envelope(id_, context.source, event.viewer_id, context.now, event, id_, actor=program(context.source))
