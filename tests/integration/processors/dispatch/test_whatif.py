"""`kinolog whatif` on the real engine: the tutorial as it stands, and a history that the platform made."""

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from infra.reference.schemas import ROOT
from infra.runtime.settings import Settings
from tests.simulation.world import Scale, run
from tests.support import clips
from tests.support.archiving import append, archive
from tests.support.commands import kinolog
from tests.support.platform import Platform, environment

CALM = Scale(workers=12, calamities=0)
POLICY = CALM.policy


def as_recorded(settings: Settings) -> Settings:
    """Return settings that say what the simulated dispatcher decided by."""
    return settings.model_copy(
        update={
            "backoff_base_s": POLICY.backoff_base.total_seconds(),
            "quarantine_after": POLICY.quarantine_after,
            "quarantine_s": POLICY.quarantine.total_seconds(),
        }
    )


async def test_the_tutorial_works_as_it_stands(settings: Settings, tmp_path: Path) -> None:
    outcome = run(7, CALM)
    settings = as_recorded(settings)
    await append(settings, [*outcome.requests, *outcome.facts])
    await archive(settings, len(outcome.requests))
    page = (ROOT / "docs" / "how-to" / "whatif.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "cheaper.py").write_text(code)
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    printed = []
    for command in [*commands.splitlines(), commands.splitlines()[-1]]:
        line = command.replace("kinolog", f"{sys.executable} -m infra.cli", 1)
        env = environment(settings) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        done = await asyncio.to_thread(
            subprocess.run, line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        printed.append(done.stdout)
    table, first, second = printed
    assert first == second
    said = json.loads(first)
    assert said["claims_in_order"] == said["claims"] > 100
    assert all(said["replayed"][figure] == said["happened"][figure] for figure in ("claims", "retries", "wait_p50_s"))
    assert said["alternative"] != said["replayed"]
    shown = [line.split()[0] for line in table.splitlines()[1:]]
    (example,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert shown == [line.split()[0] for line in example.splitlines()[1:]]


async def test_what_the_platform_did_comes_out_as_it_was(platform: Platform, tmp_path: Path) -> None:
    since = datetime.now(UTC).isoformat()
    for clip in ("carphone", "bikes"):
        await platform.ended(await platform.upload(clips.real_clips()[clip]))
    (tmp_path / "slower.py").write_text("def seconds(claimed, recorded):\n    return recorded * 3\n")
    done = await kinolog(platform.settings, "whatif", "--policy", "slower.py", "--since", since, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["claims_in_order"] == said["claims"] >= 6
    assert said["replayed"]["completed"] == said["happened"]["completed"]
    assert said["alternative"]["completed"] == said["happened"]["completed"]
    assert said["alternative"]["worker_s"] > 2 * said["happened"]["worker_s"]

    (tmp_path / "nobody.py").write_text("def workers(recorded):\n    return ()\n")
    nobody = await kinolog(platform.settings, "whatif", "--policy", "nobody.py", "--since", since, cwd=tmp_path)
    assert nobody.returncode == 2 and "leaves nobody to do the work" in nobody.stderr
    later = await kinolog(platform.settings, "whatif", "--policy", "slower.py", "--since", "2100-01-01", cwd=tmp_path)
    assert later.returncode == 4 and "no job was claimed since 2100-01-01" in later.stderr


async def test_nonsense_is_explained(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    nothing = await kinolog(settings, "whatif", "--policy", "nothing.py", cwd=tmp_path)
    assert nothing.returncode == 2 and "there is no such file" in nothing.stderr
    empty = await kinolog(settings, "whatif", "--policy", "empty.py", cwd=tmp_path)
    assert empty.returncode == 2 and "wants at least one of these functions" in empty.stderr
