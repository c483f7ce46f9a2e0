"""Runs one ffmpeg that makes renditions, and stores their segments while it goes on. The only effects of encoding.

A segment is sent as soon as it is complete (ffmpeg gives it its final name then), so that the store is the bottleneck
of nothing; when ffmpeg has ended, every rendition is decoded in full once before anything is reported.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from events.media import ObjectRef, Rendition, Segment
from events.progress import RungProgress
from workers.failures import classify
from workers.transcode.argv import Output, decode_argv
from workers.transcode.process import run_process
from workers.transcode.segments import BadSegment, codec_string, fragments, timescale
from workers.work import Progress, Work, WorkFailed

POLL_S = 0.25
TICK_S = 1.0
UPLOADS_MAX = 6
TS_TIMESCALE = 90_000
TYPES = {".mp4": "video/mp4", ".m4s": "video/iso.segment", ".ts": "video/mp2t"}


@dataclass
class Meter:
    """What ffmpeg's `-progress` lines said last: frames and seconds of output, and its speed."""

    frames: int = 0
    seconds: float = 0.0
    speed: float | None = None

    def read(self, line: str) -> bool:
        """Take one line; tell whether it was a step forward."""
        name, _, value = line.partition("=")
        match name:
            case "frame" if value.isdigit():
                moved = int(value) > self.frames
                self.frames = int(value)
                return moved
            case "out_time_us" if value.lstrip("-").isdigit():
                moved = int(value) / 1e6 > self.seconds
                self.seconds = max(self.seconds, int(value) / 1e6)
                return moved
            case "speed":
                with contextlib.suppress(ValueError):
                    self.speed = float(value.strip().rstrip("x"))
        return False


@dataclass
class Making:
    """One run: what it makes, how much of it is there. `expected` segments per rendition; `done(meter)` is 0..1."""

    argv: list[str]
    outputs: Sequence[Output]
    expected: int
    done: Callable[[Meter], float]
    timeout_s: float
    step: str
    meter: Meter = field(default_factory=Meter)
    sent: dict[tuple[str, str], "asyncio.Task[ObjectRef]"] = field(default_factory=dict)


async def make(making: Making, work: Work) -> AsyncIterator[Progress]:
    """Run ffmpeg and send what it makes; yields progress once a second. Raises WorkFailed, classified."""
    for output in making.outputs:
        output.directory.mkdir(parents=True)
    slots = asyncio.Semaphore(UPLOADS_MAX)
    running = asyncio.create_task(
        run_process(
            making.argv,
            cwd=work.directory,
            limits=work.limits,
            on_stdout_line=making.meter.read,
            timeout_s=making.timeout_s,
        )
    )
    loop = asyncio.get_running_loop()
    told = loop.time()
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=POLL_S)
            _send_new(making, work, slots)
            if loop.time() - told >= TICK_S:
                told = loop.time()
                yield _progress(making)
        result = running.result()
        if not result.ok:
            raise WorkFailed(classify("encoding", result))
        _send_new(making, work, slots)
        yield _progress(making)
        await asyncio.gather(*making.sent.values())
    finally:
        for task in (running, *making.sent.values()):
            task.cancel()
        await asyncio.gather(running, *making.sent.values(), return_exceptions=True)


def _send_new(making: Making, work: Work, slots: asyncio.Semaphore) -> None:
    """Begin to send the files that are complete and not on their way."""
    for output in making.outputs:
        for path in sorted(output.directory.glob(f"*{output.suffix}")):
            _send(making, work, slots, output, path)
        init = output.directory / "init.mp4"
        if (output.name, init.name) not in making.sent and any(name == output.name for name, _ in making.sent) and init.exists():
            _send(making, work, slots, output, init)


def _send(making: Making, work: Work, slots: asyncio.Semaphore, output: Output, path: Path) -> None:
    async def send() -> ObjectRef:
        async with slots:
            key = f"{work.prefix}/{output.name}/{path.name}"
            content_type = TYPES[path.suffix].replace("video", output.kind) if path.suffix == ".mp4" else TYPES[path.suffix]
            return await work.store.put_file(key, path, content_type)

    if (output.name, path.name) not in making.sent:
        making.sent[output.name, path.name] = asyncio.create_task(send())


def _progress(making: Making) -> Progress:
    percent = round(min(100.0, 100 * making.done(making.meter)), 1)
    rungs = []
    for output in making.outputs:
        completed = sum(name == output.name and file != "init.mp4" for name, file in making.sent)
        rungs.append(RungProgress(name=output.name, percent=percent, segments_completed=completed, segments_total=making.expected))
    return Progress(making.step, percent, making.meter.frames or None, making.meter.speed, tuple(rungs))


async def collect(making: Making, work: Work) -> tuple[Rendition, ...]:
    """Return the renditions that were made, read from their own bytes. Raises WorkFailed when they are not whole."""
    return tuple([await asyncio.to_thread(_collect_one, making, output) for output in making.outputs])


def _collect_one(making: Making, output: Output) -> Rendition:
    files = sorted(output.directory.glob(f"*{output.suffix}"))
    refs = {file: task.result() for (name, file), task in making.sent.items() if name == output.name}
    try:
        if output.suffix == ".ts":
            ticks, codecs, frames = TS_TIMESCALE, _ts_codecs(output), None
            durations = [round(seconds * ticks) for seconds in _playlist_durations(output.directory / "index.m3u8")]
        else:
            init = (output.directory / "init.mp4").read_bytes()
            ticks, codecs = timescale(init), codec_string(init)
            found = [fragments(path.read_bytes()) for path in files]
            durations, frames = [fragment.duration for fragment in found], sum(fragment.samples for fragment in found)
    except (BadSegment, OSError, IndexError) as error:
        raise WorkFailed(
            classify("encoding", None, code="SEGMENT_BROKEN", message=f"{output.name}: a segment is broken: {error}.")
        ) from error
    segments = tuple(
        Segment(number=int(path.stem), duration=duration, object=refs[path.name])
        for path, duration in zip(files, durations, strict=True)
    )
    return Rendition(
        name=output.name,
        kind=cast(Literal["video", "audio"], output.kind),
        codecs=codecs,
        timescale=ticks,
        init=refs.get("init.mp4"),
        segments=segments,
        frames=frames if output.kind == "video" else None,
    )


def _ts_codecs(output: Output) -> str:
    return "avc1.640028" if output.kind == "video" else "mp4a.40.2"


def _playlist_durations(playlist: Path) -> list[float]:
    lines = playlist.read_text().splitlines()
    return [float(line.removeprefix("#EXTINF:").split(",")[0]) for line in lines if line.startswith("#EXTINF:")]


async def decode(making: Making, work: Work, *, frames: int | None) -> None:
    """Decode every rendition in full. Raises WorkFailed when one does not decode, or has another number of frames."""
    for output in making.outputs:
        meter = Meter()
        argv = decode_argv(work.ffmpeg, output.directory / "index.m3u8")
        result = await run_process(
            argv, cwd=work.directory, limits=work.limits, on_stdout_line=meter.read, timeout_s=making.timeout_s
        )
        if not result.ok:
            code, message = "DECODE_FAILED", f"{output.name}: what was encoded does not decode."
            raise WorkFailed(classify("encoding", result, code=code, message=message))
        if frames is not None and meter.frames != frames:
            code, message = "FRAMES_MISSING", f"{output.name}: {meter.frames} frames instead of {frames}."
            raise WorkFailed(classify("encoding", result, code=code, message=message))
