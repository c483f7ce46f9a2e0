"""The telemetry app as its own process, started as a user would have it."""

import asyncio
import contextlib
import json
import re
import sys
from functools import partial
from types import TracebackType

import httpx

from infra.runtime.settings import Settings
from tests.support.engine import free_ports
from tests.support.platform import ROOT, answers, environment
from tests.support.waiting import eventually

ENDED_S = 60.0
PATIENCE_S = 60.0
UNLIMITED = {"telemetry_requests_per_minute": 1e9, "telemetry_burst": 10**9}


class TelemetryServer:
    """`python -m api telemetry`; can be killed and started again on its port."""

    command = ("-m", "api", "telemetry")

    def __init__(self, settings: Settings, **changes: object) -> None:
        (port,) = free_ports(1)
        self.settings = settings.model_copy(update={"telemetry_port": port, **UNLIMITED, **changes})
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log_path = settings.var_dir / "telemetry.log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "TelemetryServer":
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process = self.process
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), ENDED_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"the telemetry app did not end within {ENDED_S:.0f} s of SIGTERM") from error

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process that runs or ran last."""
        assert self._process is not None
        return self._process

    def log(self) -> str:
        """Return what it has logged."""
        return self.log_path.read_text()

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.touch(0o600)  # the folder may be that of a platform, whose files are private
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self.command, cwd=ROOT, env=environment(self.settings), stdout=log, stderr=log
            )
        async with httpx.AsyncClient(base_url=self.url) as http:
            await eventually(partial(self._is_ready, http))

    async def _is_ready(self, http: httpx.AsyncClient) -> bool:
        assert self.process.returncode is None, f"the telemetry app ended:\n{self.log()[-3000:]}"
        return await answers(http, "/ready")

    async def kill(self) -> None:
        """Kill it with SIGKILL and wait for its end."""
        self.process.kill()
        await self.process.wait()


class PatientServer(TelemetryServer):
    """The same server, but one that waits for the log for as long as a machine may stop: what it can take is taken, never 503."""

    command = ("-m", "tests.support.patient_telemetry", "telemetry")


"""A machine may stop for some seconds: whatever comes, comes within this time."""


def request(body: object, *more: bytes, version: bytes = b"1.1", length: bool = True) -> bytes:
    """The bytes of one request."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [b"POST /v1/event HTTP/" + version, b"Host: x", b"Content-Type: application/json", *more]
    if length:
        head.append(b"Content-Length: %d" % len(sent))
    return b"\r\n".join(head) + b"\r\n\r\n" + sent


async def talk(port: int, *pieces: bytes, answers: int, pause_s: float = 0.02) -> list[int]:
    """Send pieces with pauses between them; return the statuses until the server closes, or says no more for a second after
    so many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause_s)
    received = b""
    statuses: list[int] = []
    with contextlib.suppress(TimeoutError):
        while part := await asyncio.wait_for(reader.read(65536), 1 if len(statuses) >= answers else PATIENCE_S):
            received += part
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", received)]
    writer.close()
    return statuses
