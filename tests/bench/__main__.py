"""`make bench`: measures on the real engine, prints each figure when it is there, writes build/bench.json.

The machine is noisy and others are faster: so goals are ratios to a baseline that is measured in the same run, in interleaved
repetitions of which the median counts. A goal without a natural baseline is stated for a machine of REFERENCE_PACE and
follows the pace of this one.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from infra.local.engine.endpoints import resolve
from infra.runtime.settings import Settings
from tests.bench.archive import archive_rate
from tests.bench.changes import changed_settings
from tests.bench.dispatch import dispatch
from tests.bench.figures import Benchmark, Figure
from tests.bench.first_play import first_play
from tests.bench.gateway import gateway
from tests.bench.idle import idle
from tests.bench.insights import insights_reads, telemetry_fold
from tests.bench.log import append_rate, fold_rate
from tests.bench.login import login
from tests.bench.media import encode_overhead
from tests.bench.pace import pace
from tests.bench.people import people
from tests.bench.readers import catalog_readers
from tests.bench.replay import rebuild_growth, rebuild_rate
from tests.bench.running import Part, run
from tests.bench.telemetry import telemetry_ingest
from tests.bench.transcode import transcode, two_workers
from tests.bench.upload import upload
from tests.bench.viewing import viewing
from tests.conftest import new_world
from tests.support.engine import running_engine

REPORT = Path(__file__).resolve().parents[2] / "build" / "bench.json"
BENCHMARKS: dict[str, tuple[float, Benchmark]] = {
    "append": (15, append_rate),
    "fold": (40, fold_rate),
    "dispatch": (60, dispatch),
    "gateway": (90, gateway),
    "encode": (60, encode_overhead),
    "transcode": (420, transcode),
    "workers": (300, two_workers),
    "first-play": (150, first_play),
    "upload": (90, upload),
    "catalog": (90, catalog_readers),
    "idle": (100, idle),
    "login": (60, login),
    "replay-rebuild": (150, rebuild_rate),
    "replay-growth": (240, rebuild_growth),
    "replay-archive": (120, archive_rate),
    "telemetry": (150, telemetry_ingest),
    "telemetry-fold": (60, telemetry_fold),
    "insights": (90, insights_reads),
    "settings": (120, changed_settings),
    "people": (90, people),
    "viewing": (120, viewing),
}
"""By name: about how many seconds it takes, and what measures."""
GROUPS = {"replay": ("replay-rebuild", "replay-growth", "replay-archive")}


def main() -> None:
    """Run all benchmarks, or those that are named; exit 1 when one failed or missed a goal, 130 when interrupted."""
    wanted = [name for word in sys.argv[1:] or BENCHMARKS for name in GROUPS.get(word, (word,))]
    if unknown := [name for name in wanted if name not in BENCHMARKS]:
        sys.exit(f"there is no benchmark {unknown[0]}; there are: {', '.join((*GROUPS, *BENCHMARKS))}")
    with tempfile.TemporaryDirectory() as folder, running_engine(Path(folder) / "engine") as local:
        parts = [Part(name, BENCHMARKS[name][0], partial(_measure, name, local, Path(folder) / name)) for name in wanted]
        outcome = run(parts, REPORT, partial(print, flush=True))
    sys.exit(outcome.exit_code)


def _measure(name: str, local: Settings, directory: Path) -> Sequence[Figure]:
    """Measure one part in a world of its own; before and after it the pace of the machine."""
    directory.mkdir()
    before = pace()
    figures = asyncio.run(BENCHMARKS[name][1](new_world(resolve(local), directory)))
    return [*figures, Figure(f"{name}: pace of one core", "million steps/s", [before, pace()])]


if __name__ == "__main__":
    main()
