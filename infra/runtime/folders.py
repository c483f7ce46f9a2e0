"""Folders and files that nobody else may look into: sources, the log and passwords lie in them."""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from events.errors import KinologError

PRIVATE_UMASK = 0o077
SOCKET_PATH_BYTES_MAX = 90
"""The least limit of any system is 103 bytes (macOS; Linux: 107), and a server may bind `PATH.PID` before it takes its name."""
SHORT_FOLDERS = Path("/tmp")


class NotPrivate(KinologError):
    """A folder that only its user may write to belongs to somebody else, or others may look into it."""


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


def socket_path(folder: Path, name: str) -> Path:
    """Return the path of a Unix socket: in its folder, or where that makes it too long for one, in a short folder of its user.

    The user is the owner of the folder, so that root finds it as well. Raises NotPrivate when the short folder is somebody else's.
    """
    usual = folder / name
    if len(os.fsencode(usual)) <= SOCKET_PATH_BYTES_MAX:
        return usual
    owner = folder.stat().st_uid if folder.exists() else os.geteuid()
    short = SHORT_FOLDERS / f"kinolog-{owner}"
    if owner == os.geteuid():
        with suppress(FileExistsError):
            short.mkdir(mode=0o700)
    if short.is_symlink() or (short.exists() and not _is_private(short.stat(), owner)):
        raise NotPrivate(f"{short} must be a folder of its user alone: remove it, or set KINOLOG_VAR_DIR to a shorter path")
    return short / f"{hashlib.sha256(os.fsencode(usual)).hexdigest()[:16]}.sock"


def _is_private(found: os.stat_result, owner: int) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not found.st_mode & 0o077
