"""Folders and files that nobody else may look into: sources, the log and passwords lie in them."""

import os
from pathlib import Path

PRIVATE_UMASK = 0o077


def keep_private() -> None:
    """Make files that this process and its children write readable by their user alone; for composition roots."""
    os.umask(PRIVATE_UMASK)


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, or give an existing one that mode; return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def private_file(path: Path, text: str) -> None:
    """Write a file with mode 0600, or give an existing one that mode first."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
