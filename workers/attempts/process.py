"""One bounded child process: the only module that starts the media tools.

A child runs in a process group of its own, with only the input passed to it, a bare environment and limits on memory, file
size and core dumps.
It ends with its worker: a cancelled `run_process` kills the whole process group and waits for it, and the kernel kills
the child when the worker dies (`setpriv --pdeathsig`, if util-linux has it).
"""

import asyncio
import contextlib
import functools
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workers.attempts.work import Limits

STDERR_MAX_BYTES = 32 * 1024
LINE_MAX_BYTES = 64 * 1024
READ_BYTES = 256 * 1024
OPEN_FILES_MAX = 1024
DRAIN_S = 1.0
BARE = {"LC_ALL": "C", "GCONV_PATH": "/nonexistent"}

LineHandler = Callable[[str], bool | None]
"""Receives one line of standard output without its line end; returns False when the line is no sign of progress.
ffmpeg repeats its `-progress` block even while it is stuck, so a caller compares the numbers."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Outcome of a child.

    `exit_code` is None when a signal ended the child; `signal` is then its number. `cut` is set when we ended the child:
    `stalled` after no sign of progress in `stall_s`, `timed_out` after running longer than `timeout_s`. SIGXFSZ means that
    a file outgrew `limits.output_max_bytes`. `stderr_tail` has the last 32 kB of standard error, decoded leniently.
    `argv` is the command line, `directory` its working directory.
    """

    exit_code: int | None
    signal: int | None
    stderr_tail: str
    cut: Literal["stalled", "timed_out"] | None = None
    argv: tuple[str, ...] = field(default=(), compare=False)
    directory: str = field(default="", compare=False)

    @property
    def ok(self) -> bool:
        """Whether the child ended by itself with exit code 0."""
        return self.exit_code == 0 and self.cut is None


class _Watch:
    """Shared state of one child's readers: the last sign of progress and the tail of standard error."""

    def __init__(self, on_line: LineHandler | None, line_max_bytes: int, on_stderr_line: Callable[[str], None] | None) -> None:
        self.on_line = on_line
        self.line_max_bytes = line_max_bytes
        self.on_stderr_line = on_stderr_line
        self.tail = bytearray()
        self.progressed_at = asyncio.get_running_loop().time()

    def progressed(self) -> None:
        self.progressed_at = asyncio.get_running_loop().time()

    async def read_stderr(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stream.read(READ_BYTES):
            self.tail += data
            del self.tail[:-STDERR_MAX_BYTES]
            if self.on_stderr_line is not None:
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[:LINE_MAX_BYTES]
                for line in lines:
                    self.on_stderr_line(line[:LINE_MAX_BYTES].decode("utf-8", "replace"))

    async def read_stdout(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stream.read(READ_BYTES):
            if self.on_line is None:
                self.progressed()
                continue
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[: self.line_max_bytes]
            for line in lines:
                self.handle(line)
        if rest:
            self.handle(rest)

    def handle(self, line: bytes) -> None:
        assert self.on_line is not None
        if self.on_line(line[: self.line_max_bytes].decode("utf-8", "replace").rstrip("\r")) is not False:
            self.progressed()


async def run_process(
    argv: Sequence[str],
    *,
    cwd: Path,
    limits: Limits,
    stdin: AsyncIterator[bytes] | None = None,
    on_stdout_line: LineHandler | None = None,
    line_max_bytes: int = LINE_MAX_BYTES,
    on_stderr_line: Callable[[str], None] | None = None,
    stall_s: float | None = None,
    timeout_s: float | None = None,
) -> ProcessResult:
    """Run `argv` in `cwd` until it ends, and return the outcome; a failure of the child is a result, not an exception.

    `stdin` is the child's input; an exception in it is passed on like an exception of `on_stdout_line`.

    `stall_s` (default `limits.stall_s`) is the longest time without a sign of progress on standard output, see
    `LineHandler`; `timeout_s` bounds the whole run. Standard error is no sign of progress. Lines longer than
    `line_max_bytes` are cut. After an exception of a line handler or a cancellation, the process group is killed and
    waited for, and then the exception is passed on.
    Raises FileNotFoundError when there is no such program.
    """
    if shutil.which(argv[0]) is None:
        raise FileNotFoundError(f"not an executable program: {argv[0]}")
    process = await asyncio.create_subprocess_exec(
        *_parent_death_prefix(),
        *argv,
        cwd=cwd,
        env=_bare_environment(),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,  # in a session of its own, Linux would compare its niceness with nothing else (sched_autogroup)
    )
    watch = _Watch(on_stdout_line, line_max_bytes, on_stderr_line)
    cut: Literal["stalled", "timed_out"] | None = None
    try:
        _limit(process.pid, limits)
        cut = await _supervise(process, watch, stdin, limits.stall_s if stall_s is None else stall_s, timeout_s)
    finally:
        await _end(process)
    code = process.returncode
    assert code is not None
    tail = bytes(watch.tail).decode("utf-8", "replace")
    return ProcessResult(code if code >= 0 else None, -code if code < 0 else None, tail, cut, tuple(argv), str(cwd))


async def _supervise(
    process: asyncio.subprocess.Process,
    watch: _Watch,
    stdin: AsyncIterator[bytes] | None,
    stall_s: float,
    timeout_s: float | None,
) -> Literal["stalled", "timed_out"] | None:
    """Serve the pipes until the child ends; kill it when it stalls or runs too long, and return which."""
    assert process.stdout is not None and process.stderr is not None
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    work: set[asyncio.Task[int | None]] = {
        loop.create_task(watch.read_stdout(process.stdout)),
        loop.create_task(watch.read_stderr(process.stderr)),
        loop.create_task(process.wait()),
    }
    if stdin is not None:
        work.add(loop.create_task(_feed(process, stdin)))
    try:
        pending = set(work)
        while True:
            stalls_at = watch.progressed_at + stall_s
            times_out_at = float("inf") if timeout_s is None else started_at + timeout_s
            done, pending = await asyncio.wait(
                pending,
                timeout=max(0.0, min(stalls_at, times_out_at) - loop.time()),
                return_when=asyncio.FIRST_EXCEPTION,
            )
            for task in done:
                task.result()
            if not pending:
                return None
            if loop.time() >= min(watch.progressed_at + stall_s, times_out_at):
                _kill_group(process)
                await asyncio.wait(pending, timeout=DRAIN_S)  # the last output of the child
                return "timed_out" if loop.time() >= times_out_at else "stalled"
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def _feed(process: asyncio.subprocess.Process, pieces: AsyncIterator[bytes]) -> None:
    """Write pieces to the child until they or the child end."""

    async def write(stdin: asyncio.StreamWriter) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            async for piece in pieces:
                stdin.write(piece)
                await stdin.drain()
        stdin.close()

    assert process.stdin is not None
    writing = asyncio.create_task(write(process.stdin))
    ended = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({writing, ended}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        for task in (writing, ended):
            task.cancel()
        await asyncio.gather(writing, ended, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the rest of the process group and wait for the child, even while being cancelled."""
    _kill_group(process)
    waiting = asyncio.ensure_future(process.wait())
    cancelled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill the child's process group; only while the child is not reaped, so the group id cannot be another's."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _limit(pid: int, limits: Limits) -> None:
    """Set the child's limits from outside, in its first milliseconds: no code of ours runs between fork and exec."""
    with contextlib.suppress(ProcessLookupError):
        with contextlib.suppress(PermissionError):  # the worker's niceness is higher already
            os.setpriority(os.PRIO_PROCESS, pid, limits.niceness)
        for name, bound in (
            (resource.RLIMIT_AS, limits.memory_max_bytes),
            (resource.RLIMIT_FSIZE, limits.output_max_bytes),
            (resource.RLIMIT_NOFILE, OPEN_FILES_MAX),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.prlimit(pid, name)
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.prlimit(pid, name, (bound, bound))


@functools.cache
def _parent_death_prefix() -> tuple[str, ...]:
    """Return the command that makes the kernel kill the child when the worker dies; empty where there is none."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def _bare_environment() -> dict[str, str]:
    """Return the environment of a child: no secret, no proxy, no unexpected locale.

    Without GCONV_PATH a statically linked ffprobe loads the system's converters for the names
    in a transport stream, and crashes.
    """
    keep = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LIBVA_DRIVER_NAME")
    return {name: os.environ[name] for name in keep if name in os.environ} | BARE
