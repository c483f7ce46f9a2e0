"""Tests wait for conditions, in one way: `eventually`. A sleep is too short on a busy machine, or too long on any other."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.syntax import parsed
from tests.support.waiting import eventually

TESTS = Path(__file__).parents[1]
SLEEPS = {
    "test_archive.py": "an archiver is fenced at any moment",
    "test_log_to_projection.py": "a reader reads all the time, and lets others have their turns",
    "test_replay_kills.py": "processes are killed at any moment",
    "test_supervision.py": "the broker is away for a while",
    "chaos.py": "calamities last",
    "platform.py": "a supervisor looks now and then",
    "telemetry_server.py": "pieces of a request come one by one",
    "waiting.py": "this is `eventually`",
    "wire.py": "a network is slow",
    "test_limits.py": "an answer takes longer than it may, or a body does",
}
"""Files that let time pass, and why. The bench samples what it measures, so it is not among them."""


def sleeps(tree: ast.AST, *, repeated: bool = False) -> Iterator[int]:
    """Yield the lines that let time pass, and those within a `while` that only let others have their turn."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name("asyncio" | "time"), "sleep"), [ast.Constant(0)]) if not repeated:
                pass
            case ast.Call(ast.Attribute(ast.Name("asyncio" | "time"), "sleep")):
                yield node.lineno
            case ast.ImportFrom("asyncio" | "time", names) if "sleep" in {name.name for name in names}:
                yield node.lineno
        yield from sleeps(node, repeated=repeated or isinstance(node, ast.While))


def test_no_test_sleeps_but_those_whose_matter_is_time() -> None:
    paths = [path for path in sorted(TESTS.rglob("*.py")) if not path.is_relative_to(TESTS / "bench")]
    found = {path.name: lines for path in paths if (lines := list(sleeps(parsed(path.read_text(), str(path)))))}
    assert {name: lines for name, lines in found.items() if name not in SLEEPS} == {}, "use tests.support.waiting"
    assert SLEEPS.keys() <= found.keys(), "nothing sleeps there any more"


def test_sleeps_are_found() -> None:
    source = "from time import sleep\nasyncio.sleep(0)\nwhile True:\n  await asyncio.sleep(0)\ntime.sleep(1)\nclock.sleep(1)\n"
    assert list(sleeps(parsed(source))) == [1, 4, 5]


async def test_the_first_answer_that_holds_is_returned() -> None:
    numbers = iter(range(10))
    assert await eventually(lambda: next(numbers), lambda number: number > 4) == 5

    async def later() -> int:
        return next(numbers)

    assert await eventually(later) == 6


async def test_after_the_deadline_the_condition_and_the_last_answer_are_said() -> None:
    with pytest.raises(AssertionError, match=r"(?s)waited for 0 s for.*== \"finished\".*last: 'half'"):
        await eventually(lambda: "half", lambda state: state == "finished", timeout_s=0.01)


async def test_an_answer_that_never_comes_is_not_waited_for_beyond_the_deadline() -> None:
    with pytest.raises(AssertionError, match=r"asyncio\.Event"):
        await eventually(lambda: asyncio.Event().wait(), timeout_s=0.01)


async def test_only_named_exceptions_are_passed_over() -> None:
    answers: Iterator[int | Exception] = iter([OSError("away"), 7])

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await eventually(ask, despite=OSError) == 7
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 // 0, despite=OSError)
    with pytest.raises(AssertionError, match="last: ValueError"):
        await eventually(lambda: int("x"), despite=ValueError, timeout_s=0.01)


async def test_a_timeout_of_what_is_asked_is_its_own() -> None:
    async def ask() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await eventually(ask)
