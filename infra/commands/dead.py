"""`kinolog events dead`: records that a feed could not use, the reasons, and retries after a fix."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from events.errors import InvalidEvent, NotFound
from infra.commands.log import assign, position_of, reading, scan
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, document, fields, moment, note, table
from projections.moments import time_of

if TYPE_CHECKING:
    from infra.commands.log import Record

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

Feed = Annotated[str | None, typer.Option(help="Only records that this feed buried, as `catalog` or `files`.")]
OfTopic = Annotated[str | None, typer.Option("--topic", help="Only records of this topic.")]
Since = Annotated[str | None, typer.Option(help="Only records buried at or after this time (ISO 8601, UTC).")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="As the list has it: topic.dead/0/offset.")]


class Letter(NamedTuple):
    """A dead letter: its own position, its time, and its fields. A `value` shorter than `value_bytes` was cut.

    Letters of older versions may name no feed.
    """

    id: str
    time: datetime
    feed: str
    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes
    value_bytes: int

    @property
    def record(self) -> str:
        """The position of the unusable record."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Wanted(NamedTuple):
    """A selection of letters; None selects any. With `ids`, only these, and each must exist."""

    feed: str | None = None
    since: datetime | None = None
    ids: tuple[str, ...] = ()

    def has(self, letter: Letter) -> bool:
        """Return whether a letter matches."""
        if self.ids:
            return letter.id in self.ids
        return self.feed in (None, letter.feed) and (self.since is None or letter.time >= self.since)


@app.callback()
def dead(context: typer.Context, feed: Feed = None, topic: OfTopic = None, since: Since = None, as_json: AsJson = False) -> None:
    """List records that a feed could not use, oldest first: the feed, the reason, the outcome of retries.

    \b
    Examples:
      kinolog events dead
      kinolog events dead --feed files --since 2026-11-28
      kinolog events dead --topic videos --json
    """
    if context.invoked_subcommand is not None:
        return
    letters = asyncio.run(_find(topic, Wanted(feed, _time(since))))
    outcomes = asyncio.run(_outcomes()) if letters else {}
    table(
        [_row(letter, outcomes) for letter in letters],
        {
            "letter": lambda row: row["id"],
            "feed": lambda row: row["feed"] or "not named",
            "why": lambda row: row["reason"],
            "offered again": lambda row: row["again"],
            "time": lambda row: moment(row["time"]),
            "record": lambda row: f"{row['topic']}/{row['partition']}/{row['offset']}",
        },
        as_json=as_json,
        empty="there are no dead letters",
    )


@app.command()
def show(letter: LetterId, as_json: AsJson = False) -> None:
    """Print one dead letter in full, with the record, and whether this code can read it.

    \b
    Examples:
      kinolog events dead show videos.dead/0/17
    """
    (found,) = asyncio.run(_find(None, Wanted(ids=(_checked(letter),))))
    row = _row(found, asyncio.run(_outcomes())) | {"readable": _unreadable(found) or "yes"}
    event = _event(found)
    if as_json:
        document({**row, "event": event})
    else:
        fields(row, as_json=False)
        document(event, indent=2)


@app.command()
def retry(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As the list has them.")] = None,
    feed: Feed = None,
    topic: OfTopic = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the decisions and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Offer records again to the feeds that buried them, after a fix. Name letters, or choose them by options.

    Effects (`files`), planning and the dispatcher are idempotent and take a record late. The rows of a projection depend on the
    order of events, so rebuild it instead: the command says how. A letter of an older version without a feed is offered to all
    readers of its topic. Ends with 1 when a record was not offered.

    \b
    Examples:
      kinolog events dead retry videos.dead/0/17
      kinolog events dead retry --feed files --dry-run
    """
    ids = tuple(_checked(letter) for letter in letters or ())
    if not ids and not (feed or topic or since):
        raise UsageFault("name the letters to retry, or choose them with --feed, --topic or --since")
    found = asyncio.run(_find(topic, Wanted(feed, _time(since), ids)))
    verdicts = {letter.id: _verdict(letter) for letter in found}
    rows = [
        {"id": letter.id, "feed": letter.feed, "record": letter.record, "result": verdicts[letter.id].sentence} for letter in found
    ]
    offered = [(feed, letter) for letter in found for feed in verdicts[letter.id].feeds]
    if not dry_run:
        asyncio.run(_offer(offered))
    table(
        rows,
        {name: itemgetter(name) for name in ("id", "feed", "result", "record")},
        as_json=as_json,
        empty="there are no such dead letters",
    )
    if dry_run:
        note("nothing was done")
    if not all(verdict.feeds for verdict in verdicts.values()):
        raise typer.Exit(1)


class Verdict(NamedTuple):
    """A retry's decision about a letter: the feeds to which its record is offered, and a sentence."""

    feeds: tuple[str, ...]
    sentence: str


def _verdict(letter: Letter) -> Verdict:
    """Decide about a letter. Pure."""
    from projections.registry import PROJECTIONS

    if letter.feed in PROJECTIONS:
        return Verdict((), f"run: kinolog rebuild {letter.feed}")
    feeds = _feeds(letter)
    if feeds and (reason := _unreadable(letter)):
        return Verdict((), reason)
    if letter.feed in feeds:
        return Verdict(feeds, "offered again")
    why = f"no feed of this code is called {letter.feed}" if letter.feed else "it does not name the feed that buried it"
    offer = [f"offered to {', '.join(feeds)}, which read {letter.topic}"] if feeds else []
    readers = [name for name, one in PROJECTIONS.items() if letter.topic in {topic.name for topic in one.topics}]
    return Verdict(feeds, "; ".join([why, *offer, *(f"run: kinolog rebuild {name}" for name in readers)]))


def _feeds(letter: Letter) -> tuple[str, ...]:
    """Return the feeds for a letter's record: its own or, when that is unknown, all readers of its topic. Pure."""
    from events.topics import TOPICS
    from processors.agents.outbox import OFFERED_AGAIN
    from projections.registry import PROJECTIONS

    if letter.feed in OFFERED_AGAIN:
        return (letter.feed,)
    if letter.feed in PROJECTIONS or letter.topic not in TOPICS:
        return ()
    return tuple(name for name in OFFERED_AGAIN if name in TOPICS[letter.topic].consumers)


def _unreadable(letter: Letter) -> str | None:
    """Return why this code cannot read a record; None when it can. Pure."""
    from events.codec import decode

    if len(letter.value) < letter.value_bytes:
        return f"longer than a letter holds; it is on the log at {letter.record}"
    try:
        decode(letter.value)
    except InvalidEvent as error:
        return f"this code cannot read it either: {error}"
    return None


def _event(letter: Letter) -> Any:
    import orjson

    try:
        return orjson.loads(letter.value)
    except orjson.JSONDecodeError:
        return repr(letter.value[:2000])


def _row(letter: Letter, outcomes: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    plain = {name: value for name, value in letter._asdict().items() if name != "value"}
    again = {feed: outcome for feed in _feeds(letter) if (outcome := outcomes.get((feed, letter.record)))}
    shown = "; ".join(outcome if feed == letter.feed else f"{feed}: {outcome}" for feed, outcome in again.items())
    return plain | {"again": shown}


def _checked(letter: str) -> str:
    """Parse a letter's id. Raises UsageFault."""
    position = position_of(letter)
    if position is None or not position[0].endswith(".dead"):
        raise UsageFault("a dead letter is named as the list has it: topic.dead/0/offset")
    return letter


def _time(since: str | None) -> datetime | None:
    return time_of(since, "--since") if since is not None else None


async def _find(topic: str | None, wanted: Wanted) -> list[Letter]:
    """Return the selected letters, oldest first. Raises NotFound when a named one does not exist."""
    from events.topics import TOPICS

    if topic is not None and topic.removesuffix(".dead") not in TOPICS:
        raise UsageFault(f"there is no topic {topic}; there are: {', '.join(sorted(TOPICS))}")
    names = [one.dead_letters for one in TOPICS.values() if topic is None or one.name == topic.removesuffix(".dead")]
    if wanted.ids:
        names = sorted({id_.partition("/")[0] for id_ in wanted.ids})
    async with reading() as (consumer, prefix):
        partitions = await assign(consumer, prefix, names)
        for partition, start in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(partition, start)
        ends = await consumer.end_offsets(partitions)
        letters = [_letter(record, prefix) async for record in scan(consumer, ends, lambda value: True)]
    found = sorted((letter for letter in letters if wanted.has(letter)), key=lambda letter: (letter.time, letter.id))
    if missing := sorted(set(wanted.ids) - {letter.id for letter in found}):
        raise NotFound(f"there is no dead letter {', '.join(missing)}")
    return found


def _letter(record: "Record", prefix: str) -> Letter:
    """Read a dead letter; a record that is none gets the reason. Pure."""
    from processors.agents.dead_letters import decode

    topic = record.topic[len(prefix) :]
    own, time = f"{topic}/{record.partition}/{record.offset}", datetime.fromtimestamp(record.timestamp / 1000, UTC)
    value = record.value or b""
    try:
        letter, value_bytes = decode(value)
    except InvalidEvent as error:
        return Letter(own, time, "", topic.removesuffix(".dead"), record.partition, record.offset, str(error), value, len(value))
    position = letter.topic, letter.partition, letter.offset
    return Letter(own, time, letter.reader, *position, letter.reason, letter.value, value_bytes)


async def _outcomes() -> dict[tuple[str, str], str]:
    """Return the outcome of records offered again, by feed and position."""
    from infra.commands.support.services import settings_of_services
    from infra.runtime.postgres import connected
    from processors.agents.outbox import offered_again

    async with connected(settings_of_services()) as connection:
        found = await offered_again(connection)
    return {
        (key.effect, f"{key.topic}/{key.partition}/{key.position}"): f"done {moment(done_at)}" if done_at else error or "waits"
        for key, error, done_at in found
    }


async def _offer(offered: Sequence[tuple[str, Letter]]) -> None:
    """Put the records of letters into the outbox of feeds."""
    from events.codec import decode
    from events.envelope import Recorded
    from infra.commands.support.services import settings_of_services
    from infra.runtime.postgres import connected
    from processors.agents.outbox import SQL, put

    async with connected(settings_of_services()) as connection, connection.transaction():
        await connection.execute(SQL["create"])
        for feed, letter in offered:
            recorded: Recorded[Any] = Recorded(letter.topic, letter.partition, letter.offset, decode(letter.value))
            await put(connection, feed, [recorded], again=True)
