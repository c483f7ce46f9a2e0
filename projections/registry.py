"""All projections, one line each."""

from projections import audit, catalog, contents, jobs, progress, timeline, workers
from projections.daily import projection as daily
from projections.deliveries import projection as deliveries
from projections.failures import projection as failures
from projections.folding.fold import Projection
from projections.hosts import projection as hosts
from projections.streams import projection as streams
from projections.telemetry import projection as telemetry

PROJECTIONS: dict[str, Projection] = {
    projection.name: projection
    for projection in (
        catalog.PROJECTION,
        contents.PROJECTION,
        jobs.PROJECTION,
        progress.PROJECTION,
        workers.PROJECTION,
        timeline.PROJECTION,
        failures.PROJECTION,
        streams.PROJECTION,
        hosts.PROJECTION,
        daily.PROJECTION,
        telemetry.PROJECTION,
        audit.PROJECTION,
        deliveries.PROJECTION,
    )
}
