"""`make lock`: makes the locks from pyproject.toml. A lock has versions and hashes, but no addresses.

    infra/locks/core.lock <- worker.lock <- transcribe.lock
                          <- analytics.lock
    worker.lock, analytics.lock <- engine.lock <- demo.lock
    demo.lock, build.lock <- requirements.lock, for a checkout: with the tests' requirements

A lock includes the locks that it builds on (`-r`), so each package is written once. A version stays while pyproject.toml
allows it: `make lock UPGRADE=--upgrade` or `UPGRADE="--upgrade-package NAME"` takes the newest.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "infra" / "locks"
UV = ROOT / "build" / "uv" / "bin" / "uv"
OPTIONS = (
    *("--quiet", "--no-config", "--generate-hashes", "--no-annotate", "--no-header", "--python-version", "3.11"),
    *("--no-emit-find-links", "--no-emit-index-url", "--no-emit-package", "kinolog"),
)


@dataclass(frozen=True)
class Lock:
    """A lock, the names of the locks that it includes, and uv's arguments for its requirements."""

    path: Path
    includes: tuple[str, ...]
    wanted: tuple[str, ...]


_PROJECT = ("pyproject.toml", "--extra")
LOCKS = {
    "core": Lock(FOLDER / "core.lock", (), ("pyproject.toml",)),
    "worker": Lock(FOLDER / "worker.lock", ("core",), (*_PROJECT, "worker")),
    "analytics": Lock(FOLDER / "analytics.lock", ("core",), (*_PROJECT, "analytics")),
    "transcribe": Lock(FOLDER / "transcribe.lock", ("worker",), (*_PROJECT, "transcribe")),
    "engine": Lock(FOLDER / "engine.lock", ("worker", "analytics"), (*_PROJECT, "engine")),
    "demo": Lock(FOLDER / "demo.lock", ("engine",), (*_PROJECT, "demo")),
    "build": Lock(FOLDER / "build.lock", (), ("--group", "build")),
    "all": Lock(ROOT / "requirements.lock", ("demo", "build"), (*_PROJECT, "demo", "--group", "dev")),
}
"""Each lock comes after those that it includes."""


def digest() -> str:
    """Return the digest of pyproject.toml's requirements, 16 hexadecimal digits; each lock names its own."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    required = [
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        document["dependency-groups"],
    ]
    return hashlib.sha256(json.dumps(required).encode()).hexdigest()[:16]


def pinned(name: str) -> dict[str, str]:
    """Return the lines (version and hashes) of each package in a lock and its included locks."""
    lock = LOCKS[name]
    found = blocks(lock.path.read_text())
    for included in lock.includes:
        found |= pinned(included)
    return found


def blocks(text: str) -> dict[str, str]:
    """Return the lines of each package in the text of a lock."""
    return {match[1]: match[0] for match in re.finditer(r"^([a-z0-9-]+)==.*(?:\n +--hash=.*)*\n", text, re.MULTILINE)}


def main() -> None:
    """Write every lock."""
    texts = [lock.path.read_text() for lock in LOCKS.values() if lock.path.exists()]
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything"
        everything.write_text("".join("".join(blocks(text).values()) for text in texts))  # uv keeps the versions that are there
        options = ("--extra", "demo", "--extra", "transcribe", "--group", "dev", *sys.argv[1:])
        _compile("pyproject.toml", *options, output=everything)
        for name, lock in LOCKS.items():
            output = Path(folder) / name
            _compile(*lock.wanted, "--constraints", str(everything), output=output)
            included = {package for other in lock.includes for package in pinned(other)}
            own = [block for package, block in blocks(output.read_text()).items() if package not in included]
            relative = [LOCKS[other].path.relative_to(lock.path.parent) for other in lock.includes]
            head = f"# made by `make lock`, from the requirements with digest {digest()}\n"
            lock.path.write_text(head + "".join(f"-r {path}\n" for path in relative) + "".join(own))


def _compile(*wanted: str, output: Path) -> None:
    subprocess.run(
        [UV, "pip", "compile", *OPTIONS, *wanted, "--output-file", output], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
