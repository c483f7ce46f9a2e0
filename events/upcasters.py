"""Upcasters turn old events into current ones: one pure step per version, on the decoded `data`, before validation.

An upcaster turns `(type, data)` of version n into version n+1. Register it under the type that it reads:

    @upcasts("kinolog.video.uploaded.v1", to="kinolog.video.uploaded.v2")
    def add_origin(data: Data) -> Data: ...
"""

from collections.abc import Callable
from typing import Any

Data = dict[str, Any]
Upcaster = Callable[[Data], Data]

UPCASTERS: dict[str, tuple[str, Upcaster]] = {}


def upcasts(old: str, *, to: str) -> Callable[[Upcaster], Upcaster]:
    """Register a step from wire type `old` to wire type `to`."""

    def register(step: Upcaster) -> Upcaster:
        if old in UPCASTERS:
            raise TypeError(f"{old} has an upcaster already")
        UPCASTERS[old] = (to, step)
        return step

    return register


def upcast(wire_type: str, data: Data) -> tuple[str, Data]:
    """Apply steps until none is left; return the current type and data."""
    while step := UPCASTERS.get(wire_type):
        wire_type, upcaster = step
        data = upcaster(data)
    return wire_type, data
