"""Events about viewers. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event
from events.viewers import ViewerForgotten


def forgotten(context: Context, viewer_id: str, reason: str) -> Envelope[Event]:
    """Return the event that a viewer's key was deleted."""
    id_ = context.new_id()
    return Envelope(id_, context.source, viewer_id, context.now, ViewerForgotten(viewer_id=viewer_id, reason=reason), id_)
