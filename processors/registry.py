"""The processes that exist, one line each, and every fold of an installation: what is rebuilt, compared and verified."""

from processors.planning import process as planning
from projections.folding.fold import Projection
from projections.registry import PROJECTIONS

PROCESSES: dict[str, Projection] = {projection.name: projection for projection in (planning.PROJECTION,)}

FOLDS: dict[str, Projection] = PROJECTIONS | PROCESSES
