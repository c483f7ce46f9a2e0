"""Files to upload: their choice, and the moment when a growing file counts as finished."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from infra.commands.support.exits import UsageFault

MEDIA_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv", "ts"),
        *("webm", "wmv", "aac", "flac", "m4a", "mka", "mp3", "ogg", "opus", "wav"),
    )
)
"""Suffixes of files taken from a folder; a file named on the command line needs none of them."""


def collect(paths: Iterable[Path]) -> list[Path]:
    """Return the files named, and the media files below folders, in order, each once.

    Raises UsageFault for a path that is missing, or neither file nor folder.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_below(path)))
        elif path.is_file():
            found[path] = None
        else:
            raise UsageFault(
                f"{shown(path)}: there is no such file or folder" if not path.exists() else f"{shown(path)} is no file"
            )
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    """Yield the media files of a folder and of those in it; hidden ones are left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if is_media(path := Path(root, name)) and path.is_file() and not is_typescript(path):
                yield path


def is_media(path: Path) -> bool:
    """Return whether a file in a folder is taken: by its suffix, never a hidden one."""
    return not path.name.startswith(".") and path.suffix.lower() in MEDIA_SUFFIXES


def is_typescript(path: Path) -> bool:
    """Return whether a file with a suffix of transport streams is none: these have 0x47 first, or in M2TS after four bytes."""
    if path.suffix.lower() not in (".ts", ".mts"):
        return False
    try:
        with path.open("rb") as file:
            return 0x47 not in file.read(5)[::4]
    except OSError:
        return False


def shown(path: Path) -> str:
    """Return a name fit for a terminal and for the log: valid Unicode, no control characters."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "�" for character in text)


@dataclass(slots=True)
class Settling:
    """Recognises files that stopped growing: same size and time of change for `quiet_s` seconds. Pure."""

    quiet_s: float
    _seen: dict[Path, tuple[int, int, float]] = field(default_factory=dict)

    def observe(self, path: Path, size_bytes: int, changed_ns: int, now_s: float) -> None:
        """Record a file's size and time of change at this moment."""
        before = self._seen.get(path)
        if before is None or before[:2] != (size_bytes, changed_ns):
            self._seen[path] = (size_bytes, changed_ns, now_s)

    def forget(self, path: Path) -> None:
        """Forget a file that is gone."""
        self._seen.pop(path, None)

    @property
    def waiting(self) -> list[Path]:
        """The files that may still grow."""
        return list(self._seen)

    def take_settled(self, now_s: float) -> list[Path]:
        """Return the files that have stopped growing, and forget them. An empty file is never finished."""
        settled = [path for path, (size, _, since) in self._seen.items() if size > 0 and now_s - since >= self.quiet_s]
        for path in settled:
            del self._seen[path]
        return settled


def watch(folders: list[Path], quiet_s: float, known: Iterable[Path] = ()) -> Iterator[Path | None]:
    """Yield each media file that appears or changes below the folders, once it stopped growing; ends with Ctrl-C.

    Yields None after each look, at least twice a second, so that the caller can do other things. Files already in
    the folders count as new unless they are `known`.
    """
    from time import monotonic

    from watchfiles import Change
    from watchfiles import watch as changes

    settling = Settling(quiet_s)
    touched = set(collect(folders)) - set(known)
    for batch in changes(*folders, yield_on_timeout=True, rust_timeout=500, raise_interrupt=True):
        touched |= {Path(name) for change, name in batch if change is not Change.deleted}
        for folder in [path for path in touched if path.is_dir()]:
            touched |= set(_below(folder))  # its files may be older than the watch on it
        for path in {*touched, *settling.waiting}:
            if not is_media(path):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                settling.forget(path)
                continue
            if S_ISREG(status.st_mode):
                settling.observe(path, status.st_size, status.st_mtime_ns, monotonic())
        touched.clear()
        yield from (path for path in settling.take_settled(monotonic()) if not is_typescript(path))
        yield None
