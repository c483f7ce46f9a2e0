"""For administrators: the insights of telemetry, at any moment. The telemetry app, open to anybody, answers about now."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.admin.services import Given, reading
from api.services import Minimum
from projections.telemetry import insights

routes = APIRouter(tags=["telemetry"])


class Coverage(BaseModel):
    """The amount of data behind the insights."""

    total_jobs: int
    unique_hardware: int


class Standing(BaseModel):
    """A line of the leaderboard. `speed` is seconds of video per second, `reduction` a fraction of the input's size."""

    hardware: str
    encoder: str
    codec: str
    res: str = Field(examples=["1080p"])
    speed: float
    reduction: float
    samples: int


class FaultCount(BaseModel):
    """Number of an encoder's failures for a reason."""

    encoder: str
    error: str
    count: int


class InsightsShown(BaseModel):
    """Leaderboard and stability, as the telemetry app's `/api/v1/stats/insights` has them."""

    coverage: Coverage
    leaderboard: list[Standing]
    stability: list[FaultCount]


@routes.get("/api/insights")
async def show_insights(given: Given, response: Response, minimum: Minimum = None) -> InsightsShown:
    """Show leaderboard and stability."""
    async with reading(given, response, "telemetry", minimum) as connection:
        found = await insights.insights(connection, given.options.caps)
    return InsightsShown.model_validate_json(found.document)
