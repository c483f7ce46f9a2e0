"""Which waiting job and which waiting worker belong together. Pure."""

import heapq
from datetime import datetime
from typing import TYPE_CHECKING

from events.jobs import Capabilities, Requirements

if TYPE_CHECKING:
    from processors.dispatch import Claim, State


def covers(capabilities: Capabilities, wanted: Requirements) -> bool:
    """Tell whether a worker can do what a job needs."""
    return (
        wanted.kind in capabilities.kinds
        and (wanted.encoder is None or wanted.encoder in capabilities.encoders)
        and (wanted.height is None or wanted.height <= capabilities.height_max)
        and (wanted.vram_bytes is None or wanted.vram_bytes <= capabilities.vram_bytes)
    )


def best_job(state: "State", pool: str, capabilities: Capabilities) -> str | None:
    """Return the ready job of the best rank that the worker can do."""
    best: tuple[datetime, int, str] | None = None
    for (of_pool, wanted), queue in state.ready.items():
        if of_pool == pool and covers(capabilities, wanted):
            head = _head(state, queue)
            if head is not None and (best is None or head < best):
                best = head
    return best[2] if best else None


def best_pair(state: "State", pool: str, now: datetime) -> "tuple[str, Claim] | None":
    """Return the best ready job and the waiting claim that gets it: GPU first, then who has the source, then who came first."""
    heads = [
        (head, wanted)
        for (of_pool, wanted), queue in state.ready.items()
        if of_pool == pool and (head := _head(state, queue)) is not None
    ]
    for (_rank, _number, job_id), wanted in sorted(heads, key=lambda item: item[0]):
        claim = _best_claim(state, pool, wanted, state.jobs[job_id].queued.video_id, now)
        if claim is not None:
            return job_id, claim
    return None


def _best_claim(state: "State", pool: str, wanted: Requirements, video_id: str, now: datetime) -> "Claim | None":
    best: tuple[bool, bool] | None = None
    found = None
    for (of_pool, capabilities), group in state.claims.items():
        if of_pool != pool or not covers(capabilities, wanted):
            continue
        for claim in group.values():
            if claim.request.data.deadline <= now:
                continue
            rank = (not capabilities.gpu, state.last_video.get(claim.request.data.worker_id) != video_id)
            if best is None or rank < best:
                best, found = rank, claim
            if not rank[1]:
                break
    return found


def _head(state: "State", queue: list[tuple[datetime, int, str]]) -> tuple[datetime, int, str] | None:
    """Return the first entry that still waits; drop those before it."""
    while queue:
        job = state.jobs.get(queue[0][2])
        if job is not None and job.status == "queued":
            return queue[0]
        heapq.heappop(queue)
    return None
