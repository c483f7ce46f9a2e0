"""The projections that exist, one line each."""

from projections import catalog, failures, jobs, progress, telemetry, timeline, workers
from projections.fold import Projection

PROJECTIONS: dict[str, Projection] = {
    projection.name: projection
    for projection in (
        catalog.PROJECTION,
        jobs.PROJECTION,
        progress.PROJECTION,
        workers.PROJECTION,
        timeline.PROJECTION,
        failures.PROJECTION,
        telemetry.PROJECTION,
    )
}
