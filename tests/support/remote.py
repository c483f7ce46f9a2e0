"""Workers outside the cluster: they have a directory, an address and a token, and nothing else."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from events.kinds import Capabilities, JobKind
from tests.support.engine import free_ports
from tests.support.platform import ROOT, Platform
from tests.support.waiting import eventually
from workers.kinds import RUNNERS

CAPABILITIES = Capabilities(kinds=get_args(JobKind), encoders=("libx264",)).model_dump(mode="json")
ABOUT = {
    "worker_name": "attic",
    "code_version": "0.1.0",
    "capabilities": CAPABILITIES,
    "cpu_count": 4,
    "memory_bytes": 2**33,
}
assert set(CAPABILITIES["kinds"]) == set(RUNNERS)


async def token(platform: Platform, **wanted: object) -> dict[str, Any]:
    """Make a join token."""
    answer = await platform.admin.post("/api/worker-keys/join-tokens", json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def register(platform: Platform, *, about: dict[str, Any] | None = None, **wanted: object) -> dict[str, Any]:
    """Join with a new token; return worker id and key."""
    made = await token(platform, **wanted)
    answer = await platform.worker.post("/api/worker/register", json=about or ABOUT, headers={"X-Join-Token": made["token"]})
    assert answer.status_code == 200, answer.text
    joined: dict[str, Any] = answer.json()
    return joined


@dataclass
class RemoteWorker:
    """A `kinolog worker --join` in a world that knows the URL and the token only."""

    process: asyncio.subprocess.Process
    directory: Path
    log: Path

    async def stop(self, times: int = 1) -> int:
        """Send SIGTERM, again when it was seen, and wait for the end; return the exit status."""
        for sent in range(1, times + 1):
            if self.process.returncode is None:
                self.process.send_signal(signal.SIGTERM)
            await eventually(partial(self._has_seen, sent))
        return await asyncio.wait_for(self.process.wait(), 60)

    def _has_seen(self, signals: int) -> bool:
        return self.process.returncode is not None or self.log.read_text().count('"stopping"') >= signals


async def start_worker(url: str, token: str, directory: Path, **settings: object) -> RemoteWorker:
    """Start a worker on "another machine": no setting of the platform is in its environment. Started again, it is a member."""
    (port,) = free_ports(1)
    given = {"worker_metrics_port": port, "var_dir": directory / "var", "lease_renew_s": 1} | settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KINOLOG_")}
    environment |= {f"KINOLOG_{name.upper()}": str(value) for name, value in given.items()}
    path, here = directory / "log", directory / "here"
    command = ["-m", "infra.cli", "worker", "--join", url, "--token", token, "--work-dir", str(here)]
    directory.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    return RemoteWorker(process, here, path)


@asynccontextmanager
async def remote_worker(url: str, token: str, directory: Path, **settings: object) -> AsyncIterator[RemoteWorker]:
    """Run such a worker; it is killed at the end, if it still runs."""
    worker = await start_worker(url, token, directory, **settings)
    try:
        yield worker
    finally:
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.process.wait()
