"""The minutes by which requests are counted."""

from types import SimpleNamespace

import pytest

HALF_PAST_S = 1_772_000_010.0
"""In the middle of a minute."""


def stop_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the rate limits stand still: a minute that ends while a test asks forgives what was asked before."""
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: HALF_PAST_S))
