"""Disks of their own, which the test can fill: the file system says that there is no room, nobody pretends it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.runtime.folders import private_folder


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Make a folder a disk of this size, such as `64k`. The folder stays, as private as what it stands for."""
    private_folder(path)
    options = f"size={size},mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    assert mounted.returncode == 0, f"a small disk cannot be mounted: {mounted.stderr.decode()}"
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def resize(disk: Path, size: str) -> None:
    """Give a small disk another size."""
    mounted = _remount(disk, size)
    assert mounted.returncode == 0, mounted.stderr


def _remount(disk: Path, size: str) -> "subprocess.CompletedProcess[str]":
    command = ["mount", "-o", f"remount,size={size}", str(disk)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fill(disk: Path) -> None:
    """Leave no room on a small disk, but that of a page or two; `resize` makes room again."""
    for _ in range(100):  # who writes meanwhile may take more than is left
        found = os.statvfs(disk)
        if _remount(disk, str((found.f_blocks - found.f_bfree + 1) * found.f_frsize)).returncode == 0:
            return
    raise AssertionError(f"{disk} cannot be filled: more is written all the time")
