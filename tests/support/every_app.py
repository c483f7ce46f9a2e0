"""All apps by name, with nothing behind them."""

from collections.abc import Callable
from typing import Any

from api.addresses import Network
from tests.support.apps import make, make_worker
from tests.support.telemetry import Log
from tests.support.telemetry import make as make_telemetry

APPS: dict[str, Callable[[], Any]] = {
    "public": lambda: make("public"),
    "admin": lambda: make("admin"),
    "worker": make_worker,
    "telemetry": lambda: make_telemetry(Log()),
}
LIMITED: dict[str, Callable[[int, tuple[Network, ...]], Any]] = {
    "public": lambda limit, trusted: make("public", requests_per_minute=limit, rates={}, trusted_proxies=trusted),
    "admin": lambda limit, trusted: make("admin", requests_per_minute=limit, trusted_proxies=trusted),
    "worker": lambda limit, trusted: make_worker(requests_per_minute=limit, trusted_proxies=trusted),
    "telemetry": lambda limit, trusted: make_telemetry(Log(), per_minute=limit, burst=limit, trusted=trusted),
}
"""All apps with a limit of requests a minute, and the proxies that they trust."""
