"""Events about days. Pure."""

from collections.abc import Mapping
from typing import Literal

from events.clock import Context
from events.days import Covered, DayClosed, DayFigures
from events.envelope import Envelope


def closed(
    context: Context, day: str, zone: str, figures: DayFigures, positions: Mapping[str, str], why: Literal["midnight", "asked"]
) -> Envelope[DayClosed]:
    """Return the event that a day is closed."""
    id_ = context.new_id()
    covered = tuple(Covered(projection=name, position=position) for name, position in sorted(positions.items()))
    event = DayClosed(day=day, zone=zone, figures=figures, positions=covered, why=why)
    return Envelope(id_, context.source, day, context.now, event, id_)
