"""Snapshots of dispatcher state, to avoid replaying `jobs` from its start. Pure.

A snapshot is compressed lines of JSON: a header, then a job per line. The offset and id of its last fact bind it to the log. When
the log has another fact there, or another policy decides, it is ignored and all facts are read. It has no waiting claims; they
are recent requests.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import zstandard
from pydantic import TypeAdapter, ValidationError

from processors.dispatch.state import Job, Policy, Quarantine, State, put_in_line, set_alarm

FORMAT = 1
BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class Mark:
    """A fact's position on the log: its offset in the partition, and its id."""

    offset: int
    id: str


@dataclass(slots=True)
class _Header:
    format: int
    mark: Mark
    policy: Policy
    places: int
    ended: list[tuple[str, datetime]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    failures_in_row: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, Quarantine] = field(default_factory=dict)
    paused: list[tuple[str, str, bool]] = field(default_factory=list)
    last_video: dict[str, str] = field(default_factory=dict)
    processes: dict[str, str] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after the fact at `mark`; immutable."""

    header: _Header
    jobs: Sequence[tuple[str, Job]]

    @property
    def mark(self) -> Mark:
        """The last fact in it."""
        return self.header.mark


_HEADER = TypeAdapter(_Header)
_JOB = TypeAdapter(tuple[str, Job])


def take(state: State, mark: Mark) -> Snapshot:
    """Return a copy of the state, in about a microsecond a job: nothing is decided meanwhile."""
    header = _Header(
        FORMAT,
        mark,
        state.policy,
        state.places,
        list(state.ended.items()),
        list(state.answered),
        dict(state.failures_in_row),
        {worker_id: copy.copy(quarantine) for worker_id, quarantine in state.quarantined.items()},
        [(pool, worker_id, drain) for (pool, worker_id), drain in state.paused.items()],
        dict(state.last_video),
        dict(state.processes),
        list(state.superseded),
    )
    return Snapshot(header, [(job_id, copy.copy(job)) for job_id, job in state.jobs.items()])


def dump(snapshot: Snapshot) -> bytes:
    """Return the snapshot's bytes, line by line: it runs on a thread beside a loop that must go on deciding."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    parts = [compressor.compress(_HEADER.dump_json(snapshot.header) + b"\n")]
    parts += [compressor.compress(_JOB.dump_json(pair) + b"\n") for pair in snapshot.jobs]
    return b"".join([*parts, compressor.flush()])


def load(data: bytes, policy: Policy) -> Snapshot | None:
    """Return the snapshot; None when it is incomplete, of another format, or of another policy."""
    try:
        lines = zstandard.ZstdDecompressor().decompressobj().decompress(data).splitlines()
        header = _HEADER.validate_json(lines[0])
        jobs = [_JOB.validate_json(line) for line in lines[1:]]
    except (zstandard.ZstdError, ValidationError, IndexError):
        return None
    return Snapshot(header, jobs) if (header.format, header.policy) == (FORMAT, policy) else None


def restore(snapshot: Snapshot) -> State:
    """Return the state, equal to a fold of every fact up to the mark."""
    header = snapshot.header
    state = State(
        policy=header.policy,
        jobs=dict(snapshot.jobs),
        ended=OrderedDict(header.ended),
        answered=OrderedDict.fromkeys(header.answered),
        failures_in_row=header.failures_in_row,
        quarantined=header.quarantined,
        paused={(pool, worker_id): drain for pool, worker_id, drain in header.paused},
        last_video=header.last_video,
        processes=header.processes,
        superseded=OrderedDict.fromkeys(header.superseded),
        places=header.places,
    )
    for job_id, job in snapshot.jobs:
        if job.status == "queued":
            put_in_line(state, job_id)
        elif job.status == "claimed":
            state.held[job.worker_id] = state.held.get(job.worker_id, 0) + 1
        for moment in (job.lease_expires_at, job.retry_at):
            if moment is not None:
                set_alarm(state, moment, "job", job_id)
    for worker_id, quarantine in state.quarantined.items():
        set_alarm(state, quarantine.until, "quarantine", worker_id)
    return state
