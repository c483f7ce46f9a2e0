"""Encodes one sound track into its renditions, whole: sound is quick, and cutting it costs gaps."""

from collections.abc import AsyncIterator
from math import ceil

from events.jobs import AudioSpec, MediaResult
from workers.transcode.argv import audio_argv
from workers.transcode.renditions import Making, collect, decode, make
from workers.transcode.results import ResultDocument
from workers.transcode.timeouts import timeout_s
from workers.work import Done, Update, Work


async def run(spec: AudioSpec, work: Work) -> AsyncIterator[Update]:
    """Encode, store and decode the track."""
    source, _digest = await work.sources.fetch(spec.source)
    argv, outputs = audio_argv(work.ffmpeg, spec, source, work.directory)
    making = Making(
        argv,
        outputs,
        expected=ceil(spec.duration_ms / spec.segment_ms),
        done=lambda meter: meter.seconds * 1000 / spec.duration_ms,
        timeout_s=timeout_s(spec.duration_ms),
        step="audio",
    )
    async for progress in make(making, work):
        yield progress
    await decode(making, work, frames=None)
    renditions = await collect(making, work)
    document = ResultDocument(renditions=renditions).model_dump_json(exclude_none=True).encode()
    result = await work.store.put_bytes(f"{work.prefix}/result.json", document, "application/json")
    yield Done(MediaResult(renditions=renditions, result=result, encoder="aac"))
