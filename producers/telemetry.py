"""Reports to a telemetry server, from any node: what is reported survives a restart and is sent when the server is there.

    async with telemetry_client("http://telemetry.example:3000", Path("spool")) as client:  # infra.runtime.telemetry
        client.report(Report(app_version="1.0.0", event_type="job_started", encoder="av1_qsv"))

`report` neither waits nor raises. What may not be said (`producers.anonymity`) is dropped here already, and never on
disk. Each report gets an `event_id` before it is kept, so whatever is sent twice counts once.
"""

import asyncio
import gzip
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import structlog

from events.clock import Clock
from producers.anonymity import Refused
from producers.reports import Report, check_report

EVENTS_PATH = "/v1/events"
QUEUE_MAX = 10_000
BATCH_MAX = 1_000
BATCH_BYTES_MAX = 4 * 2**20
SPOOL_BYTES_MAX = 64 * 2**20
WAITS_S = (0.2, 0.8, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Before the next attempt: as the predecessor's clients, then longer. A server's Retry-After makes it longer still."""
STOP_S = 3.0
HOPELESS = (400, 413, 415, 422)
"""A batch that is answered so will never be taken. All other answers are hoped to change."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


class Spool:
    """Reports on disk, in files of at most BATCH_MAX lines; the oldest files go when there is no room.

    One thread may `keep` while another one reads and forgets: files that go meanwhile are passed over.
    """

    def __init__(self, directory: Path, new_id: Callable[[], str], bytes_max: int = SPOOL_BYTES_MAX) -> None:
        self._directory = directory
        self._new_id = new_id
        self._bytes_max = bytes_max

    def keep(self, lines: Sequence[bytes]) -> int:
        """Write lines to files, each there as a whole or not at all; return how many files had to go for them."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(lines), BATCH_MAX):
            path = self._directory / f"{self._new_id()}.ndjson"
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(b"".join(line + b"\n" for line in lines[start : start + BATCH_MAX]))
            unfinished.rename(path)
        files = self.files()
        sizes = list(map(_size_bytes, files))
        size_bytes, dropped = sum(sizes), 0
        while size_bytes > self._bytes_max and dropped < len(files) - 1:
            size_bytes -= sizes[dropped]
            files[dropped].unlink(missing_ok=True)
            dropped += 1
        return dropped

    def files(self) -> list[Path]:
        """Return the files, oldest first: their names are UUIDv7."""
        return sorted(self._directory.glob("*.ndjson"))

    def read(self) -> tuple[list[Path], bytes]:
        """Return the oldest files that make up one batch, and their lines."""
        taken: list[Path] = []
        body = b""
        count = 0
        for file in self.files():
            try:
                lines = file.read_bytes()
            except FileNotFoundError:
                continue  # it went meanwhile, for there was no room for it
            count += lines.count(b"\n")
            if taken and (count > BATCH_MAX or len(body) + len(lines) > BATCH_BYTES_MAX):
                break
            taken.append(file)
            body += lines
        return taken, body

    def forget(self, files: Iterable[Path]) -> None:
        """Delete files that were dealt with."""
        for file in files:
            file.unlink(missing_ok=True)


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


class TelemetryClient:
    """One per process. `http` has the server as its base URL; `directory` belongs to this client alone."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        directory: Path,
        clock: Clock,
        new_id: Callable[[], str],
        rng: random.Random,
        *,
        queue_max: int = QUEUE_MAX,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
    ) -> None:
        self._http = http
        self._spool = Spool(directory, new_id, spool_bytes_max)
        self._clock = clock
        self._new_id = new_id
        self._rng = rng
        self._queue: deque[bytes] = deque(maxlen=queue_max)
        self._reported = asyncio.Event()
        self._kept = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._failures = 0
        """Since the last batch that was dealt with."""

    def report(self, report: Report) -> None:
        """Take a report. Returns at once; what is wrong with the report or the server is a line in the log."""
        try:
            report.event_id = report.event_id or self._new_id()
            check_report(report)
            line = _encode(report)
            _decode(line)  # its types, too
        except Refused as error:
            log.warning("telemetry_refused", field=error.field, reason=error.reason)
        except (TypeError, ValueError, AttributeError) as error:
            log.warning("telemetry_refused", field="report", reason=type(error).__name__)
        else:
            if len(self._queue) == self._queue.maxlen:
                log.warning("telemetry_queue_full")
            self._queue.append(line)
            self._reported.set()

    async def start(self) -> None:
        """Begin to send, what an earlier process left over first."""
        self._stopping = False
        self._kept.set()
        self._tasks = [
            asyncio.create_task(self._keep_reports(), name="telemetry to disk"),
            asyncio.create_task(self._send_files(), name="telemetry to server"),
        ]

    async def stop(self, timeout_s: float = STOP_S) -> None:
        """Try once to send what is left, within this time; what stays on disk is sent by the next process."""
        self._stopping = True
        self._reported.set()
        keeping, sending = self._tasks
        sending.cancel()
        await asyncio.gather(keeping, sending, return_exceptions=True)  # what is being written to disk is there then
        await self._keep()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._send_left()

    async def _keep_reports(self) -> None:
        while not self._stopping:
            await self._reported.wait()
            self._reported.clear()
            await self._keep()
            self._kept.set()

    async def _keep(self) -> None:
        """Put what is queued on disk. Without a disk it stays in the queue, which is bounded."""
        if not self._queue:
            return
        lines, self._queue = self._queue, deque(maxlen=self._queue.maxlen)
        try:
            if dropped := await asyncio.to_thread(self._spool.keep, list(lines)):
                log.warning("telemetry_spool_full", files_dropped=dropped)
        except OSError as error:
            log.warning("telemetry_spool_unwritable", error=type(error).__name__)
            self._queue.extendleft(reversed(lines))

    async def _send_files(self) -> None:
        while True:
            await self._kept.wait()
            self._kept.clear()
            while (wait_s := await self._send_left()) is not None:
                usual_s = WAITS_S[min(self._failures, len(WAITS_S) - 1)]
                self._failures += 1
                await self._clock.sleep(max(wait_s, usual_s * self._rng.uniform(0.8, 1.2)))

    async def _send_left(self) -> float | None:
        """Send batch after batch; return None when nothing is left, else the least seconds to wait."""
        while True:
            try:
                files, body = await asyncio.to_thread(self._spool.read)
                if not files:
                    return None
                if (wait_s := await self._send(body)) is not None:
                    return wait_s
                self._failures = 0
                await asyncio.to_thread(self._spool.forget, files)
            except OSError as error:
                log.warning("telemetry_spool_unreadable", error=type(error).__name__)
                return WAITS_S[-1]

    async def _send(self, body: bytes) -> float | None:
        """Send a batch; return None when there is no more to do about it, else the least seconds to wait."""
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        try:
            answer = await self._http.post(EVENTS_PATH, content=gzip.compress(body, 1), headers=headers)
        except httpx.HTTPError as error:
            log.info("telemetry_not_sent", error=type(error).__name__)
            return 0.0
        if answer.status_code == 200:
            return None
        if answer.status_code in HOPELESS:
            log.warning("telemetry_batch_refused", status=answer.status_code, lines=body.count(b"\n"))
            return None
        log.info("telemetry_not_sent", status=answer.status_code)
        retry_after = answer.headers.get("retry-after", "")
        return min(float(retry_after), WAITS_S[-1]) if retry_after.isdecimal() else 0.0
