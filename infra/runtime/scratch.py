"""A folder for temporary files of one command; the next command deletes the folders of killed ones."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from infra.runtime.folders import private_folder
from infra.runtime.settings import Settings

log = structlog.get_logger(__name__)


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """Yield an empty folder in `var/scratch` that only its user may read, and delete it at the end.

    A lock marks it as in use; the lock ends with the process, however that ends.
    """
    every = private_folder(settings.var_dir / "scratch")
    _delete_abandoned(every)
    folder = Path(tempfile.mkdtemp(dir=every))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        _delete(folder)
        os.close(lock)


def _delete_abandoned(every: Path) -> None:
    for folder in every.iterdir():
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue  # another command was quicker
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(folder)
        except BlockingIOError:
            continue  # it is in use
        finally:
            os.close(lock)


def _delete(folder: Path) -> None:
    """Delete a folder. Files that cannot be deleted are named and left for the next command: this one's answer is complete."""

    def name(_function: object, path: str, fault: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(fault[1], FileNotFoundError):  # another command was quicker
            log.warning("scratch_left", path=path, error=f"{type(fault[1]).__name__}: {fault[1]}")

    shutil.rmtree(folder, onerror=name)
