"""Interface of a kind of work: `async def run(spec, work) -> AsyncIterator[Update]`.

A run yields `Progress` at most once a second and ends with one `Done`; it raises `WorkFailed` with a classified
failure. It writes objects only under `work.prefix`, files only under `work.directory`, and reports no object before the
object is in the store. It may be cancelled at any await (the lease was lost, the worker stops); it must then kill its child
processes and wait for them.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from events.clock import Clock
from events.errors import KinologError
from events.kinds import JobResult, Source
from events.media import Failure, ObjectRef
from events.progress import RungProgress

NICENESS, LATER = 10, 19
"""On a machine that does more than encode, interactive programs go first; work that nobody waits for yet comes last."""


class WorkFailed(KinologError):
    """The attempt failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run: `percent` 0..100, `speed` in seconds of source per second."""

    step: str
    percent: float
    frames: int | None = None
    speed: float | None = None
    rungs: tuple[RungProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The run completed its job."""

    result: JobResult


Update = Progress | Done


class ObjectStore(Protocol):
    """The part of the object store that work needs; `infra.runtime.objects.ObjectStore` implements it.

    Every method raises StoreUnavailable after bounded retries, ObjectMissing for a key that is not in the store.
    """

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectRef: ...

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> ObjectRef: ...

    async def get_bytes(self, key: str, max_bytes: int) -> bytes: ...

    async def get_file(self, key: str, path: Path, etag: str | None = None) -> str:
        """Download to `path`; return the SHA-256 of the received bytes, lower-case hex. Raises ObjectChanged for another ETag."""
        ...


class SourceCache(Protocol):
    """Keeps sources on the worker's disk within a bound; the least recently used goes first."""

    async def fetch(self, source: Source) -> tuple[Path, str]:
        """Return the local path and SHA-256 of the source; raises WorkFailed when its digest is not the declared one."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one child process. `threads` 0 lets ffmpeg choose; `niceness` as `nice` takes it."""

    threads: int = 0
    niceness: int = NICENESS
    memory_max_bytes: int = 8 * 2**30
    output_max_bytes: int = 20 * 2**30
    stall_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt at one job. `prefix` is `events.objects.attempt_prefix`; `directory` starts empty and is removed afterwards."""

    prefix: str
    directory: Path
    store: ObjectStore
    sources: SourceCache
    clock: Clock
    ffmpeg: str
    ffprobe: str
    limits: Limits

    def __post_init__(self) -> None:
        """Check the prefix: without its final slash, objects would land outside the fence."""
        assert self.prefix.endswith("/"), self.prefix


class Runner(Protocol):
    """A kind of work. One line per kind in `workers.kinds`."""

    def __call__(self, spec: object, work: Work) -> AsyncGenerator[Update, None]: ...
