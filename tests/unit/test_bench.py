"""How `make bench` runs: figures as they come, faults that stop nothing, and what is there when it is interrupted."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench.figures import Figure
from tests.bench.running import INTERRUPTED, Part, run

GOOD = Figure("reads", "1/s", [90, 100, 110], 0.5, baseline=[100, 100, 100])
SHORT = Figure("writes", "1/s", [40, 40, 40], 0.5, baseline=[100, 100, 100])


def part(name: str, *figures: Figure, fault: BaseException | None = None) -> Part:
    def measure() -> Sequence[Figure]:
        if fault is not None:
            raise fault
        return figures

    return Part(name, 10, measure)


def test_figures_are_printed_as_they_come(tmp_path: Path) -> None:
    said: list[str] = []
    seen: list[list[str]] = []

    def look() -> Sequence[Figure]:
        seen.append([*said])
        return [SHORT]

    outcome = run([part("first", GOOD), Part("second", 10, look)], tmp_path / "bench.json", said.append)
    assert any(line.startswith("reads") for line in seen[0]), "not before the second part had begun"
    assert [figure["name"] for figure in json.loads((tmp_path / "bench.json").read_text())] == ["reads", "writes"]
    assert (outcome.missed, outcome.exit_code) == (["writes"], 1)
    assert any("20 s left" in line for line in said)


def test_a_part_that_fails_stops_no_other(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = run([part("first", fault=OSError("no broker")), part("second", GOOD)], tmp_path / "b.json", said.append)
    assert (outcome.figures, outcome.failed, outcome.exit_code) == ([GOOD], ["first"], 1)
    assert any("no broker" in line for line in said)


def test_an_interrupted_run_has_what_was_measured(tmp_path: Path) -> None:
    said: list[str] = []
    parts = [part("first", GOOD), part("second", fault=KeyboardInterrupt()), part("third", SHORT)]
    outcome = run(parts, tmp_path / "b.json", said.append)
    assert (outcome.figures, outcome.exit_code) == ([GOOD], INTERRUPTED)
    assert "interrupted" in said[-1] and len(json.loads((tmp_path / "b.json").read_text())) == 1


@pytest.mark.parametrize(("at_least", "met"), [(True, True), (False, False)])
def test_a_goal_is_of_the_ratio(at_least: bool, met: bool) -> None:
    figure = Figure("reads", "1/s", [90, 100, 110], 0.9, at_least=at_least, baseline=[100, 100, 100])
    assert figure.met is met
    assert "1.00" in figure.line()
