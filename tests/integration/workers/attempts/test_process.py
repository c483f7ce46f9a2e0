"""A child process is bounded in every way and never outlives its worker's interest."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from workers.attempts.process import STDERR_MAX_BYTES, ProcessResult, run_process
from workers.attempts.work import LATER, NICENESS, Limits

LIMITS = Limits(stall_s=20.0)


async def sh(
    script: str, cwd: Path, limits: Limits = LIMITS, *, stall_s: float | None = None, timeout_s: float | None = None
) -> ProcessResult:
    """Run a shell script."""
    return await run_process(["sh", "-c", script], cwd=cwd, limits=limits, stall_s=stall_s, timeout_s=timeout_s)


async def until_gone(pid: int) -> None:
    """Wait until the process is dead."""
    await eventually(lambda: _alive(pid), lambda alive: not alive)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_lines_and_the_exit_code_come_back(tmp_path: Path) -> None:
    lines: list[str] = []

    result = await run_process(
        ["sh", "-c", "echo one; printf 'two\\r\\nthree'; echo oops >&2; exit 3"],
        cwd=tmp_path,
        limits=LIMITS,
        on_stdout_line=lines.append,
    )

    assert lines == ["one", "two", "three"]
    assert result == ProcessResult(exit_code=3, signal=None, stderr_tail="oops\n")
    assert not result.ok


async def pieces(*given: bytes, forever: bool = False) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    if forever:
        await asyncio.Event().wait()


async def test_a_child_reads_what_it_is_given(tmp_path: Path) -> None:
    lines: list[str] = []
    long = b"x" * 1_000_000 + b"\n"

    result = await run_process(
        ["cat"], cwd=tmp_path, limits=LIMITS, stdin=pieces(b"one\n", long, b"two\n"), on_stdout_line=lines.append
    )

    assert result.ok
    assert [lines[0], lines[-1]] == ["one", "two"]


@pytest.mark.parametrize("niceness", [NICENESS, LATER])
async def test_a_child_goes_behind_those_who_answer(tmp_path: Path, niceness: int) -> None:
    """Its parent sets its niceness in its first moments, and it stays in its worker's session (see `process_group`)."""
    lines: list[str] = []

    await run_process(
        ["sh", "-c", f"until [ $(nice) = {niceness} ]; do sleep 0.05; done; ps -o sid=,pgid= -p $$"],
        cwd=tmp_path,
        limits=replace(LIMITS, niceness=niceness),
        on_stdout_line=lines.append,
    )

    session, group = map(int, lines[0].split())
    assert session == os.getsid(0)
    assert group != os.getpgid(0), "it can be killed with all that it has started"


async def test_a_child_may_end_before_it_has_read_all(tmp_path: Path) -> None:
    waiting = await run_process(
        ["sh", "-c", "read line; exit 3"], cwd=tmp_path, limits=LIMITS, stdin=pieces(b"one\n", forever=True)
    )
    full = await run_process(["true"], cwd=tmp_path, limits=LIMITS, stdin=pieces(*[b"x" * 1_000_000] * 10))

    assert (waiting.exit_code, full.exit_code) == (3, 0)


async def test_what_raises_while_a_child_is_fed_goes_up(tmp_path: Path) -> None:
    async def gone() -> AsyncIterator[bytes]:
        yield (tmp_path / "gone").read_bytes()

    with pytest.raises(FileNotFoundError):
        await run_process(["cat"], cwd=tmp_path, limits=LIMITS, stdin=gone())


async def test_a_silent_child_is_ended(tmp_path: Path) -> None:
    result = await sh("sleep 60", tmp_path, stall_s=0.1)

    assert (result.cut, result.signal) == ("stalled", signal.SIGKILL)


async def test_lines_without_progress_do_not_keep_a_child_alive(tmp_path: Path) -> None:
    result = await run_process(
        ["sh", "-c", "while :; do echo same; sleep 0.02; done"],
        cwd=tmp_path,
        limits=LIMITS,
        on_stdout_line=lambda line: False,
        stall_s=0.2,
    )

    assert result.cut == "stalled"


async def test_a_busy_child_is_ended_in_time(tmp_path: Path) -> None:
    result = await sh("while :; do echo busy; sleep 0.02; done", tmp_path, timeout_s=0.2)

    assert result.cut == "timed_out"


async def test_only_the_last_words_of_a_talkative_child_are_kept(tmp_path: Path) -> None:
    result = await sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo end >&2", tmp_path)

    assert result.ok
    assert len(result.stderr_tail) == STDERR_MAX_BYTES
    assert result.stderr_tail.endswith("xend\n")


async def test_a_file_cannot_outgrow_its_limit(tmp_path: Path) -> None:
    limits = Limits(output_max_bytes=1000)

    bounded = "until [ $(ulimit -f) != unlimited ]; do sleep 0.05; done"
    result = await sh(f"{bounded}; exec head -c 1000000 /dev/zero > big", tmp_path, limits, timeout_s=60)

    assert result.signal == signal.SIGXFSZ
    assert (tmp_path / "big").stat().st_size <= 1000


async def test_a_child_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOLOG_ADMIN_TOKEN", "secret")
    lines: list[str] = []

    await run_process(["env"], cwd=tmp_path, limits=LIMITS, on_stdout_line=lines.append)

    assert not any("secret" in line for line in lines)


async def test_cancellation_takes_the_grandchildren_along(tmp_path: Path) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    script = "sleep 60 & echo $!; wait"
    running = asyncio.create_task(run_process(["sh", "-c", script], cwd=tmp_path, limits=LIMITS, on_stdout_line=lines.put_nowait))
    grandchild = int(await lines.get())

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until_gone(grandchild)


async def test_an_error_of_the_line_handler_ends_the_child_and_goes_up(tmp_path: Path) -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="hello"):
        await run_process(["sh", "-c", "echo hello; sleep 60"], cwd=tmp_path, limits=LIMITS, on_stdout_line=refuse)


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-tool"):
        await run_process(["no-such-tool"], cwd=tmp_path, limits=LIMITS)


async def test_the_child_dies_with_its_worker(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib\n"
        "from workers.attempts.process import run_process\n"
        "from workers.attempts.work import LATER, NICENESS, Limits\n"
        "argv = ['sh', '-c', 'echo $$; exec sleep 60']\n"
        "say = lambda line: print(line, flush=True)\n"
        "asyncio.run(run_process(argv, cwd=pathlib.Path('/tmp'), limits=Limits(), on_stdout_line=say))\n"
    )
    root = Path(__file__).resolve().parents[4]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=root, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    assert worker.stdout is not None
    child = int(await worker.stdout.readline())

    worker.kill()
    await worker.wait()

    await until_gone(child)
