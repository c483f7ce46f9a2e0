"""All apps by name, with nothing behind them."""

from collections.abc import Callable
from typing import Any

from tests.support.apps import make, make_worker
from tests.support.telemetry import Log
from tests.support.telemetry import make as make_telemetry

APPS: dict[str, Callable[[], Any]] = {
    "public": lambda: make("public"),
    "admin": lambda: make("admin"),
    "worker": make_worker,
    "telemetry": lambda: make_telemetry(Log()),
}
