"""Runs one ffmpeg that makes renditions; stores and decodes their segments meanwhile. The effects of encoding.

A segment is complete when ffmpeg gives it its final name. It is then sent, and decoded in full beside the encoder: that
uses idle cores, and ends shortly after the encoder. Reports are read from the bytes that were decoded; a check holds that
the same bytes were stored.
"""

import asyncio
import hashlib
import shutil
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

from events.media import ObjectRef, Rendition, Segment
from workers.attempts import failures
from workers.attempts.process import ProcessResult, run_process
from workers.attempts.work import Progress, Work, WorkFailed
from workers.transcode import mpegts
from workers.transcode.argv import INIT, Output, decode_argv
from workers.transcode.progress import Meter, report
from workers.transcode.segments import BadSegment, Fragments, codec_string, fragments, timescale

POLL_S = 0.2
TICK_S = 1.0
UPLOADS_MAX = 6
DISK_FREE_MIN_BYTES = 8 * 2**20
TYPES = {".mp4": "mp4", ".m4s": "iso.segment", ".ts": "mp2t"}


@dataclass
class _Check:
    """The decoding of one rendition. `files` receives its complete files in order, and None at the end."""

    meter: Meter = field(default_factory=Meter)
    files: "asyncio.Queue[Path | None]" = field(default_factory=asyncio.Queue)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes of each file."""
        while (path := await self.files.get()) is not None:
            yield await asyncio.to_thread(path.read_bytes)


@dataclass
class Making:
    """One run: its goal and its state.

    `segments` is the approximate number per rendition; `total` the meter's final value, in frames or seconds; `frames` the
    number of pictures per rendition, None for sound. `encoding_share` is encoding's share of the time, the rest is decoding.
    Only segments with numbers in `kept` are stored, decoded and reported; None keeps all.
    """

    argv: list[str]
    outputs: Sequence[Output]
    segments: int
    total: float
    frames: int | None
    timeout_s: float
    step: str
    encoding_share: float
    decoder_threads: int = 1
    """Threads of each rendition's decoder. Beside encoders that fill the cores, more than one costs 20 % more time (measured)."""
    kept: range | None = None
    meter: Meter = field(default_factory=Meter)
    stderr: str = ""
    sent: dict[tuple[str, str], "asyncio.Task[ObjectRef]"] = field(default_factory=dict)
    checks: defaultdict[str, _Check] = field(default_factory=lambda: defaultdict(_Check))

    def done(self, meter: Meter) -> float:
        """Return the share that a meter shows, 0..1."""
        return min(1.0, (meter.seconds if self.frames is None else meter.frames) / self.total)

    def report(self, step: str) -> Progress:
        """Return the progress of encoding and decoding together."""
        names = [output.name for output in self.outputs]
        checked = sum(self.done(self.checks[name].meter) for name in names) / len(names)
        share = self.encoding_share * self.done(self.meter) + (1 - self.encoding_share) * checked
        completed = {name: sum(key[0] == name and key[1] != INIT for key in self.sent) for name in names}
        return report(step, share, self.meter, completed, self.segments)


@dataclass(frozen=True, slots=True)
class Made:
    """Renditions, and the times of each one's segments by its name; None for transport streams."""

    renditions: tuple[Rendition, ...]
    times: dict[str, tuple[Fragments, ...] | None]


async def make(making: Making, work: Work) -> AsyncGenerator[Progress, None]:
    """Encode, store and decode; yield progress once a second. Raises WorkFailed, classified, and the errors of the store."""
    for output in making.outputs:
        output.directory.mkdir(parents=True)
    slots = asyncio.Semaphore(UPLOADS_MAX)
    encoding = asyncio.create_task(_encode(making, work))
    checking = [asyncio.create_task(_check(making, output, work)) for output in making.outputs]
    try:
        async for _ in _seconds([encoding], making, lambda: _send_new(making, work, slots)):
            yield making.report(making.step)
        _send_new(making, work, slots)
        for output in making.outputs:
            making.checks[output.name].files.put_nowait(None)
        async for _ in _seconds([*checking, *making.sent.values()], making):
            yield making.report("check")
    finally:
        tasks = [encoding, *checking, *making.sent.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _seconds(
    tasks: Sequence["asyncio.Task[None] | asyncio.Task[ObjectRef]"], making: Making, look: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Call `look` several times a second until all tasks have ended; yield once a second.

    Raises the first failure of these tasks or of sending. A decoder is waited for only after its encoder, whose failure is
    nearer to the cause.
    """
    loop = asyncio.get_running_loop()
    ticked = loop.time()
    pending: Collection[asyncio.Task[None] | asyncio.Task[ObjectRef]] = tasks
    while pending:
        await asyncio.wait(pending, timeout=POLL_S, return_when=asyncio.FIRST_EXCEPTION)
        for task in [*tasks, *making.sent.values()]:
            if task.done():
                task.result()
        pending = [task for task in tasks if not task.done()]
        look()
        if pending and loop.time() - ticked >= TICK_S:
            ticked = loop.time()
            yield


async def _encode(making: Making, work: Work) -> None:
    """Run ffmpeg and watch its output; `limits.output_max_bytes` bounds all files together."""
    encoding: Awaitable[ProcessResult] = run_process(
        making.argv, cwd=work.directory, limits=work.limits, on_stdout_line=making.meter.read, timeout_s=making.timeout_s
    )
    running = asyncio.ensure_future(encoding)
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=TICK_S)
            _bound(making, work)
        result = running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    making.stderr = result.stderr_tail
    if not result.ok:
        raise WorkFailed(failures.classify("encoding", result))


def _bound(making: Making, work: Work) -> None:
    """Raise WorkFailed when the run outgrew its limit or filled the disk: ffmpeg itself would continue and exit with 0."""
    size_bytes = sum(_size(path) for output in making.outputs for path in output.directory.iterdir())
    if size_bytes > work.limits.output_max_bytes:
        raise WorkFailed(failures.outgrown("encoding", size_bytes, work.limits.output_max_bytes))
    if shutil.disk_usage(work.directory).free < DISK_FREE_MIN_BYTES:
        raise WorkFailed(failures.disk_full("encoding"))


async def _check(making: Making, output: Output, work: Work) -> None:
    """Decode a rendition in full. Raises WorkFailed when it does not decode or its number of pictures is wrong."""
    check = making.checks[output.name]
    result = await run_process(
        decode_argv(work.ffmpeg, output.suffix, making.decoder_threads),
        cwd=work.directory,
        limits=work.limits,
        stdin=check.pieces(),
        on_stdout_line=check.meter.read,
        stall_s=2 * making.timeout_s,
        timeout_s=2 * making.timeout_s,
    )
    if result.cut is not None or result.signal is not None:
        raise WorkFailed(failures.classify("encoding", result))
    if not result.ok:
        message = f"{output.name}: the encoded segments do not decode."
        failure = failures.refused("encoding", "DECODE_FAILED", message, result.stderr_tail)
        raise WorkFailed(failures.after(failure, result))
    if making.frames is not None and check.meter.frames != making.frames:
        message = f"{output.name}: {check.meter.frames} pictures instead of {making.frames}."
        failure = failures.refused("encoding", "FRAMES_MISSING", message, making.stderr)
        raise WorkFailed(failures.after(failure, result))


# --- storing --------------------------------------------------------------------------------------------------------


def _files(output: Output) -> list[Path]:
    """Return the finished segments of a rendition, in order."""
    return sorted(output.directory.glob(f"*{output.suffix}"), key=lambda path: int(path.stem))


def _kept(making: Making, files: Sequence[Path]) -> list[Path]:
    """Return those of the finished segments that are to be stored."""
    return [path for path in files if making.kept is None or int(path.stem) in making.kept]


def _size(path: Path) -> int:
    """Return the size of a file; 0 when ffmpeg has just renamed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _send_new(making: Making, work: Work, slots: asyncio.Semaphore) -> None:
    """Start to send and check each complete file; init.mp4 is complete when a segment is."""
    for output in making.outputs:
        init = output.directory / INIT
        if segments := _kept(making, _files(output)):
            for path in [init, *segments] if init.exists() else segments:
                _send(making, work, slots, output, path)


def _send(making: Making, work: Work, slots: asyncio.Semaphore, output: Output, path: Path) -> None:
    async def send() -> ObjectRef:
        async with slots:
            return await work.store.put_file(f"{work.prefix}{output.name}/{path.name}", path, media_type(path.suffix, output.kind))

    if (output.name, path.name) not in making.sent:
        making.sent[output.name, path.name] = asyncio.create_task(send())
        making.checks[output.name].files.put_nowait(path)


def media_type(suffix: str, kind: str) -> str:
    """Return the content type of a file with pictures or sound; MPEG-2 TS has one for both (RFC 3555)."""
    return f"{'video' if suffix == '.ts' else kind}/{TYPES[suffix]}"


# --- reading the output ---------------------------------------------------------------------------------------------


async def collect(making: Making) -> Made:
    """Return the renditions, read from their bytes. Raises WorkFailed when a segment is broken or differs from its stored bytes."""
    renditions, times = [], {}
    for output in making.outputs:
        refs = {file: task.result() for (name, file), task in making.sent.items() if name == output.name}
        try:
            rendition, found = await asyncio.to_thread(_read, making, output, refs)
        except (BadSegment, OSError, ValueError) as error:
            message = f"{output.name}: a segment is broken: {error}."
            raise WorkFailed(failures.refused("encoding", "SEGMENT_BROKEN", message, making.stderr)) from error
        renditions.append(rendition)
        times[output.name] = found
    return Made(tuple(renditions), times)


def _read(making: Making, output: Output, refs: dict[str, ObjectRef]) -> tuple[Rendition, tuple[Fragments, ...] | None]:
    """Read one segment after the other, so that memory does not grow with the length of the video."""
    files = _kept(making, _files(output))
    found: tuple[Fragments, ...] | None = None
    if output.suffix == ".ts":
        pes = [mpegts.packets(_stored(path, refs)) for path in files]
        ticks, codecs = mpegts.TICKS_PER_S, mpegts.codec_string(pes[0]) if pes else ""
        every = zip(_files(output), _durations(output.playlist, ticks), strict=True)
        durations = [duration for path, duration in every if path in files]
        frames = sum(len(one.times) for one in pes)
    else:
        init = _stored(output.directory / INIT, refs)
        ticks, codecs = timescale(init), codec_string(init)
        found = tuple(fragments(_stored(path, refs)) for path in files)
        durations = [fragment.duration for fragment in found]
        frames = sum(fragment.samples for fragment in found)
    segments = [
        Segment(number=int(path.stem), duration=duration, object=refs[path.name])
        for path, duration in zip(files, durations, strict=True)
    ]
    rendition = Rendition(
        name=output.name,
        kind=cast(Literal["video", "audio"], output.kind),
        codecs=codecs,
        timescale=ticks,
        init=refs.get(INIT),
        segments=tuple(segments),
        frames=frames if output.kind == "video" else None,
    )
    return rendition, found


def _stored(path: Path, refs: dict[str, ObjectRef]) -> bytes:
    """Return a file's bytes. Raises BadSegment when other bytes were stored."""
    data = path.read_bytes()
    if path.name not in refs or hashlib.sha256(data).hexdigest() != refs[path.name].sha256:
        raise BadSegment(f"{path.name} was stored before it was complete")
    return data


def _durations(playlist: Path, ticks: int) -> list[int]:
    """Return the durations in ffmpeg's playlist; transport streams carry none.

    Ends are rounded, not lengths, so that the sum does not drift.
    """
    ends = [Fraction(0)]
    for line in playlist.read_text().splitlines():
        if line.startswith("#EXTINF:"):
            ends.append(ends[-1] + Fraction(line.removeprefix("#EXTINF:").split(",")[0]) * ticks)
    return [round(end) - round(start) for start, end in pairwise(ends)]
