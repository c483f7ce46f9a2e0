"""The processes, one line each, and all folds of an installation, which are rebuilt, compared and verified."""

from processors.delivering import announcing
from processors.planning import process as planning
from projections.folding.fold import Projection
from projections.registry import PROJECTIONS

PROCESSES: dict[str, Projection] = {projection.name: projection for projection in (planning.PROJECTION, announcing.PROJECTION)}

FOLDS: dict[str, Projection] = PROJECTIONS | PROCESSES
