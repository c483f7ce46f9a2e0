"""`kinolog events`: the log itself, read without leaving a trace on it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.errors import NotFound
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, document, fields, line, moment, note, printable
from projections.short_ids import fits

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

    Record = ConsumerRecord[bytes, bytes]

app = typer.Typer(rich_markup_mode=None, help="Read the log: the last events, new ones, or one.", no_args_is_help=True)

IDLE_ROUNDS_MAX = 3
"""Empty fetches in a row, a second each, after which a scan ends even before the known end offsets."""
CONTENT_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Filter:
    """A selection of records; empty selects any."""

    types: tuple[str, ...] = ()
    subject: str | None = None

    @property
    def any(self) -> bool:
        """Whether the filter selects all records."""
        return not self.types and self.subject is None

    def wants(self, event: dict[str, Any], key: bytes | None) -> bool:
        """Return whether a record with this key and content matches. A type may be shortened from the front."""
        if self.subject is not None and not fits(self.subject, (key or b"").decode(errors="replace")):
            return False
        wire_type = str(event.get("type", ""))
        return not self.types or any(wanted in wire_type for wanted in self.types)


@app.command()
def tail(
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic (repeatable); also <topic>.dead.")] = None,
    wire_type: Annotated[list[str] | None, typer.Option("--type", help="Only types with this in their name (repeatable).")] = None,
    subject: Annotated[str | None, typer.Option(help="Only this stream: id of a video or worker, or a part of it; a pool.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=100_000, help="Begin with the last N events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the last events, oldest first; with --follow, also new ones. With --json, one line each.

    \b
    Examples:
      kinolog events tail
      kinolog events tail --topic videos --topic jobs --follow
      kinolog events tail --type job.failed --last 5 --json | jq .event.data.failure
    """
    wanted = Filter(tuple(wire_type or ()), subject)
    asyncio.run(_tail(topics(topic), wanted, last, follow=follow, as_json=as_json))


@app.command()
def show(
    event: Annotated[str, typer.Argument(help="An event's id or eight characters of it, or its position: topic/partition/offset.")],
    as_json: AsJson = False,
) -> None:
    """Print one event in full. A position is looked up directly; an id needs a search of the log.

    \b
    Examples:
      kinolog events show videos/2/17
      kinolog events show 9b6c1d04 --json
    """
    found = asyncio.run(_show(event))
    if as_json:
        document(found)
    else:
        fields({name: value for name, value in found.items() if name != "event"}, as_json=False)
        document(found.get("event"), indent=2)


def topics(names: list[str] | None) -> list[str]:
    """Return the topics to read; all when none is named. Raises UsageFault for one that is not declared."""
    from events.topics import TOPICS

    known = {*TOPICS, *(topic.dead_letters for topic in TOPICS.values())}
    if unknown := sorted(set(names or ()) - known):
        raise UsageFault(f"there is no topic {', '.join(unknown)}; there are: {', '.join(sorted(TOPICS))}")
    return names or list(TOPICS)


def position_of(text: str) -> tuple[str, int, int] | None:
    """Return (topic, partition, offset) of `topic/partition/offset`; None when the text is an id."""
    parts = text.split("/")
    if len(parts) == 1:
        return None
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise UsageFault("a position on the log is written topic/partition/offset, as videos/2/17")
    topics([parts[0]])
    return parts[0], int(parts[1]), int(parts[2])


def describe(record: "Record", prefix: str) -> dict[str, Any]:
    """Return a record in printable form: its position, the event, and its fault, if it has one."""
    import orjson

    from events.codec import decode
    from events.errors import InvalidEvent

    described: dict[str, Any] = {
        "topic": record.topic[len(prefix) :],
        "partition": record.partition,
        "offset": record.offset,
    }
    try:
        described["event"] = orjson.loads(record.value or b"")
        if not described["topic"].endswith(".dead"):
            decode(record.value or b"")
    except (InvalidEvent, orjson.JSONDecodeError) as error:
        described["invalid"] = str(error)
        described.setdefault("event", repr((record.value or b"")[:200]))
    return described


async def _tail(names: list[str], wanted: Filter, last: int, *, follow: bool, as_json: bool) -> None:
    show = document if as_json else _print_event
    async with reading() as (consumer, prefix):
        partitions = await assign(consumer, prefix, names)
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.beginning_offsets(partitions)
        for partition in partitions:
            back = ends[partition] - last if wanted.any or last == 0 else 0  # a filtered scan reads everything
            consumer.seek(partition, max(starts[partition], back))
        newest: list[tuple[int, str, int, int, dict[str, Any]]] = []  # a heap: its first is the oldest
        if last:
            async for record in scan(consumer, ends, lambda value: True):
                described = describe(record, prefix)
                if wanted.wants(_event(described), record.key):
                    heappush(newest, (record.timestamp, record.topic, record.partition, record.offset, described))
                if len(newest) > last:
                    heappop(newest)
        for *_, described in sorted(newest):
            show(described)
        if not newest and not follow:
            note("no such events")
        while follow:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    described = describe(record, prefix)
                    if wanted.wants(_event(described), record.key):
                        show(described)


async def _show(event: str) -> dict[str, Any]:
    position = position_of(event)
    async with reading() as (consumer, prefix):
        partitions = await assign(consumer, prefix, [position[0]] if position else topics(None))
        ends, starts = await consumer.end_offsets(partitions), await consumer.beginning_offsets(partitions)
        if position is not None:
            return await _at(consumer, prefix, position, ends, starts)
        for partition in partitions:
            consumer.seek(partition, starts[partition])
        needle = event.encode()
        async for record in scan(consumer, ends, lambda value: needle in value):
            described = describe(record, prefix)
            if fits(event, str(_event(described).get("id"))):
                return described
    raise NotFound(f"no event on the log has the id {event}")


async def _at(
    consumer: "AIOKafkaConsumer",
    prefix: str,
    position: tuple[str, int, int],
    ends: dict["TopicPartition", int],
    starts: dict["TopicPartition", int],
) -> dict[str, Any]:
    """Return the record at a position. Raises NotFound when there is none, or only a transaction's marker."""
    topic, number, offset = position
    partition = next((found for found in ends if found.partition == number), None)
    if partition is None:
        raise NotFound(f"topic {topic} has no partition {number}")
    if not starts[partition] <= offset < ends[partition]:
        raise NotFound(f"{topic}/{number} holds offsets {starts[partition]} to {ends[partition] - 1}")
    for other in ends:
        consumer.seek(other, offset if other == partition else ends[other])
    async for record in scan(consumer, {partition: offset + 1}, lambda value: True):
        if record.offset == offset and record.partition == number:
            return describe(record, prefix)
    raise NotFound(f"{topic}/{number}/{offset} is the end marker of a transaction, not an event")


async def scan(
    consumer: "AIOKafkaConsumer", ends: dict["TopicPartition", int], wants: Callable[[bytes], bool]
) -> AsyncIterator["Record"]:
    """Yield the wanted records below `ends`."""
    idle_rounds = 0
    while idle_rounds < IDLE_ROUNDS_MAX:
        left = [partition for partition, end in ends.items() if await consumer.position(partition) < end]
        if not left:
            return
        fetched = await consumer.getmany(*left, timeout_ms=1000, max_records=20_000)
        idle_rounds = 0 if fetched else idle_rounds + 1
        for partition, records in fetched.items():
            for record in records:
                if record.offset < ends[partition] and wants(record.value or b""):
                    yield record


async def assign(consumer: "AIOKafkaConsumer", prefix: str, names: list[str]) -> list["TopicPartition"]:
    """Assign every partition of the topics that the broker has."""
    from aiokafka import TopicPartition

    from events.topics import TOPICS

    existing = await consumer.topics()
    partitions = [
        TopicPartition(prefix + name, number)
        for name in names
        if prefix + name in existing
        for number in range(TOPICS[name].partitions if name in TOPICS else 1)  # dead letters have one
    ]
    if not partitions:
        raise NotFound("these topics are not on the broker yet; `kinolog up` makes them")
    consumer.assign(partitions)
    return partitions


@asynccontextmanager
async def reading() -> AsyncIterator[tuple["AIOKafkaConsumer", str]]:
    """Yield a started consumer without a group, and the installation's topic prefix."""
    from infra.commands.support.services import settings_of_services
    from infra.runtime.kafka import open_consumer

    settings = settings_of_services()
    consumer = await open_consumer(settings)
    try:
        yield consumer, settings.topic_prefix
    finally:
        await consumer.stop()


def _event(described: dict[str, Any]) -> dict[str, Any]:
    event = described["event"]
    return event if isinstance(event, dict) else {}


def _time_of(event: dict[str, Any]) -> str:
    """Return an event's time, even of one that cannot be decoded."""
    try:
        return moment(event.get("time"), milliseconds=True)
    except (TypeError, ValueError):
        return str(event.get("time"))[:24]


def _print_event(described: dict[str, Any]) -> None:
    import orjson

    event = _event(described)
    content = orjson.dumps(event.get("data", described["event"])).decode()
    if len(content) > CONTENT_CHARACTERS:
        content = content[: CONTENT_CHARACTERS - 1] + "…"
    position = f"{described['topic']}/{described['partition']}/{described['offset']}"
    wire_type = str(event.get("type", "?")).removeprefix("kinolog.")
    line(printable(f"{_time_of(event):<24}  {position:<24}  {wire_type:<28}  {content}"))
    if described.get("invalid"):
        note(f"  {position} cannot be read: {described['invalid']}")
