"""The clock by which requests are counted."""

import pytest


def stop_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the rate limits stand still: seconds that go by while a test asks would forgive what was asked before."""
    monkeypatch.setattr("api.limits.monotonic", lambda: 1000.0)
