"""The files of the archive, folded from topic `archive`. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from events.archive import SegmentArchived
from events.envelope import Event, Recorded
from events.objects import ARCHIVED

MANIFEST = f"{ARCHIVED}manifest.json"
"""Key of the list of all files, for readers that have only the object store."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the archive; see `events.archive.SegmentArchived`."""

    topic: str
    partition: int
    first: int
    next: int
    records: int
    key: str
    size_bytes: int
    sha256: str
    chain: str
    time_first: datetime | None = None
    time_last: datetime | None = None
    unpacked_bytes: int | None = None


class Files:
    """The fold of topic `archive`: each partition's files, in order, and the files that a joined one has replaced.

    The first fact about a stretch counts. A later file replaces several only if it covers exactly their stretch and ends
    with the same hash chain.
    """

    def __init__(self, facts: Iterable[Recorded[Event]] = ()) -> None:
        self._files: dict[tuple[str, int], list[Segment]] = defaultdict(list)
        self.replaced: dict[str, datetime] = {}
        """The time at which each replaced file was replaced, by key."""
        for recorded in facts:
            self.see(recorded.envelope.data, recorded.envelope.time)

    def __iter__(self) -> Iterator[Segment]:
        return (file for _, files in sorted(self._files.items()) for file in files)

    def of(self, topic: str, partition: int) -> Sequence[Segment]:
        """Return the files of a partition."""
        return self._files.get((topic, partition), ())

    def see(self, event: Event, time: datetime) -> None:
        """Fold one fact."""
        if not isinstance(event, SegmentArchived):
            return
        segment = Segment(**dict(event))
        files = self._files[segment.topic, segment.partition]
        if not files or files[-1].next <= segment.first:
            files.append(segment)
            return
        covered = [n for n, file in enumerate(files) if segment.first <= file.first and file.next <= segment.next]
        inside = [files[n] for n in covered]
        if len(inside) > 1 and (inside[0].first, inside[-1].next, inside[-1].chain) == (segment.first, segment.next, segment.chain):
            files[covered[0] : covered[-1] + 1] = [segment]
            self.replaced.update((file.key, time) for file in inside)


def joinable(
    files: Sequence[Segment], records_max: int, bytes_max: int, unpacked_bytes_max: int = 1 << 63
) -> list[Sequence[Segment]]:
    """Return runs of neighbouring files that fit into one, of days that are over (the partition has a file of another day).

    A run is unpacked as a whole, so the limit applies to unpacked bytes. For old files only the packed size is known.
    """
    runs: list[list[Segment]] = []
    for file in files:
        run = runs[-1] if runs else []
        together = [*run, file]
        unpacked_bytes = sum(f.unpacked_bytes or f.size_bytes for f in together)
        fits = sum(f.records for f in together) <= records_max and sum(f.size_bytes for f in together) <= bytes_max
        fits = fits and unpacked_bytes <= unpacked_bytes_max
        if run and fits and _folder(run[-1]) == _folder(file) and run[-1].next == file.first:
            run.append(file)
        else:
            runs.append([file])
    return [run for run in runs if len(run) > 1 and _folder(run[0]) != _folder(files[-1])]


def _folder(file: Segment) -> str:
    """Return the part of a file's key that names topic and day."""
    return file.key.rpartition("/")[0]
