"""Events about days. Pure."""

from typing import Literal

from events.clock import Context
from events.days import DayClosed, DayFigures
from events.envelope import Envelope


def closed(
    context: Context, day: str, zone: str, figures: DayFigures, positions: dict[str, str], why: Literal["midnight", "asked"]
) -> Envelope[DayClosed]:
    """Return the event that a day is closed."""
    id_ = context.new_id()
    event = DayClosed(day=day, zone=zone, figures=figures, positions=positions, why=why)
    return Envelope(id_, context.source, day, context.now, event, id_)
