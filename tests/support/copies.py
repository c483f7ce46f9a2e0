"""A copy of the code, to try a change in: what would `mypy` and the code itself say, had somebody made it?"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("events", "producers", "processors", "projections", "api", "workers", "infra")


@dataclass(frozen=True)
class Copy:
    """The packages, and what of the tests they need, in a directory of their own."""

    root: Path

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return (self.root / path).read_text()

    def change(self, path: str, *changes: tuple[str, str]) -> None:
        """Replace texts that stand in a file once."""
        file = self.root / path
        text = self.read(path)
        for old, new in changes:
            assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
            text = text.replace(old, new)
        file.write_text(text)

    def write(self, path: str, text: str) -> None:
        """Add a file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def mypy(self) -> list[str]:
        """Return the errors that mypy reports. Its cache begins with that of `make check`, which knows the libraries."""
        cache = ROOT / ".mypy_cache" / self.root.name
        known = ROOT / ".mypy_cache" / f"{sys.version_info.major}.{sys.version_info.minor}"
        if known.exists() and not cache.exists():
            shutil.copytree(known, cache / known.name)
        return self._run("-m", "mypy", "--cache-dir", str(cache), "--no-error-summary", "--hide-error-context").splitlines()

    def python(self, code: str) -> str:
        """Run code that imports the copy; return what it prints. Fails with its output when it does."""
        return self._run("-W", "error", "-c", code, check=True)

    def _run(self, *arguments: str, check: bool = False) -> str:
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or not done.returncode, done.stdout + done.stderr
        return done.stdout


def copy_of_the_code(root: Path) -> Copy:
    """Copy the code to `root`, which must not exist."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", "jars", "*.pyc", "web")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    shutil.copytree(ROOT / "tests" / "support", root / "tests" / "support", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    return Copy(root)
