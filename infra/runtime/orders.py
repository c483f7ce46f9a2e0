"""Settings that limit each other: `contradiction(settings)` names the first pair out of order. Pure.

Each setting has limits of its own in the model. Here are the pairs in which one value makes sense only up to the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from packaging.version import Version


class Comparable(Protocol):
    """A value in an order."""

    def __lt__(self, other: Any, /) -> bool: ...


class Order(NamedTuple):
    """The setting `lower` is at most `upper`, or less than it when `strict`. `measure` None: the value sets no limit."""

    lower: str
    upper: str
    strict: bool = False
    measure: Callable[[Any], Comparable | None] = lambda value: value


class Contradiction(NamedTuple):
    """Two settings out of order, and the sentence about it."""

    names: tuple[str, str]
    sentence: str


def _version(text: str) -> Version | None:
    return Version(text) if text else None


ORDERS = (
    Order("lease_renew_s", "lease_s", strict=True),
    Order("session_idle_s", "session_life_s"),
    Order("segment_s", "chunk_s"),
    Order("worker_version_min", "worker_version_max", measure=_version),
    Order("telemetry_floor", "telemetry_samples_min"),
)


def contradiction(settings: object) -> Contradiction | None:
    """Return the first pair of settings out of order."""
    for order in ORDERS:
        low, high = (getattr(settings, name) for name in order[:2])
        lower, upper = order.measure(low), order.measure(high)
        if lower is None or upper is None or lower < upper or (lower == upper and not order.strict):
            continue
        words = "below" if order.strict else "at most"
        return Contradiction(order[:2], f"{order.lower} ({_text(low)}) must be {words} {order.upper} ({_text(high)})")
    return None


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
