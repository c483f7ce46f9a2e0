"""Opens history: the archive in the object store, then the newer part of the log."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import TypeAdapter

from events.errors import ObjectMissing
from infra.runtime import memory
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.history.archive import MANIFEST, Segment
from projections.history.source import ArchiveDamaged, History

MANIFEST_BYTES_MAX = 1 << 30
_SEGMENTS = TypeAdapter(list[Segment])


async def archived(store: ObjectStore) -> Sequence[Segment]:
    """Return the files of the archive, from its manifest in the store; none without a manifest."""
    try:
        manifest = await store.get_bytes(MANIFEST, MANIFEST_BYTES_MAX)
    except ObjectMissing:
        return []
    found = _SEGMENTS.validate_json(manifest)
    return sorted(found, key=lambda segment: (segment.topic, segment.partition, segment.first))


async def fetch(store: ObjectStore, segment: Segment) -> bytes:
    """Return a file. Raises ArchiveDamaged when it is missing or another than was archived."""
    try:
        file = await store.get_bytes(segment.key, segment.size_bytes + 1)
    except ObjectMissing as error:
        raise ArchiveDamaged(f"{segment.key} is missing") from error
    if hashlib.sha256(file).hexdigest() != segment.sha256:
        raise ArchiveDamaged(f"{segment.key} is not the file that was archived: its SHA-256 differs")
    return file


@asynccontextmanager
async def open_history(settings: Settings) -> AsyncIterator[History]:
    """Yield a source of all of history."""
    memory.collect_rarely()
    store = ObjectStore(settings)
    log = LogConsumer(settings, idle_ms=50)
    try:
        yield History(log, await archived(store), lambda segment: fetch(store, segment))
    finally:
        await log.close()
