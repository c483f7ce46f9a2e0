"""Reads everything again before a video is published: every object, every time, every length."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from events.jobs import VerifyResult, VerifySpec
from events.media import Failure, ObjectRef, Plan, Rendition
from workers.transcode.results import MAX_BYTES, ResultDocument
from workers.transcode.segments import BadSegment, Fragments, fragments
from workers.work import Done, ObjectStore, Progress, Update, Work, WorkFailed

SEGMENT_MAX_BYTES = 512 * 2**20
PARALLEL = 8
TOLERANCE_MS = 100
"""Sound may end this much before or after the pictures; AAC frames alone last 21 ms."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A rendition over all its jobs, in order, with what its segments' own bytes say (None for TS)."""

    name: str
    parts: tuple[Rendition, ...]
    times: tuple[Fragments | None, ...]


async def run(spec: VerifySpec, work: Work) -> AsyncIterator[Update]:
    """Check digests, sizes, numbering, decode times, frame counts and lengths; the result is what is published."""
    documents = [await _document(ref, work.store) for ref in spec.results]
    parts = [rendition for document in documents for rendition in document.renditions]
    total = sum(len(part.segments) for part in parts) or 1
    done = 0
    joined = []
    for name in dict.fromkeys(part.name for part in parts):
        mine = sorted((part for part in parts if part.name == name), key=lambda part: part.segments[0].number)
        times = await _read_again(mine, work.store)
        joined.append(Joined(name, tuple(mine), times))
        done += len(times)
        yield Progress("verify", round(100 * done / total, 1))
    for document in documents:
        for ref in (document.thumbnail, *(subtitle.object for subtitle in document.subtitles)):
            if ref is not None:
                await _whole(ref, work.store)
    if complaint := first_complaint(spec.plan, joined):
        raise WorkFailed(complaint)
    rungs = tuple(rung.name for rung in spec.plan.video.rungs) if spec.plan.video else ()
    thumbnail = next((document.thumbnail for document in documents if document.thumbnail), None)
    yield Done(VerifyResult(duration_ms=_duration_ms(spec.plan, joined), rungs=rungs, thumbnail=thumbnail))


async def _document(ref: ObjectRef, store: ObjectStore) -> ResultDocument:
    return ResultDocument.model_validate_json(await _whole(ref, store))


async def _whole(ref: ObjectRef, store: ObjectStore) -> bytes:
    """Return an object's bytes. Raises WorkFailed when they are not those that were reported."""
    data = await store.get_bytes(ref.key, max(ref.size_bytes, MAX_BYTES if ref.key.endswith(".json") else 0) + 1)
    digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
    if digest != ref.sha256:
        raise WorkFailed(_failure("OBJECT_ALTERED", f"{ref.key} is not what the worker stored: its digest differs."))
    return data


async def _read_again(parts: Sequence[Rendition], store: ObjectStore) -> tuple[Fragments | None, ...]:
    slots = asyncio.Semaphore(PARALLEL)

    async def read(ref: ObjectRef) -> Fragments | None:
        async with slots:
            data = await _whole(ref, store)
            if ref.key.endswith(".ts"):
                return None
            try:
                return await asyncio.to_thread(fragments, data)
            except BadSegment as error:
                raise WorkFailed(_failure("SEGMENT_BROKEN", f"{ref.key}: {error}.")) from error

    for init in {part.init for part in parts if part.init is not None}:
        await _whole(init, store)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read(segment.object)) for part in parts for segment in part.segments]
    return tuple(task.result() for task in tasks)


# --- pure checks ----------------------------------------------------------------------------------------------------


def first_complaint(plan: Plan, joined: Iterable[Joined]) -> Failure | None:
    """Return the first thing that is wrong with the renditions of a video, None when all is right."""
    renditions = {rendition.name: rendition for rendition in joined}
    video = [rung.name for rung in plan.video.rungs] if plan.video else []
    for name in [*video, *(audio.name for audio in plan.audio)]:
        if name not in renditions:
            return _failure("RENDITION_MISSING", f"{name} was planned and is not there.")
        rendition = renditions[name]
        if complaint := _inits_differ(rendition) or _gap(rendition) or _wrong_length(plan, rendition, is_video=name in video):
            return complaint
    return None


def _inits_differ(rendition: Joined) -> Failure | None:
    digests = [part.init.sha256 for part in rendition.parts if part.init is not None]
    for index, digest in enumerate(digests):
        if digest != digests[0]:
            message = f"{rendition.name}: chunk {index} was made by another encoder build: its initialisation segment differs."
            return _failure("INIT_MISMATCH", message)
    return None


def _gap(rendition: Joined) -> Failure | None:
    """Check that segments are numbered from 0 without a gap, and begin where the one before ends."""
    numbers = [segment.number for part in rendition.parts for segment in part.segments]
    if numbers != list(range(len(numbers))):
        return _failure("SEGMENTS_MISSING", f"{rendition.name}: segments are missing, repeated or out of order.")
    expected = None
    for number, times in zip(numbers, rendition.times, strict=True):
        if times is None:
            continue
        if expected is not None and times.decode_time != expected:
            return _failure(
                "TIME_GAP", f"{rendition.name}: segment {number} begins at {times.decode_time} ticks instead of {expected}."
            )
        expected = times.decode_time + times.duration
    return None


def _wrong_length(plan: Plan, rendition: Joined, *, is_video: bool) -> Failure | None:
    if is_video and plan.video is not None:
        frames = sum(chunk.frames for chunk in plan.video.chunks)
        counted = [times.samples for times in rendition.times if times is not None]
        if counted and sum(counted) != frames:
            return _failure("FRAMES_MISSING", f"{rendition.name}: {sum(counted)} frames instead of {frames}.")
        wanted_ms = 1000 * frames / Fraction(plan.video.frame_rate)
    else:
        wanted_ms = Fraction(plan.duration_ms)
    length = _length_ms(rendition)
    if abs(length - wanted_ms) > TOLERANCE_MS:
        message = f"{rendition.name} lasts {float(length) / 1000:.3f} s instead of {float(wanted_ms) / 1000:.3f} s."
        return _failure("DURATION_DIFFERS", message)
    return None


def _length_ms(rendition: Joined) -> Fraction:
    return sum(
        (Fraction(1000 * segment.duration, part.timescale) for part in rendition.parts for segment in part.segments), Fraction()
    )


def _duration_ms(plan: Plan, joined: Sequence[Joined]) -> int:
    return round(max((_length_ms(rendition) for rendition in joined), default=Fraction(plan.duration_ms)))


def _failure(code: str, message: str) -> Failure:
    return Failure(stage="post_processing", category="validation", code=code, message=message)
