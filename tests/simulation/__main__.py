"""`python -m tests.simulation --seeds 1000`: simulate many seeds on all cores; `--large` for worlds of a week each."""

import argparse
import os
import sys
import time
from multiprocessing import Pool

from tests.simulation.world import LARGE, SMALL, run


def findings_of(world: tuple[int, bool]) -> tuple[int, list[str]]:
    """Return a seed and what was found in its world."""
    seed, large = world
    return seed, run(seed, LARGE if large else SMALL).findings


def main() -> None:
    """Exit 1, naming the seeds, when a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    begun = time.perf_counter()
    worlds = [(seed, given.large) for seed in range(given.first, given.first + given.seeds)]
    with Pool(os.cpu_count()) as pool:
        broken = [(seed, found) for seed, found in pool.imap_unordered(findings_of, worlds, 8) if found]
    seconds = time.perf_counter() - begun
    print(f"{given.seeds} seeds in {seconds:.1f} s, {given.seeds / seconds:.1f} a second, {len(broken)} broken")
    for seed, found in sorted(broken)[:10]:
        print(f"seed {seed}: {found[0]}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
