"""Proves that the archive is intact.

Checks the manifest against the facts on the log, each file against its digest, each record against the hash chain, and
all of it against the log, as far back as the log goes. Names the first event that is wrong.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import zip_longest

from events.errors import KinologError
from events.topics import ARCHIVE, Partition
from projections.folding.log import LogReader, Source
from projections.history.archive import Files, Segment
from projections.history.parquet import NO_LINK, BrokenChain, Record, check_segment, read_segment

Fetch = Callable[[Segment], Awaitable[bytes]]


async def audit_archive(log: Source, segments: Mapping[Partition, Sequence[Segment]], fetch: Fetch) -> list[str]:
    """Return one sentence per fault; `segments` are in offset order within each partition."""
    starts = await log.starts(segments)
    archived = await _archived(log)
    listed = [file for files in segments.values() for file in files]
    complaints = [
        f"{file.key}: the manifest says of it what the topic archive does not" for file in listed if archived.get(file.key) != file
    ]
    for partition, files in segments.items():
        link, following = NO_LINK, 0
        for segment in files:
            if segment.first != following:
                complaints.append(f"{_name(partition)}: {following} to {segment.first} are in no file of the archive")
            try:
                records = await _checked(segment, link, fetch)
            except (KinologError, BrokenChain) as error:
                complaints.append(str(error))
            else:
                if starts[partition] <= segment.first:
                    complaints += await _against_log(log, partition, segment, records)
            link, following = bytes.fromhex(segment.chain), segment.next
    return complaints


async def _archived(log: Source) -> dict[str, Segment]:
    """Return the files recorded on topic `archive`, by key. That topic is kept for ever."""
    reader, files = LogReader(log), Files()
    await reader.seek({(ARCHIVE.name, number): 0 for number in range(ARCHIVE.partitions)})
    async for records, _dead in reader.to_end():
        for recorded in records:
            files.see(recorded.envelope.data, recorded.envelope.time)
    return {file.key: file for file in files}


async def _checked(segment: Segment, link: bytes, fetch: Fetch) -> list[Record]:
    """Return the records of a file. Raises BrokenChain or KinologError, naming the fault."""
    file = await fetch(segment)
    where = f"archive: {segment.topic}/{segment.partition}"
    if check_segment(file, link, where).hex() != segment.chain:
        raise BrokenChain(f"{where}: the chain after {segment.next - 1} is not the recorded one: the file was made anew")
    return list(read_segment(file))


async def _against_log(log: Source, partition: Partition, segment: Segment, records: Sequence[Record]) -> list[str]:
    """Compare a file with the same stretch of the log; return at most one finding."""
    found: list[Record] = []
    await log.assign({partition: segment.first})
    while log.position(partition) < segment.next:
        found += (await log.read(records_max=20_000, wait_s=0.5)).get(partition, ())
    found = [record for record in found if record[0] < segment.next]
    for archived, logged in zip_longest(records, found):
        if archived != logged:
            offset = min(record[0] for record in (archived, logged) if record is not None)
            return [f"{_name(partition)}/{offset}: the log has another record there than was archived"]
    return []


def _name(partition: Partition) -> str:
    return f"{partition[0]}/{partition[1]}"
