"""`make bench`: measures, prints a table, writes build/bench.json.

Each benchmark runs on the real engine and returns figures; a figure that is a ratio has its baseline measured in the
same run. `runs` interleaved repetitions, the median counts; the machine is noisy, so look at ratios first. A host that is shared
may be twice as fast an hour later: before and after each benchmark its pace is measured.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from infra.local.engine.endpoints import resolve
from infra.runtime.settings import Settings
from tests.bench.archive import archive_rate
from tests.bench.dispatch import dispatch
from tests.bench.figures import Benchmark, Figure
from tests.bench.gateway import gateway
from tests.bench.idle import idle
from tests.bench.insights import insights_reads, telemetry_fold
from tests.bench.log import append_rate, fold_rate
from tests.bench.media import encode_overhead
from tests.bench.readers import catalog_readers
from tests.bench.replay import rebuild_growth, rebuild_rate
from tests.bench.telemetry import telemetry_ingest
from tests.bench.transcode import transcode, two_workers
from tests.bench.upload import upload
from tests.conftest import new_world
from tests.support.engine import running_engine

REPORT = Path(__file__).resolve().parents[2] / "build" / "bench.json"
BENCHMARKS: dict[str, Benchmark] = {
    "append": append_rate,
    "fold": fold_rate,
    "dispatch": dispatch,
    "gateway": gateway,
    "encode": encode_overhead,
    "transcode": transcode,
    "workers": two_workers,
    "upload": upload,
    "catalog": catalog_readers,
    "idle": idle,
    "replay-rebuild": rebuild_rate,
    "replay-growth": rebuild_growth,
    "replay-archive": archive_rate,
    "telemetry": telemetry_ingest,
    "telemetry-fold": telemetry_fold,
    "insights": insights_reads,
}
STEPS = 5_000_000
GROUPS = {"replay": ("replay-rebuild", "replay-growth", "replay-archive")}


def main() -> None:
    """Run all benchmarks, or those that are named; exit 1 when a goal was missed."""
    wanted = [name for word in sys.argv[1:] or BENCHMARKS for name in GROUPS.get(word, (word,))]
    if unknown := [name for name in wanted if name not in BENCHMARKS]:
        sys.exit(f"there is no benchmark {unknown[0]}; there are: {', '.join((*GROUPS, *BENCHMARKS))}")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, running_engine(Path(folder) / "engine") as local:
        for name in wanted:
            directory = Path(folder) / name
            directory.mkdir()
            before = pace()
            figures += asyncio.run(BENCHMARKS[name](_world(local, directory)))
            figures.append(Figure(f"{name}: pace of one core", "million steps/s", [before, pace()]))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([figure.document() for figure in figures], indent=2) + "\n")
    table = Table("figure", "median", "min", "max", "unit", "baseline", "ratio", "goal", "", box=None)
    for figure in figures:
        table.add_row(*figure.row())
    Console(width=140).print(table)


def pace() -> float:
    """Return how many million steps of a plain Python loop one core makes in a second."""
    began, kept = perf_counter(), {}
    for number in range(STEPS):
        kept[number & 1023] = number
    return STEPS / (perf_counter() - began) / 1e6


def _world(local: Settings, directory: Path) -> Settings:
    return new_world(resolve(local), directory)


if __name__ == "__main__":
    main()
