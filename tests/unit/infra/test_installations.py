"""Each installation works with nothing but its lock: the wheel, and links to the packages that the lock names.

The links stand for `pip install --require-hashes -r LOCK`: they lead to the packages of this checkout, which has the same
versions (`test_dependencies`), so that no registry is asked.
"""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from infra.commands.support.exits import ExitCode
from infra.locking import ROOT, pinned

PROGRAMS = {
    "core": ("infra.cli", "api.public.app", "api.telemetry.app", "api.worker.app", "processors.dispatch.owner"),
    "worker": ("workers.app",),
    "analytics": ("api.admin.app", "processors.agents.app", "processors.archiver", "infra.history.warehouse"),
    "engine": ("infra.local.supervision", "infra.local.programs"),
}
"""What each lock adds to those that it includes."""
IMPORT = "import importlib; [importlib.import_module(name) for name in sys.argv[1:]]"
EVERYTHING = """
import importlib, pkgutil
for top in sys.argv[1:]:
    for module in pkgutil.walk_packages([f"{sys.path[0]}/{top}"], f"{top}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
PAGES = """
import asyncio, json, re
from urllib.parse import urljoin
import httpx
from fastapi import FastAPI
from api.public import pages

app = FastAPI()
app.include_router(pages.routes)
app.dependency_overrides[pages.described] = lambda: None

async def main():
    seen, wanted = {}, ["/", "/watch/film"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://viewer") as viewer:
        while wanted:
            if (path := wanted.pop()) not in seen:
                answer = await viewer.get(path)
                seen[path] = answer.status_code
                links = re.findall(r'(?:href|src)="([^"#]+)|^import .*"(.+)"|^} from "(.+)"', answer.text, re.MULTILINE)
                wanted += [urljoin(path, "".join(link)) for link in links if "vendor" not in path]
    print(json.dumps(seen))

asyncio.run(main())
"""
"""Asks for the pages, and for everything that they load."""
KINOLOG = "from infra.cli import main; sys.argv[0] = 'kinolog'; main()"
PACKAGES = ("events", "producers", "processors", "projections", "api", "workers", "infra")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, folder, ROOT], check=True)
    (path,) = folder.glob("*.whl")
    return path


def installed(name: str, wheel: Path, folder: Path) -> Path:
    """Return a folder with what a lock installs, and the wheel."""
    folder.mkdir()
    for package, block in pinned(name).items():
        assert block.startswith(f"{package}=={distribution(package).version} "), "this checkout has another version: make setup"
        for file in distribution(package).files or ():
            top, target = file.parts[0], Path(str(distribution(package).locate_file(file.parts[0])))
            if top != ".." and not (folder / top).exists():
                (folder / top).symlink_to(target)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(folder: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with this folder alone."""
    command: list[str | Path] = [sys.executable, "-S", "-c", f"import sys; sys.path[0] = {str(folder)!r}\n{code}", *arguments]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True)


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_installation_has_all_that_its_programs_import(name: str, wheel: Path, tmp_path: Path) -> None:
    answer = run(installed(name, wheel, tmp_path / "site"), IMPORT, *PROGRAMS[name])
    assert answer.returncode == 0, answer.stderr


def test_every_module_can_be_imported_without_what_only_tests_want(wheel: Path, tmp_path: Path) -> None:
    answer = run(installed("demo", wheel, tmp_path / "site"), EVERYTHING, *PACKAGES)
    assert answer.returncode == 0, answer.stderr


def test_an_installation_serves_the_pages_and_all_that_they_load(wheel: Path, tmp_path: Path) -> None:
    answer = run(installed("core", wheel, tmp_path / "site"), PAGES)
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert seen.pop("/watch/film") == 503, "the page of a video, while there is no database"
    assert set(seen.values()) == {200}, seen
    assert {"/assets/style.css", "/assets/library.js", "/assets/player.js", "/assets/vendor/hls.js"} <= seen.keys()


def test_the_least_installation_has_the_command_and_says_what_it_lacks(wheel: Path, tmp_path: Path) -> None:
    folder = installed("core", wheel, tmp_path / "site")
    answer = run(folder, KINOLOG, "--help")
    assert answer.returncode == 0 and "Usage: kinolog" in answer.stdout
    for command, module, extra in (
        (("sql", "SELECT 1"), "duckdb", "analytics"),
        (("worker",), "imageio_ffmpeg", "worker"),
        (("worker", "--join", "http://127.0.0.1:1", "--token", "x"), "imageio_ffmpeg", "worker"),
        (("up", "--detach"), "supervisor", "engine"),
    ):
        answer = run(folder, KINOLOG, *command)
        sentence = f"kinolog: {module} is not installed; it comes with: pip install 'kinolog[{extra}]'\n"
        assert (answer.returncode, answer.stderr) == (ExitCode.USAGE, sentence)
