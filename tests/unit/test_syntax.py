"""Source is read while others read source: a collection of garbage in the middle harms nobody."""

import ast
import gc
from pathlib import Path
from typing import Any

import pytest

from tests.support.syntax import parsed

SOURCE = Path(__file__).read_text()


def test_a_collection_that_parses_does_not_disturb_the_parsing_that_it_interrupts() -> None:
    def collected(phase: str, info: dict[str, Any]) -> None:
        gc.callbacks.remove(collected)
        ast.parse("x = 1")
        gc.callbacks.append(collected)

    thresholds = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(10)
    try:
        assert [ast.dump(parsed(SOURCE)) for _ in range(3)] == [ast.dump(parsed(SOURCE))] * 3
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collected)
    assert gc.isenabled()


def test_the_collector_is_back_after_source_that_cannot_be_parsed() -> None:
    with pytest.raises(SyntaxError):
        parsed("def")
    assert gc.isenabled()
