"""Folders that nobody else may look into: sources, the log and the database's password lie in them."""

from pathlib import Path


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, or give an existing one that mode; return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
