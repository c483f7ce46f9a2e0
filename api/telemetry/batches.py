"""`POST /v1/events`: lines of JSON, compressed or not, read as they arrive; a verdict for each refused line.

Memory is bounded for any input: a piece of the body, its decompressed bytes, and a few slices of lines on their way to the
log.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import msgspec
import zstandard

from api.telemetry.intake import Intake
from events.errors import InvalidRequest
from producers.anonymity import Refused
from producers.reports import NotJson, Report, read, read_lines

LINE_BYTES_MAX = 16_384
LINES_MAX = 50_000
BODY_BYTES_MAX = 32 * 2**20
"""Of the decompressed lines."""
SLICE_BYTES = 128 * 1024
SLICES_AHEAD = 4
"""Maximum number of slices of one request on their way to the log."""
_ZSTD_PIECE_BYTES = 512
"""Four bytes of zstd may become 128 KiB, and its decompressor has no output limit: small pieces bound the surprise."""
_ZSTD_WINDOW_MAX_BYTES = 8 * 2**20
"""The size that RFC 8878 recommends everybody to support."""


class TooMuch(InvalidRequest):
    """There is more in the body than a request may have; send it in parts."""


class Damaged(InvalidRequest):
    """The body contradicts its Content-Encoding, or ends early."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a line was refused; `line` counts from 1. Lines without a verdict were accepted."""

    line: int
    status: int
    detail: str
    field: str | None = None


class Verdicts(msgspec.Struct):
    """The outcome of the first `lines` lines. Each one counted in `accepted` is on the log."""

    lines: int = 0
    accepted: int = 0
    refused: int = 0
    verdicts: list[Verdict] = []


class Decoder(Protocol):
    """Undoes a Content-Encoding, piece by piece."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes of the next piece of the body. Raises Damaged."""

    def end(self) -> None:
        """Raise Damaged when the body ended early."""


class Identity:
    """No encoding."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes as they are."""
        yield data

    def end(self) -> None:
        """Do nothing: HTTP itself detects a short body."""


class Gzip:
    """One gzip member or several."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield pieces of at most SLICE_BYTES. Raises Damaged."""
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            self._begun = True
            try:
                yield self._member.decompress(data, SLICE_BYTES)
            except zlib.error as error:
                raise Damaged("the body is not gzip") from error
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def end(self) -> None:
        """Raise Damaged inside a member."""
        if self._begun and not self._member.eof:
            raise Damaged("the gzip body ends early")


class Zstd:
    """One zstd frame or several."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the output of small pieces of the input. Raises Damaged."""
        for start in range(0, len(data), _ZSTD_PIECE_BYTES):
            piece = data[start : start + _ZSTD_PIECE_BYTES]
            while piece:
                if self._frame.eof:
                    self._frame = self._decompressor.decompressobj()
                self._begun = True
                try:
                    yield self._frame.decompress(piece)
                except zstandard.ZstdError as error:
                    raise Damaged("the body is not zstd, or needs a window of more than 8 MiB") from error
                piece = self._frame.unused_data if self._frame.eof else b""

    def end(self) -> None:
        """Raise Damaged inside a frame."""
        if self._begun and not self._frame.eof:
            raise Damaged("the zstd body ends early")


DECODERS: dict[bytes, type[Identity | Gzip | Zstd]] = {
    b"": Identity,
    b"identity": Identity,
    b"gzip": Gzip,
    b"x-gzip": Gzip,
    b"zstd": Zstd,
}


async def slices(chunks: AsyncIterator[bytes], decoder: Decoder) -> AsyncIterator[bytes]:
    """Yield the body as runs of whole lines of about SLICE_BYTES; a line that is too long comes shortened.

    Raises TooMuch and Damaged.
    """
    rest = bytearray()
    total = 0
    async for chunk in chunks:
        for piece in decoder.pieces(chunk):
            total += len(piece)
            if total > BODY_BYTES_MAX:
                raise TooMuch(f"the body has more than {BODY_BYTES_MAX} bytes of lines")
            for start in range(0, len(piece), SLICE_BYTES):
                rest += piece[start : start + SLICE_BYTES]
                if len(rest) < SLICE_BYTES:
                    continue
                cut = rest.rfind(b"\n") + 1
                if cut:
                    yield bytes(rest[:cut])
                    del rest[:cut]
                if len(rest) > LINE_BYTES_MAX:
                    del rest[LINE_BYTES_MAX + 1 :]  # the verdict only needs to see that it is too long
    decoder.end()
    if rest:
        yield bytes(rest)


class Batch:
    """One request: runs of lines are judged and put on the log while the next ones arrive."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._lines = 0
        self._on_their_way: deque[tuple[int, list[Verdict], int, asyncio.Task[None]]] = deque()
        self.result = Verdicts()

    async def take(self, runs: AsyncIterator[bytes]) -> Verdicts:
        """Put all lines on the log. Raises TooMuch, Damaged or LogUnavailable; `result` has the outcome up to then."""
        try:
            try:
                async for run in runs:
                    reports, refused = self._judge(run)
                    task = asyncio.create_task(self._intake.put(reports))
                    self._on_their_way.append((len(reports), refused, self._lines, task))
                    if len(self._on_their_way) > SLICES_AHEAD:
                        await self._arrival()
            finally:
                while self._on_their_way:
                    await self._arrival()
        finally:
            left = [task for *_, task in self._on_their_way]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        return self.result

    async def _arrival(self) -> None:
        accepted, refused, lines, task = self._on_their_way.popleft()
        await task
        self.result.lines = lines
        self.result.accepted += accepted
        self.result.refused += len(refused)
        self.result.verdicts += refused

    def _judge(self, run: bytes) -> tuple[list[Report], list[Verdict]]:
        """Return the reports in whole lines, and the verdicts of the refused lines."""
        first = self._lines + 1
        self._lines += run.count(b"\n") + (not run.endswith(b"\n"))
        if self._lines > LINES_MAX:
            raise TooMuch(f"the body has more than {LINES_MAX} lines")
        if not has_long_line(run) and (reports := read_lines(run)) is not None:
            return reports, []
        reports, refused = [], []
        for number, line in enumerate(run.removesuffix(b"\n").split(b"\n"), first):
            match _judge_line(number, line):
                case Report() as report:
                    reports.append(report)
                case Verdict() as verdict:
                    refused.append(verdict)
                case None:
                    pass
        return reports, refused


def has_long_line(run: bytes) -> bool:
    """Return whether a line has more than LINE_BYTES_MAX bytes, in a few leaps from line end to line end."""
    start = 0
    while len(run) - start > LINE_BYTES_MAX:
        end = run.rfind(b"\n", start, start + LINE_BYTES_MAX + 1)
        if end < 0:
            return True
        start = end + 1
    return False


def _judge_line(number: int, line: bytes) -> Report | Verdict | None:
    """Return the report in a line, or the verdict that refuses it; None for an empty line."""
    if not line.strip():
        return None
    if len(line) > LINE_BYTES_MAX:
        return Verdict(number, 413, f"the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        return read(line)
    except NotJson as error:
        return Verdict(number, 400, str(error))
    except Refused as error:
        return Verdict(number, 422, str(error), error.field)
