"""Parts that the routes of the telemetry app receive."""

from dataclasses import dataclass

from api.telemetry.answers import Answers
from api.telemetry.reading import Readings


@dataclass(frozen=True)
class Services:
    """Readers of the projection, and popular answers that are kept."""

    readings: Readings
    answers: Answers
