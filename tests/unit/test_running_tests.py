"""How `make test` runs the tests: one that fails runs once more, alone, and a flaky one is named."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
from pathlib import Path

def test_that_passes():
    pass

def test_that_is_flaky():
    here = Path(__file__).with_name("ran")
    ran = here.exists()
    here.touch()
    assert ran

def test_that_fails():
    assert False
"""


def test_what_fails_runs_once_more_and_is_named_flaky_when_it_passes(tmp_path: Path) -> None:
    (tmp_path / "test_all.py").write_text(TESTS)
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p xdist.plugin"}
    command = [str(ROOT / "infra" / "tests.sh"), sys.executable]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | plugins, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "once more, alone:\ntest_all.py::test_that_" in done.stdout
    flaky = [line for line in done.stdout.splitlines() if line.startswith("FLAKY: ")]
    assert flaky == ["FLAKY: failed beside others, passed alone: test_all.py::test_that_is_flaky"]
