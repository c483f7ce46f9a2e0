"""Encodes one sound track into its renditions: whole, or a piece of a long one.

Encoders of sound keep state, so pieces that are encoded separately do not join. Sound is quick to encode: each piece is
encoded from the beginning of the track, and only its own segments are kept.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from math import ceil
from pathlib import Path

import structlog

from events.kinds import AudioSpec, MediaResult
from events.media import Failure
from workers.attempts.failures import damage, refused
from workers.attempts.work import LATER, Done, Update, Work, WorkFailed
from workers.transcode.argv import audio_argv
from workers.transcode.renditions import Made, Making, collect, make
from workers.transcode.results import ResultDocument, store_result
from workers.transcode.timeouts import timeout_s

ENCODING_SHARE = 0.8
log = structlog.get_logger(__name__)
TOLERANCE_MS = 100
"""Largest difference from the planned length: an AAC frame lasts 21 ms, and the encoder fills the last."""


async def run(spec: AudioSpec, work: Work) -> AsyncIterator[Update]:
    """Encode, store and decode the track; an optional track that cannot be decoded becomes silence."""
    source, _digest = await work.sources.fetch(spec.source)
    if spec.first_segment:  # the pictures of its time come later
        work = replace(work, limits=replace(work.limits, niceness=LATER))
    try:
        async with aclosing(_encode(spec, source, work, silent=False)) as updates:
            async for update in updates:
                yield update
    except WorkFailed as error:
        if not spec.optional or error.failure.retryable or error.failure.stage != "encoding":
            raise
        reason = error.failure
    else:
        return
    log.warning("sound_left_out", track=spec.renditions[0].track, code=reason.code, reason=reason.message)
    directory = work.directory / "silence"
    directory.mkdir()
    async with aclosing(_encode(spec, source, replace(work, directory=directory), silent=True)) as updates:
        async for update in updates:
            yield update


async def _encode(spec: AudioSpec, source: Path, work: Work, *, silent: bool) -> AsyncGenerator[Update, None]:
    argv, outputs = audio_argv(work.ffmpeg, spec, source, work.directory, silent=silent)
    making = Making(
        argv,
        outputs,
        segments=len(kept := _kept(spec)),
        total=spec.end_ms / 1000,
        frames=None,
        timeout_s=timeout_s(spec.end_ms),
        step="audio",
        encoding_share=ENCODING_SHARE,
        kept=kept,
    )
    async with aclosing(make(making, work)) as updates:
        async for progress in updates:
            yield progress
    made = await collect(making)
    if complaint := misplaced(spec, made):
        raise WorkFailed(complaint)
    track = spec.renditions[0].track
    damaged = damage(making.stderr, track) if spec.end_segment is None else 0  # only the last piece reads all
    warnings = (f"damaged pieces of sound: {damaged}, in track {track}",) if damaged else ()
    if silent:
        warnings = (f"sound track {track} cannot be decoded; it is silent",)
    result = await store_result(ResultDocument(renditions=made.renditions, warnings=warnings), work)
    yield Done(MediaResult(renditions=made.renditions, result=result, encoder="aac", warnings=warnings))


def _kept(spec: AudioSpec) -> range:
    """Return the numbers of the piece's segments; the last piece may have one more or less than the duration implies."""
    if spec.end_segment is not None:
        return range(spec.first_segment, spec.end_segment)
    return range(spec.first_segment, ceil(spec.duration_ms / spec.segment_ms) + 1)


def misplaced(spec: AudioSpec, made: Made) -> Failure | None:
    """Return a failure when the sound starts at a wrong time, has a gap, or ends too early or late; else None. Pure."""
    begins_ms = spec.first_segment * spec.segment_ms
    for rendition in made.renditions:
        times = made.times[rendition.name] or ()
        expected = times[0].decode_time if times and spec.first_segment else 0
        if times and abs(1000 * expected / rendition.timescale - begins_ms) > TOLERANCE_MS:
            message = f"{rendition.name} begins at {expected} ticks instead of {begins_ms} ms."
            return refused("encoding", "SEGMENT_MISPLACED", message, retryable=False)
        for number, found in enumerate(times, spec.first_segment):
            if found.decode_time != expected:
                message = f"{rendition.name}: segment {number} begins at {found.decode_time} ticks instead of {expected}."
                return refused("encoding", "SEGMENT_MISPLACED", message, retryable=False)
            expected += found.duration
        length_ms = 1000 * sum(segment.duration for segment in rendition.segments) / rendition.timescale
        if abs(length_ms - (spec.end_ms - begins_ms)) > TOLERANCE_MS:
            message = f"{rendition.name} lasts {length_ms:.0f} ms instead of {spec.end_ms - begins_ms} ms."
            return refused("encoding", "DURATION_DIFFERS", message, retryable=False)
    return None
