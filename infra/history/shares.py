"""Folds history in several processes, each with its share of the partitions: for `kinolog rebuild --workers N`."""

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from heapq import heapify, heapreplace

from events.topics import Partition
from infra.runtime.history import open_history
from infra.runtime.postgres import connected
from infra.runtime.settings import Settings
from projections.folding.bulk import BulkRunner, fold_until
from projections.folding.fold import Rules
from projections.folding.log import LogReader
from projections.folding.runner import Runner
from projections.registry import PROJECTIONS

WATCH_S = 0.25
Share = dict[Partition, int]
"""The partitions of one process, and where it stops in each."""


def shares_of(until: Mapping[Partition, int], workers: int) -> list[Share]:
    """Cut the partitions into shares of about the same number of events: each partition, largest first, to the smallest share."""
    loads = [(0, number) for number in range(workers)]
    heapify(loads)
    shares: list[Share] = [{} for _ in loads]
    for partition, end in sorted(until.items(), key=lambda item: (-item[1], item[0])):
        load, number = loads[0]
        shares[number][partition] = end
        heapreplace(loads, (load + end, number))
    return [share for share in shares if share]


async def fold_in_shares(
    settings: Settings, runner: Runner, until: Mapping[Partition, int], workers: int, watch: Callable[[], Awaitable[None]]
) -> None:
    """Fold an empty version up to `until`; `watch` is awaited at intervals meanwhile. Raises the first error of a share."""
    name, version, rules = runner.projection.name, runner.version, runner.projection.rules
    context = multiprocessing.get_context("forkserver")  # a fork of this process would share its connections
    context.set_forkserver_preload([__name__])  # imported once, not by each of them
    with ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(_fold_share, settings, name, rules, version, share) for share in shares_of(until, workers)]
        running: Sequence[asyncio.Future[None]] = [asyncio.wrap_future(future) for future in futures]
        pending = set(running)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=WATCH_S, return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
            await watch()


def _fold_share(settings: Settings, name: str, rules: Rules, version: int, share: Share) -> None:
    projection = PROJECTIONS[name]
    projection = projection.under(rules) if projection.under else projection
    asyncio.run(_fold(settings, Runner(projection, version, live=False), share))


async def _fold(settings: Settings, runner: Runner, share: Share) -> None:
    async with connected(settings) as connection, open_history(settings) as history:
        reader, bulk = LogReader(history, runner.projection), BulkRunner(runner, empty=True)
        await reader.seek(dict.fromkeys(share, 0))
        await fold_until(reader, bulk, connection, share)
        await bulk.flush(connection)
