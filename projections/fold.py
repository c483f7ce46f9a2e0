"""Moved to `projections.folding.fold`. The old name works for one version, for users' own files."""

import warnings

from projections.folding.fold import Gathered, Projection, Table, table_row

__all__ = ["Gathered", "Projection", "Table", "table_row"]

warnings.warn("import from projections.folding.fold: this name goes with the next version", DeprecationWarning, stacklevel=2)
