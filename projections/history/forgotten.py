"""Certificates about forgotten viewers: the events that nobody can trace back any more, by position, with proof.

A certificate lists all events under a viewer's id up to the event that their key was deleted, and the hash chain of each partition
there. It names no person. `check` reads the log again and lists mismatches.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from events.codec import decode
from events.errors import InvalidEvent, NotFound
from events.topics import TOPICS, VIEWERS, Partition, partition_for
from events.viewers import ViewerForgotten
from projections.folding.log import Source, stretches
from projections.history.parquet import NO_LINK, next_link
from projections.history.signing import Signed

READ_RECORDS = 10_000
Runs = tuple[tuple[int, int], ...]
"""Offsets, as (first, last) of each run of neighbours."""


class Certificate(Signed, frozen=True):
    """The document. `forgotten_at` is the time of the last event that says so.

    `events` counts the events by type. `offsets`, `positions` and `chains` are keyed by `topic/partition`: the events' offsets, the
    next offset after what was read, and the hash chain before it (hex).
    """

    version: Literal[1] = 1
    kinolog: str
    made_at: datetime
    viewer_id: str
    forgotten_at: datetime
    events: dict[str, int]
    offsets: dict[str, Runs]
    positions: dict[str, int]
    chains: dict[str, str]


def partitions_of(viewer_id: str) -> list[Partition]:
    """Return the partitions that have a viewer's events: those of the topics whose key is a viewer's id."""
    return [(topic.name, partition_for(viewer_id, topic.partitions)) for topic in TOPICS.values() if topic.key == VIEWERS.key]


async def certify(
    history: Source, viewer_id: str, positions: Mapping[Partition, int], *, kinolog: str, made_at: datetime
) -> Certificate:
    """Return an unsigned certificate over the log before `positions`. Raises NotFound when no event there says so."""
    starts = await history.starts(positions)
    begins = {partition: start for partition, start in starts.items() if start < positions[partition]}
    links = dict.fromkeys(positions, NO_LINK)
    found: dict[Partition, list[int]] = {partition: [] for partition in positions}
    events, forgotten_at = Counter[str](), None
    async for partition, records in stretches(history, begins, positions, records_max=READ_RECORDS):
        for offset, value in records:
            links[partition] = next_link(links[partition], offset, value)
            try:
                envelope = decode(value)
            except InvalidEvent:
                continue  # it is among the dead letters, and says nothing about anybody
            if envelope.subject == viewer_id:
                events[envelope.data.TYPE] += 1
                found[partition].append(offset)
                forgotten_at = envelope.time if isinstance(envelope.data, ViewerForgotten) else forgotten_at
    if forgotten_at is None:
        raise NotFound(f"no event says that viewer {viewer_id} was forgotten")
    return Certificate(
        kinolog=kinolog,
        made_at=made_at,
        viewer_id=viewer_id,
        forgotten_at=forgotten_at,
        events=dict(sorted(events.items())),
        offsets={_name(partition): runs_of(offsets) for partition, offsets in sorted(found.items())},
        positions={_name(partition): position for partition, position in sorted(positions.items())},
        chains={_name(partition): link.hex() for partition, link in sorted(links.items())},
    )


async def check(certificate: Certificate, history: Source, key: Ed25519PublicKey, *, has_key: bool) -> list[str]:
    """Return one sentence per mismatch with the log. `has_key`: there is a key behind the viewer's id."""
    findings = certificate.faults(key)
    if has_key:
        findings.append(f"viewer {certificate.viewer_id}: there is a key behind this id")
    positions = {partition: certificate.positions.get(_name(partition), 0) for partition in partitions_of(certificate.viewer_id)}
    ends = await history.ends(positions)
    for partition, position in positions.items():
        if position > ends[partition]:
            return [*findings, f"{_name(partition)}: the certificate stands at {position}, the log ends at {ends[partition]}"]
    try:
        read = await certify(history, certificate.viewer_id, positions, kinolog=certificate.kinolog, made_at=certificate.made_at)
    except NotFound as error:
        return [*findings, str(error)]
    return findings + [
        f"{field}: the log has {here}, the certificate says {there}"
        for field in ("forgotten_at", "events", "offsets", "positions", "chains")
        if (here := getattr(read, field)) != (there := getattr(certificate, field))
    ]


def runs_of(offsets: Sequence[int]) -> Runs:
    """Return ascending offsets as runs of neighbours."""
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset - 1:
            runs[-1] = (runs[-1][0], offset)
        else:
            runs.append((offset, offset))
    return tuple(runs)


def _name(partition: Partition) -> str:
    return f"{partition[0]}/{partition[1]}"
