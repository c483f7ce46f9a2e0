"""How fast this machine is, so that goals without a natural baseline can follow it."""

from time import perf_counter

STEPS = 2_000_000
REFERENCE_PACE = 28.0
"""Million steps a second on the machine for which such goals are stated."""


def pace() -> float:
    """Return how many million steps of a plain Python loop one core makes in a second."""
    began, kept = perf_counter(), {}
    for number in range(STEPS):
        kept[number & 1023] = number
    return STEPS / (perf_counter() - began) / 1e6


def slower() -> float:
    """Return how many times longer work takes here than on the machine of REFERENCE_PACE."""
    return REFERENCE_PACE / pace()
