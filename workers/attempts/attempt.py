"""One attempt at a job, for any caller: run the work in an empty directory, end with a result or a classified failure."""

import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from events.kinds import KINDS, JobResult, JobSpec
from events.media import Failure, SystemContext
from workers.attempts import failures
from workers.attempts.work import Done, Progress, Runner, Work, WorkFailed

Surroundings = Callable[[Path], Awaitable[SystemContext]]
"""Returns the context of an attempt that works in this directory."""
log = structlog.get_logger(__name__)


async def attempt(
    spec: JobSpec, runner: Runner, work: Work, surroundings: Surroundings, tick: Callable[[Progress], Awaitable[None]]
) -> JobResult | Failure:
    """Run the job in `work.directory`, emptied before and removed after; every update of progress goes to `tick`.

    Raises nothing but a cancellation: an error of the work becomes a failure, and an unexpected error is logged as well.
    """
    shutil.rmtree(work.directory, ignore_errors=True)
    try:
        try:
            work.directory.mkdir(parents=True)
            return await _result(spec, runner, work, tick)
        except WorkFailed as error:
            failure = error.failure
        except Exception as error:
            failure = failures.of_error(KINDS[spec.kind].stage, error)
            log.exception("run_failed", code=failure.code)
        return failures.in_context(failure, await surroundings(work.directory))
    finally:
        shutil.rmtree(work.directory, ignore_errors=True)


async def _result(spec: JobSpec, runner: Runner, work: Work, tick: Callable[[Progress], Awaitable[None]]) -> JobResult:
    async with contextlib.aclosing(runner(spec, work)) as updates:
        async for update in updates:
            match update:
                case Done(result=result):
                    return result
                case Progress():
                    await tick(update)
    raise RuntimeError(f"{spec.kind} ended without a result")
