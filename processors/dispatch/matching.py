"""Matching of ready jobs and waiting claims. Pure.

GPU workers go first: a job that one of them can do is kept from others while one is idle. A GPU worker without a waiting claim
(it may be on its way) counts as idle if it was last seen within `Policy.gpu_patience`.
"""

import heapq
from datetime import datetime
from typing import Literal

from events.jobs import ClaimRequested
from events.kinds import Capabilities, Requirements
from processors.dispatch.state import Claim, State, bar

Why = Literal["best_job", "first_waiting", "same_video", "gpu_first"]


def covers(capabilities: Capabilities, wanted: Requirements) -> bool:
    """Return whether a worker can do what a job needs."""
    return (
        wanted.kind in capabilities.kinds
        and (wanted.encoder is None or wanted.encoder in capabilities.encoders)
        and (wanted.height is None or wanted.height <= capabilities.height_max)
        and (wanted.vram_bytes is None or wanted.vram_bytes <= capabilities.vram_bytes)
    )


def best_job(state: State, claim: ClaimRequested, now: datetime) -> str | None:
    """Return the ready job of the best rank that the worker can do."""
    best: tuple[datetime, int, str] | None = None
    for (pool, wanted), queue in state.ready.items():
        if pool == claim.pool and covers(claim.capabilities, wanted) and claim.worker_id != wanted.not_worker:
            head = _head(state, queue)
            if head is not None and (best is None or head < best) and not _kept(state, claim, wanted, now):
                best = head
    return best[2] if best else None


def best_pair(state: State, pool: str, now: datetime) -> tuple[str, Claim, Why] | None:
    """Return the best ready job and the claim that gets it: GPU first, then workers with the source, then the oldest."""
    if not state.claim_groups:
        return None
    heads = [
        (head, wanted)
        for (of_pool, wanted), queue in state.ready.items()
        if of_pool == pool and (head := _head(state, queue)) is not None
    ]
    for (_rank, _number, job_id), wanted in sorted(heads, key=lambda item: item[0]):
        found = _best_claim(state, pool, wanted, state.jobs[job_id].queued.video_id, now)
        if found is not None:
            return job_id, *found
    return None


def _best_claim(state: State, pool: str, wanted: Requirements, video_id: str, now: datetime) -> tuple[Claim, Why] | None:
    best: tuple[bool, bool] | None = None
    found, others = None, False
    for (of_pool, capabilities), group in state.claims.items():
        if of_pool != pool or not covers(capabilities, wanted):
            continue
        for claim in group.values():
            event = claim.request.data
            if event.deadline <= now or event.worker_id == wanted.not_worker or event.process_id in state.superseded:
                continue
            if bar(state, pool, event.worker_id, now) is not None:
                continue
            others = others or not capabilities.gpu
            rank = (not capabilities.gpu, state.last_video.get(event.worker_id) != video_id)
            if best is None or rank < best:
                best, found = rank, claim
            if not rank[1]:
                break
    if best is None or found is None or _kept(state, found.request.data, wanted, now):
        return None
    if not best[0] and others:
        return found, "gpu_first"
    return found, "first_waiting" if best[1] else "same_video"


def _kept(state: State, claim: ClaimRequested, wanted: Requirements, now: datetime) -> bool:
    """Return whether the job is kept for an idle GPU worker instead."""
    return not claim.capabilities.gpu and any(
        gpu.pool == claim.pool
        and now < gpu.heard_at + state.policy.gpu_patience
        and worker_id not in state.held
        and worker_id != wanted.not_worker
        and covers(gpu.capabilities, wanted)
        and bar(state, gpu.pool, worker_id, now) is None
        for worker_id, gpu in state.gpus.items()
    )


def _head(state: State, queue: list[tuple[datetime, int, str]]) -> tuple[datetime, int, str] | None:
    """Return the first entry whose job still waits at this place; drop those before it."""
    while queue:
        _, place, job_id = queue[0]
        job = state.jobs.get(job_id)
        if job is not None and job.status == "queued" and job.place == place:
            return queue[0]
        heapq.heappop(queue)
    return None
