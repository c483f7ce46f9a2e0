"""Moved to `processors.dispatch.state`; this name stays for one version, for files that users keep."""

import warnings

from processors.dispatch.state import Policy

__all__ = ["Policy"]

warnings.warn("import from processors.dispatch.state: this name goes with the next version", DeprecationWarning, stacklevel=2)
