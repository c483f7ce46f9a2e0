"""Moved to `projections.folding.fold`; this name stays for one version, for files that users keep."""

import warnings

from projections.folding.fold import Gathered, Projection, Table, table_row

__all__ = ["Gathered", "Projection", "Table", "table_row"]

warnings.warn("import from projections.folding.fold: this name goes with the next version", DeprecationWarning, stacklevel=2)
