"""Moved to `processors.dispatch.whatif`; this name stays for one version, for files that users keep."""

import warnings

from processors.dispatch.whatif import Worker

__all__ = ["Worker"]

warnings.warn("import from processors.dispatch.whatif: this name goes with the next version", DeprecationWarning, stacklevel=2)
