"""The processors, whose catalog hangs: `python -m tests.support.hanging_processors FOLDER`.

While there is FOLDER/hang, its batches wait for something that never comes; while there is FOLDER/block, they block the event loop.
"""

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

from processors.__main__ import main
from projections.folding.runner import Batch, Runner

if __name__ == "__main__":
    folder = Path(sys.argv.pop())
    write = Runner.write

    async def write_or_hang(runner: Runner, connection: Any, batch: Batch) -> None:
        """Write, or hang."""
        if runner.projection.name == "catalog" and (folder / "block").exists():
            threading.Event().wait()
        if runner.projection.name == "catalog" and (folder / "hang").exists():
            await asyncio.Event().wait()
        await write(runner, connection, batch)

    Runner.write = write_or_hang  # type: ignore[method-assign, assignment]
    main()
