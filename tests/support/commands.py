"""The command line, run as a person runs it."""

import asyncio
import subprocess
import sys
from pathlib import Path

from infra.reference.schemas import ROOT
from infra.runtime.settings import Settings
from tests.support.platform import environment


async def kinolog(settings: Settings, *words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "infra.cli", *words]
    env = environment(settings) | {"PYTHONPATH": str(ROOT)} | environ
    return await asyncio.to_thread(subprocess.run, command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
