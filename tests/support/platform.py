"""The platform's processes, started as a user would have them, in a world of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from pydantic import SecretStr

from infra.local.engine import access
from infra.runtime import kafka
from infra.runtime.settings import Settings
from infra.runtime.tokens import ensure_admin_token
from tests.support.engine import free_ports
from tests.support.log import settled
from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
ENDED_S = 60.0
QUICK: dict[str, Any] = {
    "lease_s": 3.0,
    "lease_renew_s": 0.5,
    "backoff_base_s": 0.2,
    "chunk_s": 4.0,
    "segment_s": 2.0,
    "worker_threads": 1,
}
COMMANDS = {
    "processors": ["processors"],
    "dispatcher": ["processors", "dispatcher"],
    "public": ["api", "public"],
    "admin": ["api", "admin"],
    "worker": ["api", "worker"],
}


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a process these settings."""
    found = {}
    for name, value in settings.model_dump(exclude_defaults=True).items():
        found[f"KINOLOG_{name.upper()}"] = _text(value)
    return {name: value for name, value in os.environ.items() if not name.startswith("KINOLOG_")} | found


def _text(value: object) -> str:
    """Return a setting as a variable has it."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case ({}, *_):
            return json.dumps(value, default=_text)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def has_ended(video: Mapping[str, Any]) -> bool:
    """Return whether a video is ready or has failed."""
    return video.get("status") in ("ready", "failed")


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    """Return whether a server is there, and says 200."""
    try:
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False


class Platform:
    """Processors, both apps and workers; each can be killed, stopped, continued and started again."""

    def __init__(self, settings: Settings, *, workers: int = 1, supervised: bool = False, **changes: object) -> None:
        ports = free_ports(5 + 8)
        self.settings = settings.model_copy(
            update={
                "public_port": ports[0],
                "admin_port": ports[1],
                "processors_port": ports[2],
                "dispatcher_port": ports[3],
                "worker_port": ports[4],
                "worker_metrics_port": min(ports[5:]),
                "requests_per_minute": 1_000_000,
                "admin_requests_per_minute": 1_000_000,
                **changes,
            }
        )
        self._workers = workers
        self._supervised = supervised
        self._supervisor: asyncio.Task[None] | None = None
        self._worker_ports = ports[5:]
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.token = ensure_admin_token(self.settings)
        self.admin = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ports[1]}", headers={"Authorization": f"Bearer {self.token}"}, timeout=30
        )
        self.public = httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[0]}", timeout=30)
        self.worker = httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[4]}", timeout=60)
        self.store = httpx.AsyncClient(timeout=60)

    @property
    def names(self) -> list[str]:
        """Names of all processes."""
        return [*COMMANDS, *(f"worker-{number}" for number in range(1, self._workers + 1))]

    async def __aenter__(self) -> "Platform":
        try:
            await kafka.ensure_topics(self.settings)
            await asyncio.gather(*map(self.start, self.names))
            await asyncio.gather(*map(self.ready, self.names))
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        if self._supervised:
            self._supervisor = asyncio.create_task(self.restart_what_ends())
        return self

    async def restart_what_ends(self) -> None:
        """Do what the supervisor does: start again what ended."""
        while True:
            for name, process in list(self.processes.items()):
                if process.returncode is not None and self.processes.get(name) is process:
                    await self.start(name)
            await asyncio.sleep(0.2)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        for client in (self.admin, self.public, self.worker, self.store):
            await client.aclose()
        workers = [name for name in self.processes if name.startswith("worker-")]
        for names in workers, self.processes.keys() - workers:  # an idle worker withdraws its claims: the dispatcher answers
            for process in map(self.processes.__getitem__, names):
                if process.returncode is None:
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
            for name in names:
                await self._ended(name, error)

    async def _ended(self, name: str, error: BaseException | None) -> None:
        """Wait until a process has ended."""
        process = self.processes[name]
        try:
            await asyncio.wait_for(process.wait(), ENDED_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{name} did not end within {ENDED_S:.0f} s of SIGTERM") from error

    def log(self, name: str) -> str:
        """Return what a process has logged."""
        return (self.settings.var_dir / f"{name}.log").read_text()

    async def start(self, name: str) -> None:
        """Start a process, unless whoever restarts what ends was quicker; its log goes to the var directory."""
        async with self._starting[name]:
            if name not in self.processes or self.processes[name].returncode is not None:
                await self._start(name)

    async def _start(self, name: str) -> None:
        settings = self.settings
        if name.startswith("worker-"):
            number = int(name.removeprefix("worker-"))
            command = ["workers", str(number)]
            port = self._worker_ports[number - 1] - number + 1
            settings = settings.model_copy(update={"worker_metrics_port": port})
        else:
            command = COMMANDS[name]
        settings = access.as_user(settings, {"worker": "worker-app"}.get(name, name.partition("-")[0]))
        log = os.open(settings.var_dir / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *command, cwd=ROOT, env=environment(settings), stdout=log, stderr=log
            )
        finally:
            os.close(log)

    def port_of(self, name: str) -> int:
        """Return where a process answers HTTP."""
        if name.startswith("worker-"):
            return self._worker_ports[int(name.removeprefix("worker-")) - 1]
        return int(getattr(self.settings, f"{name}_port"))

    async def ready(self, name: str) -> None:
        """Wait until a process says that it is ready."""

        async def says() -> tuple[bool, str]:
            assert (code := self.processes[name].returncode) is None, f"it ended with {code}"
            return await self._says(name)

        try:
            await eventually(says, lambda said: said[0])
        except AssertionError as error:
            raise AssertionError(f"{name} is not ready: {error}\n{self.log(name)[-3000:]}") from error

    async def recovered(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every process is ready, also those that end and are started again meanwhile."""
        for name in self.names:
            await eventually(partial(self._says, name), lambda said: said[0], timeout_s=timeout_s)

    async def say_whether_ready(self) -> Mapping[str, str]:
        """Return what each process says of itself."""
        return {name: (await self._says(name))[1] for name in self.names}

    async def missing(self, name: str) -> Mapping[str, str]:
        """Return what a process says that it lacks, by its parts."""
        _, said = await self._says(name)
        return dict(json.loads(said).get("missing", {})) if said.startswith("{") else {}

    async def _says(self, name: str) -> tuple[bool, str]:
        """Ask a process whether it is ready; return that, and its words."""
        try:
            answer = await self.public.get(f"http://127.0.0.1:{self.port_of(name)}/ready")
        except httpx.TransportError as error:
            return False, repr(error)
        return answer.status_code == 200, answer.text

    async def kill(self, name: str) -> None:
        """Kill a process with SIGKILL and wait for its end."""
        self.processes[name].kill()
        await self.processes[name].wait()

    async def retire(self, name: str) -> None:
        """End a process for good, as somebody does who takes a machine away."""
        process = self.processes.pop(name)
        process.terminate()
        await process.wait()

    async def read(self, path: str, position: str) -> httpx.Response:
        """Read from a position of the log on: the admin app waits two seconds for it at a time, a busy machine takes longer."""
        headers = {"X-Min-Position": position}
        return await eventually(lambda: self.admin.get(path, headers=headers), lambda answer: answer.status_code != 503)

    async def upload(self, path: Path, **completion: object) -> str:
        """Send a file as a client does; return the video's id."""
        size = path.stat().st_size
        begun = (await self.admin.post("/api/uploads", json={"filename": path.name, "size_bytes": size})).raise_for_status().json()
        await self.until(begun["video_id"], bool)  # the admin app waits five seconds for it, a busy machine may take longer
        where = f"/api/uploads/{begun['video_id']}"
        data, step = path.read_bytes(), begun["part_bytes"] or size
        urls = [begun["url"]]
        if begun["part_bytes"]:
            numbers = list(range(1, -(-size // step) + 1))
            signed = (await self.admin.post(f"{where}/parts", json={"numbers": numbers})).raise_for_status().json()["urls"]
            urls = [signed[str(number)] for number in numbers]
        for index, url in enumerate(urls):
            (await self.store.put(url, content=data[index * step : (index + 1) * step])).raise_for_status()
        (await self.admin.post(f"{where}/complete", json={"title": path.stem, **completion})).raise_for_status()
        return str(begun["video_id"])

    async def video(self, video_id: str) -> Mapping[str, Any]:
        """Return what the admin app says of a video; empty while it does not know it."""
        answer = await self.admin.get(f"/api/videos/{video_id}")
        return answer.json() if answer.status_code == 200 else {}

    async def ended(self, video_id: str, timeout_s: float = PATIENCE_S) -> Mapping[str, Any]:
        """Wait until a video is ready or has failed, and every projection shows how that came."""
        await self.until(video_id, has_ended, timeout_s)
        await settled(self.settings)
        return await self.video(video_id)

    async def until(
        self, video_id: str, condition: Callable[[Mapping[str, Any]], object], timeout_s: float = PATIENCE_S
    ) -> Mapping[str, Any]:
        """Wait until a condition holds of a video."""
        return await eventually(lambda: self.video(video_id), condition, timeout_s=timeout_s, despite=httpx.TransportError)


@asynccontextmanager
async def beside(platform: Platform, name: str, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """Run one more process of an app of the platform, with other settings; yield a client of it."""
    (port,) = free_ports(1)
    settings = platform.settings.model_copy(update={f"{name}_port": port, **changes})
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *COMMANDS[name]),
        cwd=ROOT,
        env=environment(access.as_user(settings, name)),
        stdout=quiet,
        stderr=quiet,
    )
    headers = platform.admin.headers if name == "admin" else None
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:

            async def is_ready() -> bool:
                assert process.returncode is None, f"it ended with {process.returncode}"
                return await answers(http, "/ready")

            await eventually(is_ready)
            yield http
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), ENDED_S)


def kinolog(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line beside the platform."""
    command = [sys.executable, "-m", "infra.cli", *words]
    return subprocess.run(command, cwd=ROOT, env=environment(platform.settings), capture_output=True, text=True, timeout=100)
