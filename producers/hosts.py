"""Events about hosts. Pure."""

from events.clock import Context
from events.envelope import Envelope, Event
from events.hosts import HostSampled, HostState


def sampled(
    context: Context,
    host: str,
    name: str,
    state: HostState,
    *,
    actor: str,
    active_streams: int | None = None,
    active_transcodes: int | None = None,
) -> Envelope[Event]:
    """Return the event of a sample."""
    event = HostSampled(host=host, name=name, state=state, active_streams=active_streams, active_transcodes=active_transcodes)
    id_ = context.new_id()
    return Envelope(id_, context.source, host, context.now, event, id_, actor=actor)
