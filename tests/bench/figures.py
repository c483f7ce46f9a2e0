"""What a benchmark returns."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from infra.runtime.settings import Settings


@dataclass(frozen=True)
class Figure:
    """One measured thing: `runs` are the single values; `goal` is a bound of the median, or of the ratio when there is a baseline.

    `at_least` says whether more is better.
    """

    name: str
    unit: str
    runs: Sequence[float]
    goal: float | None = None
    at_least: bool = True
    baseline: Sequence[float] = field(default=())

    @property
    def value(self) -> float:
        """The median."""
        return median(self.runs)

    @property
    def ratio(self) -> float | None:
        """The median of the runs' ratios to their own baselines."""
        if not self.baseline:
            return None
        return median(run / base for run, base in zip(self.runs, self.baseline, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        measured = self.value if self.ratio is None else self.ratio
        return measured >= self.goal if self.at_least else measured <= self.goal

    def document(self) -> dict[str, Any]:
        """Return the entry of bench.json."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": median(self.baseline) if self.baseline else None,
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.met,
            "runs": list(self.runs),
        }

    def line(self) -> str:
        """Return the figure as a line below HEADING."""
        sign = ">=" if self.at_least else "<="
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        base = f"{median(self.baseline):,.2f}" if self.baseline else ""
        goal = "" if self.goal is None else f"{sign} {self.goal:,g}"
        spread = f"{min(self.runs):,.2f} to {max(self.runs):,.2f}"
        met = {True: "met", False: "MISSED", None: ""}[self.met]
        return f"{self.name:<66} {self.value:>14,.2f} {self.unit:<15} {spread:<26} {base:>14} {ratio:>8} {goal:>9} {met}".rstrip()


HEADING = f"{'figure':<66} {'median':>14} {'unit':<15} {'runs':<26} {'baseline':>14} {'ratio':>8} {'goal':>9}"
Benchmark = Callable[[Settings], Coroutine[Any, Any, Sequence[Figure]]]
