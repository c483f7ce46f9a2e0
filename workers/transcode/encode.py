"""Encodes one chunk into every rung."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import structlog

from events.kinds import EncodeSpec, MediaResult
from events.media import Failure, Rendition, in_software, is_hardware
from workers.attempts.failures import damage, refused
from workers.attempts.work import Done, Update, Work, WorkFailed
from workers.transcode.argv import encode_argv
from workers.transcode.detect import limits_for
from workers.transcode.renditions import Made, Making, collect, make
from workers.transcode.results import ResultDocument, store_result
from workers.transcode.segments import planned
from workers.transcode.timeouts import timeout_s

ENCODING_SHARE = 0.85
"""Share of encoding in the work; the rest is decoding the output (measured with x264 veryfast)."""
log = structlog.get_logger(__name__)


async def run(spec: EncodeSpec, work: Work) -> AsyncIterator[Update]:
    """Encode, store and decode the chunk; the result names every segment of every rung.

    When hardware fails and the chunk is the whole video, software encodes it, and the result's `fallback` gives the reason.
    Any other chunk must not change its encoder: chunks of two encoders would not join. Other workers with that hardware
    try it; when they fail as well, the planner has the whole video made in software (`processors.planning.process`).
    """
    source, _digest = await work.sources.fetch(spec.source)
    try:
        async with aclosing(_encode(spec, source, work)) as updates:
            async for update in updates:
                yield update
    except WorkFailed as error:
        if not is_hardware(spec.plan.encoder) or len(spec.plan.chunks) > 1:
            raise
        fallback = f"{spec.plan.encoder}: {error.failure.code}: {error.failure.message}"
    else:
        return
    log.warning("hardware_failed", reason=fallback)
    directory = work.directory / "software"
    directory.mkdir()
    software = spec.model_copy(update={"plan": in_software(spec.plan, fallback)})
    async with aclosing(_encode(software, source, replace(work, directory=directory))) as updates:
        async for update in updates:
            yield update


async def _encode(spec: EncodeSpec, source: Path, work: Work) -> AsyncGenerator[Update, None]:
    argv, outputs = encode_argv(work.ffmpeg, spec, source, work.directory, work.limits.threads)
    frames = spec.chunk.frames
    duration_ms = int(1000 * frames / Fraction(spec.plan.frame_rate))
    making = Making(
        argv,
        outputs,
        segments=spec.chunk.segments,
        total=frames,
        frames=frames,
        timeout_s=timeout_s(duration_ms, (min(rung.width, rung.height) for rung in spec.plan.rungs)),
        step="encode",
        encoding_share=ENCODING_SHARE,
        decoder_threads=work.limits.threads if is_hardware(spec.plan.encoder) else 1,
    )
    async with aclosing(make(making, replace(work, limits=limits_for(spec.plan.encoder, work.limits)))) as updates:
        async for progress in updates:
            yield progress
    made = await collect(making)
    if complaint := misplaced(spec, made):
        raise WorkFailed(complaint)
    renditions = tuple(_exact(spec, rendition) for rendition in made.renditions)
    warnings = _warnings(spec, damage(making.stderr, spec.plan.track))
    result = await store_result(ResultDocument(renditions=renditions, warnings=warnings), work)
    encoder, fallback = spec.plan.encoder, spec.plan.fallback
    yield Done(MediaResult(renditions=renditions, result=result, encoder=encoder, fallback=fallback, warnings=warnings))


def misplaced(spec: EncodeSpec, made: Made) -> Failure | None:
    """Return a failure unless every segment holds the planned pictures at the planned times; else None. Pure."""
    again = is_hardware(spec.plan.encoder)  # software gives the same output everywhere
    wanted = planned(spec.plan, [spec.chunk])
    numbers = list(range(spec.chunk.first_segment, spec.chunk.first_segment + spec.chunk.segments))
    for rendition in made.renditions:
        times = made.times[rendition.name]
        if [segment.number for segment in rendition.segments] != numbers:
            message = f"{rendition.name}: {len(rendition.segments)} segments instead of {len(numbers)}."
            return refused("encoding", "SEGMENTS_MISSING", message, retryable=again)
        for number, found, expected in zip(numbers, times or wanted, wanted, strict=True):
            if found != expected:
                message = f"{rendition.name}: segment {number} has {found}, the plan {expected}."
                return refused("encoding", "SEGMENT_MISPLACED", message, retryable=again)
        if rendition.frames != spec.chunk.frames:
            message = f"{rendition.name}: {rendition.frames} pictures instead of {spec.chunk.frames}."
            return refused("encoding", "FRAMES_MISSING", message, retryable=again)
    return None


def _exact(spec: EncodeSpec, rendition: Rendition) -> Rendition:
    """Return the rendition with the plan's durations: the playlist of transport streams has rounded ones, whose errors add up."""
    scale = Fraction(rendition.timescale, spec.plan.timescale)
    segments = tuple(
        segment.model_copy(
            update={"duration": round((wanted.decode_time + wanted.duration) * scale) - round(wanted.decode_time * scale)}
        )
        for segment, wanted in zip(rendition.segments, planned(spec.plan, [spec.chunk]), strict=True)
    )
    return rendition.model_copy(update={"segments": segments})


def _warnings(spec: EncodeSpec, damaged: int) -> tuple[str, ...]:
    """Return warnings for a person: undecodable pictures were replaced by the previous picture."""
    if not damaged:
        return ()
    first_s = spec.chunk.start_frame / Fraction(spec.plan.frame_rate)
    last_s = first_s + spec.chunk.frames / Fraction(spec.plan.frame_rate)
    between = f"between {float(first_s):.0f} s and {float(last_s):.0f} s"
    return (f"damaged pictures: {damaged}, {between}; where one is missing, the one before stands",)
