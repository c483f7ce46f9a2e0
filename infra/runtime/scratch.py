"""A folder for what a command needs only while it runs; one that was killed leaves it, and the next command deletes it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.runtime.folders import private_folder
from infra.runtime.settings import Settings


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """Yield an empty folder in `var/scratch` that only its user may read, and delete it at the end.

    A lock on it says that it is in use; it goes with the process, however that ends.
    """
    every = private_folder(settings.var_dir / "scratch")
    _delete_abandoned(every)
    folder = Path(tempfile.mkdtemp(dir=every))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _delete_abandoned(every: Path) -> None:
    for folder in every.iterdir():
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue  # another command was quicker
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # it is in use
        finally:
            os.close(lock)
