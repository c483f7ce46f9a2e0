"""Runs parts of a benchmark one after the other.

A part's figures are printed and written as soon as it has ended, before it how long is left. A part that fails is reported
and does not stop the others; Ctrl-C ends the run with what there is.
"""

import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from tests.bench.figures import HEADING, Figure

INTERRUPTED = 130


@dataclass(frozen=True)
class Part:
    """A part, and about how many seconds it takes."""

    name: str
    about_s: float
    measure: Callable[[], Sequence[Figure]]


@dataclass
class Outcome:
    """What a run has found: figures, and the parts that failed."""

    figures: list[Figure] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def missed(self) -> list[str]:
        """The figures that did not reach their goals."""
        return [figure.name for figure in self.figures if figure.met is False]

    @property
    def exit_code(self) -> int:
        """0 when everything was measured and every goal reached."""
        return INTERRUPTED if self.interrupted else int(bool(self.failed or self.missed))

    def summary(self) -> str:
        """Return the last lines."""
        lines = [f"{len(self.figures)} figures, {len(self.missed)} missed, {len(self.failed)} parts failed"]
        lines += [f"  MISSED {name}" for name in self.missed] + [f"  FAILED {name}" for name in self.failed]
        return "\n".join(lines + ["interrupted: the rest was not measured"] * self.interrupted)


def run(parts: Sequence[Part], report: Path, say: Callable[[str], None]) -> Outcome:
    """Measure the parts in order; `report` has the figures as JSON after each of them."""
    outcome, spent_s, planned_s = Outcome(), 0.0, 0.0
    say(HEADING)
    for number, part in enumerate(parts):
        slower = spent_s / planned_s if planned_s else 1.0
        left_s = slower * sum(later.about_s for later in parts[number:])
        say(f"-- {part.name}: about {_minutes(slower * part.about_s)}, {_minutes(left_s)} left")
        began = perf_counter()
        try:
            figures = part.measure()
        except KeyboardInterrupt:
            outcome.interrupted = True
            break
        except Exception:  # noqa: BLE001
            say(traceback.format_exc())
            outcome.failed.append(part.name)
            figures = []
        spent_s, planned_s = spent_s + perf_counter() - began, planned_s + part.about_s
        outcome.figures += figures
        for figure in figures:
            say(figure.line())
        report.parent.mkdir(exist_ok=True)
        report.write_text(json.dumps([figure.document() for figure in outcome.figures], indent=2) + "\n")
    say(f"{outcome.summary()}; {_minutes(spent_s)}")
    return outcome


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
