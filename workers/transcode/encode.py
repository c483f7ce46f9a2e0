"""Encodes one chunk into every rung."""

from collections.abc import AsyncIterator
from fractions import Fraction

from events.jobs import EncodeSpec, MediaResult
from workers.transcode.argv import encode_argv
from workers.transcode.renditions import Making, collect, decode, make
from workers.transcode.results import ResultDocument
from workers.transcode.timeouts import timeout_s
from workers.work import Done, Progress, Update, Work

ENCODING_SHARE = 0.9
"""Share of the time that encoding takes; the rest is decoding what was made."""


async def run(spec: EncodeSpec, work: Work) -> AsyncIterator[Update]:
    """Encode, store and decode the chunk; the result names every segment of every rung."""
    source, _digest = await work.sources.fetch(spec.source)
    argv, outputs = encode_argv(work.ffmpeg, spec, source, work.directory, work.limits.threads)
    frames = spec.chunk.frames
    duration_ms = int(1000 * frames / Fraction(spec.plan.frame_rate))
    making = Making(
        argv,
        outputs,
        expected=spec.chunk.segments,
        done=lambda meter: ENCODING_SHARE * meter.frames / frames,
        timeout_s=timeout_s(duration_ms, (min(rung.width, rung.height) for rung in spec.plan.rungs)),
        step="encode",
    )
    async for progress in make(making, work):
        yield progress
    yield Progress("check", 100 * ENCODING_SHARE, frames)
    await decode(making, work, frames=frames)
    renditions = await collect(making, work)
    document = ResultDocument(renditions=renditions).model_dump_json(exclude_none=True).encode()
    result = await work.store.put_bytes(f"{work.prefix}/result.json", document, "application/json")
    yield Done(MediaResult(renditions=renditions, result=result, encoder=spec.plan.encoder))
