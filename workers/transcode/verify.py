"""Reads all output again before a video is published: every object, every time, every length."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pydantic import ValidationError

from events.errors import ObjectMissing
from events.kinds import VerifyResult, VerifySpec
from events.media import Failure, ObjectRef, Plan, Rendition, Segment, VideoPlan
from workers.attempts.failures import refused
from workers.attempts.work import Done, ObjectStore, Progress, Update, Work, WorkFailed
from workers.transcode import mpegts
from workers.transcode.results import MAX_BYTES, ResultDocument
from workers.transcode.segments import BadSegment, Fragments, fragments, planned

PARALLEL = 8
TICK_S = 1.0
WARNINGS_MAX = 200
"""Maximum warnings: a video of a thousand damaged chunks is still published, and its event fits on the log."""
TOLERANCE_MS = 100
"""Maximum distance between the ends of sound and pictures; AAC frames alone last 21 ms."""

Times = Fragments | mpegts.Packets


@dataclass(frozen=True, slots=True)
class Joined:
    """A rendition across all its jobs, in order, with the times read from its segments' own bytes."""

    name: str
    parts: tuple[Rendition, ...]
    times: tuple[Times, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, in order."""
        return tuple(segment for part in self.parts for segment in part.segments)

    @property
    def length_ms(self) -> Fraction:
        """Sum of the durations that the jobs reported."""
        ticks = (Fraction(segment.duration, part.timescale) for part in self.parts for segment in part.segments)
        return 1000 * sum(ticks, Fraction())


async def run(spec: VerifySpec, work: Work) -> AsyncIterator[Update]:
    """Check digests, sizes, numbering, decode times, frame counts and lengths; the result is the published one."""
    documents = [await _document(ref, work.store) for ref in spec.results]
    parts = [rendition for document in documents for rendition in document.renditions if rendition.segments]
    reading = [_Reading(ref, work.store) for ref in _references(documents)]
    queue = asyncio.create_task(_read_all(reading))
    try:
        while not (await asyncio.wait({queue}, timeout=TICK_S))[0]:
            done = sum(one.done for one in reading)
            yield Progress("verify", round(100 * done / len(reading), 1))
        queue.result()
    finally:
        queue.cancel()
        await asyncio.gather(queue, return_exceptions=True)
    times = {one.ref.key: one.times for one in reading if one.times is not None}
    joined = [_join(name, parts, times) for name in dict.fromkeys(part.name for part in parts)]
    if complaint := first_complaint(spec.plan, joined):
        raise WorkFailed(complaint)
    yield Done(
        VerifyResult(
            duration_ms=round(max(rendition.length_ms for rendition in joined)),
            rungs=tuple(rung.name for rung in spec.plan.video.rungs) if spec.plan.video else (),
            thumbnail=next((document.thumbnail for document in documents if document.thumbnail), None),
            warnings=bounded_warnings(warning for document in documents for warning in document.warnings),
        )
    )


def bounded_warnings(warnings: Iterable[str]) -> tuple[str, ...]:
    """Return each warning once, at most the first WARNINGS_MAX, and then the number of others. Pure."""
    once = tuple(dict.fromkeys(warnings))
    if len(once) <= WARNINGS_MAX:
        return once
    return (*once[: WARNINGS_MAX - 1], f"{len(once) - WARNINGS_MAX + 1} more warnings of this kind")


async def _document(ref: ObjectRef, store: ObjectStore) -> ResultDocument:
    try:
        return ResultDocument.model_validate_json(await _whole(ref, store))
    except ValidationError as error:
        raise _failed("RESULT_UNREADABLE", f"{ref.key} cannot be read: {error.error_count()} errors.") from error


def _references(documents: Iterable[ResultDocument]) -> list[ObjectRef]:
    """Return every object in the jobs' reports, each once."""
    found: list[ObjectRef | None] = []
    for document in documents:
        found += [document.thumbnail, *(subtitle.object for subtitle in document.subtitles)]
        for rendition in document.renditions:
            found += [rendition.init, *(segment.object for segment in rendition.segments)]
    return list({ref.key: ref for ref in found if ref is not None}.values())


@dataclass
class _Reading:
    """One object to read again."""

    ref: ObjectRef
    store: ObjectStore
    done: bool = False
    times: Times | None = None

    async def read(self) -> None:
        data = await _whole(self.ref, self.store)
        try:
            if self.ref.key.endswith(".m4s"):
                self.times = await asyncio.to_thread(fragments, data)
            elif self.ref.key.endswith(".ts"):
                self.times = await asyncio.to_thread(mpegts.packets, data)
        except BadSegment as error:
            raise _failed("SEGMENT_BROKEN", f"{self.ref.key}: {error}.") from error
        self.done = True


async def _read_all(reading: Sequence[_Reading]) -> None:
    """Read all objects, a few at a time to bound memory; the first failure ends the reading."""
    waiting = iter(reading)

    async def work() -> None:
        for one in waiting:
            await one.read()

    workers = [asyncio.create_task(work()) for _ in range(PARALLEL)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _whole(ref: ObjectRef, store: ObjectStore) -> bytes:
    """Return an object's bytes. Raises WorkFailed when they differ from the report."""
    if ref.key.endswith(".json") and ref.size_bytes > MAX_BYTES:
        raise _failed("RESULT_UNREADABLE", f"{ref.key} has {ref.size_bytes} bytes, {MAX_BYTES} are allowed.")
    try:
        data = await store.get_bytes(ref.key, ref.size_bytes + 1)
    except ObjectMissing as error:
        raise _failed("OBJECT_MISSING", f"{ref.key} was reported and is not in the store.") from error
    digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
    if len(data) != ref.size_bytes or digest != ref.sha256:
        raise _failed("OBJECT_ALTERED", f"{ref.key} differs from the file that the worker stored, in size or digest.")
    return data


def _join(name: str, parts: Iterable[Rendition], times: dict[str, Times]) -> Joined:
    mine = sorted((part for part in parts if part.name == name), key=lambda part: part.segments[0].number)
    return Joined(name, tuple(mine), tuple(times[segment.object.key] for part in mine for segment in part.segments))


# --- pure checks ----------------------------------------------------------------------------------------------------


def first_complaint(plan: Plan, joined: Iterable[Joined]) -> Failure | None:
    """Return the first fault of a video's renditions, None when all are correct."""
    renditions = {rendition.name: rendition for rendition in joined}
    video = [rung.name for rung in plan.video.rungs] if plan.video else []
    for name in [*video, *(audio.name for audio in plan.audio)]:
        if name not in renditions:
            return _failure("RENDITION_MISSING", f"{name} was planned and is not there.")
        rendition = renditions[name]
        complaint = _inits_differ(rendition) or _misnumbered(rendition)
        if complaint is None and plan.video is not None and name in video:
            complaint = _pictures_differ(plan.video, rendition)
        elif complaint is None:
            complaint = _sound_differs(plan, rendition)
        if complaint is not None:
            return complaint
    return None


def _inits_differ(rendition: Joined) -> Failure | None:
    first = rendition.parts[0]
    for index, part in enumerate(rendition.parts):
        if (part.init and part.init.sha256) != (first.init and first.init.sha256) or part.codecs != first.codecs:
            message = f"{rendition.name}: chunk {index} was made by another encoder build: its initialisation segment differs."
            return _failure("INIT_MISMATCH", message)
        if part.timescale != first.timescale:
            return _failure("INIT_MISMATCH", f"{rendition.name}: chunk {index} counts {part.timescale} ticks a second.")
    return None


def _misnumbered(rendition: Joined) -> Failure | None:
    numbers = [segment.number for segment in rendition.segments]
    if numbers != list(range(len(numbers))):
        return _failure("SEGMENTS_MISSING", f"{rendition.name}: segments are missing, repeated or out of order.")
    return None


def _pictures_differ(plan: VideoPlan, rendition: Joined) -> Failure | None:
    """Compare every segment with the plan, to the tick; a transport stream's 90 kHz clock rounds."""
    wanted = planned(plan, plan.chunks)
    if len(wanted) != len(rendition.segments):
        message = f"{rendition.name}: {len(rendition.segments)} segments instead of {len(wanted)}."
        return _failure("SEGMENTS_MISSING", message)
    scale = Fraction(rendition.parts[0].timescale, plan.timescale)
    origin = _origin(rendition)
    for expected, segment, found in zip(wanted, rendition.segments, rendition.times, strict=True):
        which = f"{rendition.name}: segment {segment.number}"
        if abs(segment.duration - expected.duration * scale) >= (1 if scale == 1 else 2):
            return _failure("DURATION_DIFFERS", f"{which} lasts {segment.duration} ticks instead of {expected.duration * scale}.")
        samples = found.samples if isinstance(found, Fragments) else len(found.times)
        if samples != expected.samples:
            return _failure("FRAMES_MISSING", f"{which} has {samples} pictures instead of {expected.samples}.")
        begins = found.decode_time if isinstance(found, Fragments) else (min_time(found) - origin) % mpegts.CLOCK
        if abs(begins - expected.decode_time * scale % mpegts.CLOCK) >= (1 if scale == 1 else 2):
            message = f"{which} begins at {begins} ticks instead of {float(expected.decode_time * scale):.0f}."
            return _failure("TIME_GAP", message)
    return None


def min_time(found: mpegts.Packets) -> int:
    """Return the time of the first picture in order of showing, not of decoding; the clock may wrap around in between."""
    first = found.times[0]
    half = mpegts.CLOCK // 2
    return first + min((time - first + half) % mpegts.CLOCK - half for time in found.times)


def _origin(rendition: Joined) -> int:
    """Return the transport stream's time for the video's time 0: ffmpeg leaves room for the decoder's buffer before it."""
    first = rendition.times[0]
    return 0 if isinstance(first, Fragments) else min_time(first)


def _sound_differs(plan: Plan, rendition: Joined) -> Failure | None:
    """Check that sound has no gap and is as long as the video, so that it cannot have drifted from the pictures."""
    expected = 0
    part = rendition.parts[0]
    origin = _origin(rendition)
    for segment, found in zip(rendition.segments, rendition.times, strict=True):
        begins = found.decode_time if isinstance(found, Fragments) else (found.times[0] - origin) % mpegts.CLOCK
        slack = 0 if isinstance(found, Fragments) else mpegts.TICKS_PER_S // 100
        if abs(begins - expected % mpegts.CLOCK) > slack:
            message = f"{rendition.name}: segment {segment.number} begins at {begins} ticks instead of {expected}."
            return _failure("TIME_GAP", message)
        if isinstance(found, Fragments) and found.duration != segment.duration:
            message = f"{rendition.name}: segment {segment.number} lasts {found.duration} ticks instead of {segment.duration}."
            return _failure("DURATION_DIFFERS", message)
        expected += segment.duration
    length_ms = Fraction(1000 * expected, part.timescale)
    if abs(length_ms - plan.duration_ms) > TOLERANCE_MS:
        message = f"{rendition.name} lasts {float(length_ms):.0f} ms instead of {plan.duration_ms} ms."
        return _failure("AUDIO_DRIFT", message)
    return None


def _failure(code: str, message: str) -> Failure:
    """Return a failure of the verification. Another attempt reads the same bytes; only the store's bytes can differ."""
    return refused("post_processing", code, message, retryable=code in ("OBJECT_MISSING", "OBJECT_ALTERED"))


def _failed(code: str, message: str) -> WorkFailed:
    return WorkFailed(_failure(code, message))
