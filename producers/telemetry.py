"""Client of a telemetry server, for any node: reports survive a restart and are sent once the server is reachable.

    async with telemetry_client("http://telemetry.example:3000", Path("spool")) as client:  # infra.runtime.telemetry
        client.report(Report(app_version="1.0.0", event_type="job_started", encoder="av1_qsv"))

`report` neither waits nor raises. A report that `producers.anonymity` refuses is dropped here and never reaches the disk.
Each report gets an `event_id` before it is stored, so a report that is sent twice counts once.
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
"""Waits before the next attempt: first those of the predecessor's clients, then longer. Retry-After can extend them."""
STOP_S = 3.0
HOPELESS = (400, 413, 415, 422)
"""Answers after which a batch will never be accepted. After any other answer it is sent again."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


class Spool:
    """Reports on disk, in files of at most BATCH_MAX lines; the oldest files are deleted when there is no room.

    One thread may `keep` while another reads and forgets: files deleted meanwhile are skipped.
    """

    def __init__(self, directory: Path, new_id: Callable[[], str], bytes_max: int = SPOOL_BYTES_MAX) -> None:
        self._directory = directory
        self._new_id = new_id
        self._bytes_max = bytes_max

    def keep(self, lines: Sequence[bytes]) -> int:
        """Write lines to files, each completely or not at all; return the number of files deleted to make room."""
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
        """Return the oldest files that form one batch, and their lines."""
        taken: list[Path] = []
        body = b""
        count = 0
        for file in self.files():
            try:
                lines = file.read_bytes()
            except FileNotFoundError:
                continue  # deleted meanwhile to make room
            count += lines.count(b"\n")
            if taken and (count > BATCH_MAX or len(body) + len(lines) > BATCH_BYTES_MAX):
                break
            taken.append(file)
            body += lines
        return taken, body

    def forget(self, files: Iterable[Path]) -> None:
        """Delete files whose reports were accepted or given up."""
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
        """Failures since the last batch that was accepted or given up."""

    def report(self, report: Report) -> None:
        """Accept a report. Returns at once; a fault of the report or the server is a line in the log."""
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
        """Start to send, first the reports left by an earlier process."""
        self._stopping = False
        self._kept.set()
        self._tasks = [
            asyncio.create_task(self._keep_reports(), name="telemetry to disk"),
            asyncio.create_task(self._send_files(), name="telemetry to server"),
        ]

    async def stop(self, timeout_s: float = STOP_S) -> None:
        """Try once to send the remaining reports within `timeout_s`; the next process sends those that stay on disk."""
        self._stopping = True
        self._reported.set()
        keeping, sending = self._tasks
        sending.cancel()
        await asyncio.gather(keeping, sending, return_exceptions=True)  # pending writes to disk are then complete
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
        """Write queued reports to disk. If the disk fails, they stay in the queue, which is bounded."""
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
        """Send batch after batch; return None when nothing is left, else the minimum seconds to wait."""
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
        """Send a batch; return None when it is done, else the minimum seconds to wait."""
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
