"""`kinolog projections`, `projection`, `rebuild`, `verify`: the read models, and the log that they fold."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.errors import NotFound
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, document, line, moment, note, progress, table

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from events.topics import Partition
    from projections.folding.changes import Difference
    from projections.folding.fold import Projection
    from projections.folding.rebuild import Rebuilt
    from projections.folding.runner import Runner
    from projections.history.source import History

SHORT_CHARACTERS = 80
app = typer.Typer(rich_markup_mode=None, help="Change which version of a projection serves.", no_args_is_help=True)
NICENESS = 10
"""Niceness of rebuilds: programs with waiting people or nodes go first."""
DIGEST_CHARACTERS, CODE_CHARACTERS = 18, 8


def projections(as_json: AsJson = False) -> None:
    """List the versions of every projection: the serving one and since when, and the lag, code and digest of each.

    A version is contiguous when it has folded exactly as many records as archive and log have before its positions. Equal
    digests mean equal tables, byte for byte. A version folded by other code, wholly or in part, may have other rows than
    this code would make: `kinolog rebuild NAME --dry-run` shows them.

    \b
    Examples:
      kinolog projections
      kinolog projections --json | jq '.[] | select(.lag_events > 0)'
    """
    contiguous = {True: "yes", False: "NO", None: "unknown"}
    versions, outdated = asyncio.run(_projections())
    for name in outdated:
        note(f"{name}: its settings have changed since it was made; kinolog rebuild {name} --dry-run shows what would change")
    table(
        versions,
        {
            "projection": lambda row: row["projection"],
            "version": lambda row: row["version"],
            "serves since": lambda row: moment(row["serves_from"]) if row["serves"] else "",
            "events": lambda row: row["events"],
            "lag": lambda row: row["lag_events"],
            "newest event": lambda row: moment(row["newest_event"]),
            "contiguous": lambda row: contiguous[row["contiguous"]],
            "code": _code,
            "digest": lambda row: (row["digest"] or "other tables")[:DIGEST_CHARACTERS],
        },
        as_json=as_json,
        empty="no projection was started yet",
    )


def _code(row: Mapping[str, Any]) -> str:
    """Return the code that last folded a version, marked when it is not this code."""
    code = row["codes"][-1][:CODE_CHARACTERS] if row["codes"] else "unknown"
    return f"{code}, other code" if row["other_code"] else code


def rebuild(
    name: Annotated[str, typer.Argument(help="The projection, as `kinolog projections` lists it.")],
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with a share of the partitions.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes, and make none.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Flip although rows differ under the same code.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fold a projection again from the start of the log, beside the serving version; compare; then flip the readers.

    Readers see no error. After a change of the code, or of the settings that say how to count (streams: `kinolog settings list
    --category viewing`), rows may differ: this is a restatement, and the command shows the changes, and sums before and after. When
    the code is the same and rows differ, it ends with 1 and changes nothing; --accept flips all the same. On a crowded machine it
    rests three quarters of the time; several --workers never rest.

    \b
    Examples:
      kinolog rebuild catalog --dry-run
      kinolog rebuild streams --dry-run
      kinolog rebuild jobs --json
      kinolog rebuild progress --workers 2
    """
    from projections.folding.rebuild import RebuildDiffers

    projection = _named(name)
    if workers > 1 and not projection.partitioned:
        raise UsageFault(f"{name} has rows of several partitions, so one process rebuilds it; leave --workers out")
    try:
        rebuilt = asyncio.run(_rebuild(projection, workers, keep=not dry_run, accept=accept))
    except RebuildDiffers as differs:
        _print_rebuilt(differs.rebuilt, as_json=as_json)
        raise
    _print_rebuilt(rebuilt, as_json=as_json)
    if rebuilt.equal is False and rebuilt.same_code and not accept:
        raise RebuildDiffers(rebuilt)


def _print_rebuilt(rebuilt: "Rebuilt", *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        changes = [change._asdict() | {"samples": [one._asdict() for one in change.samples]} for change in rebuilt.changes]
        document(asdict(rebuilt) | {"changes": changes})
        return
    if rebuilt.equal is None:
        compared = "nothing to compare with"
    elif rebuilt.equal:
        compared = "equal to the one before"
    else:
        compared = "different, by the same code" if rebuilt.same_code else "restated by other code"
    line(f"{rebuilt.name} v{rebuilt.version}: {rebuilt.events} events folded; {compared}")
    for change in rebuilt.changes:
        line(f"  {change.table}: {change.added} rows added, {change.gone} gone, {change.changed} changed; for example")
        for column, (before, after) in change.totals.items():
            line(f"    sum of {column}: {before:,} -> {after:,}")
        for difference in change.samples:
            _print_difference(difference)
    if not rebuilt.flipped:
        note("nothing was changed")


@app.callback()
def projection() -> None:
    """Change which version of a projection serves."""


@app.command("flip-back")
def flip_back(
    name: Annotated[str, typer.Argument(help="The projection, as `kinolog projections` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Return to the version that the last rebuild replaced. It first folds the events since then.

    \b
    Examples:
      kinolog projection flip-back catalog
    """
    projection = _named(name)
    version = asyncio.run(_flip_back(projection))
    if as_json:
        document({"name": name, "version": version})
    else:
        line(f"{name} v{version} serves")


def diff(
    name: Annotated[str, typer.Argument(help="The projection, as `kinolog projections` lists it.")],
    since: Annotated[str, typer.Option("--from", help="A time (ISO 8601, UTC) or positions, topic:partition=offset.")],
    to: Annotated[str, typer.Option(help="The same, later.")],
    as_json: AsJson = False,
) -> None:
    """Show the changes of a projection between two moments: rows added, removed, changed.

    \b
    Examples:
      kinolog diff catalog --from 2026-11-20T18:00 --to 2026-11-21T08:00
      kinolog diff jobs --from "jobs:0=100" --to "jobs:0=200" --json
    """
    found = asyncio.run(_diff(_named(name), since, to))
    if as_json:
        document([difference._asdict() for difference in found])
        return
    for difference in found:
        _print_difference(difference)
    note(f"{len(found)} rows differ")


def _print_difference(difference: "Difference") -> None:
    sign = "+" if difference.before is None else "-" if difference.after is None else "~"
    line(f"{sign} {difference.table} {' '.join(map(str, difference.key))}")
    if difference.before is None or difference.after is None:
        return  # a whole row was added or removed; --json has it
    for field, (before, after) in changes(difference.before, difference.after).items():
        line(f"    {field}: {_short(before)} -> {_short(after)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHORT_CHARACTERS else f"{text[:SHORT_CHARACTERS]}…"


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return field -> (before, after) of the fields that differ."""
    return {field: (before.get(field), after.get(field)) for field in {**before, **after} if before.get(field) != after.get(field)}


def verify(
    report: Annotated[Path | None, typer.Argument(help="A signed report; without one, everything is checked.")] = None,
    key: Annotated[str, typer.Option(help="Public key (hex) that must have signed it; else this installation's.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check that nothing is lost, doubled or out of order: every projection against a fold of all of history, every file
    of the archive against its hash chain and the log. Names the first altered event.

    For a signed report, check the signature, and fold its contents again; for a certificate of `kinolog viewers forget`, read the
    log again. Ends with 1 when there are findings; each is
    one line.

    \b
    Examples:
      kinolog verify
      kinolog verify --json
      kinolog verify catalog.json
    """
    findings = asyncio.run(_verify() if report is None else _verify_file(report, key))
    if as_json:
        document(findings)
    for finding in () if as_json else findings["findings"]:
        line(finding)
    if findings["findings"]:
        raise typer.Exit(1)
    note("nothing lost, doubled or out of order" if report is None else "everything is as the report says")


def report(
    name: Annotated[str, typer.Argument(help="The projection, as `kinolog projections` lists it.")],
    signed: Annotated[bool, typer.Option("--signed", help="Sign it with this installation's key, var/keys/report.")] = False,
    at: Annotated[str | None, typer.Option(help="A time (ISO 8601, UTC) or topic:partition=offset,…; else now.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="With all rows, not only their digests.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the contents of a projection at a moment, with proof: positions, hash chains, digests of code and tables.

    The report is always JSON. `kinolog verify FILE` folds it again from the start and names differences.

    \b
    Examples:
      kinolog report catalog --signed -o catalog.json
      kinolog report jobs --signed --rows --at 2026-11-21T08:00
    """
    made = asyncio.run(_report(_named(name), at, signed=signed, rows=rows))
    if output is None:
        document(made)
    else:
        output.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
        note(f"{output}: {name}, {sum(table['count'] for table in made['tables'].values())} rows")


async def _report(projection: "Projection", at: str | None, *, signed: bool, rows: bool) -> dict[str, Any]:
    from datetime import UTC, datetime
    from importlib.metadata import version

    from infra.commands.support.services import settings_of_services
    from infra.history.past import past_of
    from infra.runtime.history import open_history
    from infra.runtime.keys import ensure_report_key
    from infra.runtime.postgres import connected
    from projections.folding.runner import as_served
    from projections.history import report as reporting
    from projections.history.past import positions_at

    settings, now = settings_of_services(), datetime.now(UTC)
    async with open_history(settings) as history, connected(settings) as connection:
        projection = await as_served(connection, projection)
        partitions = [(topic.name, number) for topic in projection.topics for number in range(topic.partitions)]
        positions = await positions_at(history, at) if at else await history.ends(partitions)
        parameters = {"at": at, "rows": rows}
        made = await reporting.make(
            projection, past_of(settings), history, positions, rows, parameters, kinolog=version("kinolog"), made_at=now
        )
    if signed:
        made = made.signed(ensure_report_key(settings))
    return made.model_dump(mode="json")


async def _verify_file(path: Path, key: str) -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from pydantic import TypeAdapter, ValidationError

    from events.faults import sentence
    from infra.commands.support.services import settings_of_services
    from infra.history.past import past_of
    from infra.runtime.history import open_history
    from infra.runtime.keys import ensure_report_key
    from infra.runtime.objects import ObjectStore
    from infra.runtime.postgres import open_pool
    from infra.runtime.viewers import Viewers
    from projections.history import forgotten
    from projections.history import report as reporting

    settings = settings_of_services()
    try:
        is_certificate = "viewer_id" in TypeAdapter(dict[str, Any]).validate_json(content := path.read_bytes())
        read = (forgotten.Certificate if is_certificate else reporting.ProjectionReport).model_validate_json(content)
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) if key else ensure_report_key(settings).public_key()
    except ValidationError as error:
        raise UsageFault(f"{path} is no report: {sentence(error.errors()[0])}") from error
    except ValueError as error:
        raise UsageFault("--key wants an Ed25519 key, 64 hex digits") from error
    async with open_history(settings) as history:
        if isinstance(read, forgotten.Certificate):
            async with await open_pool(settings) as pool:
                viewers = Viewers(pool)
                await viewers.ensure()
                has_key = await viewers.has_key(read.viewer_id)
            findings = await forgotten.check(read, history, public, has_key=has_key)
            return {"report": str(path), "viewer_id": read.viewer_id, "findings": findings}
        store = ObjectStore(settings)
        findings = await reporting.check(
            read,
            _named(read.projection),
            past_of(settings),
            history,
            lambda segment: store.get_bytes(segment.key, 2 * segment.size_bytes + (1 << 20)),
            public,
        )
    return {"report": str(path), "projection": read.projection, "findings": findings}


async def _verify() -> dict[str, Any]:
    from processors.agents.outbox import failing
    from processors.registry import FOLDS
    from projections.history import verify as verifying
    from projections.history.proof import audit_archive

    async with _opened() as (connection, source):
        before = await verifying.every_position(connection)
        found = await verifying.verify(connection, source, FOLDS.values())
        found["findings"] += await verifying.standing(connection, source, before, asyncio.sleep)
        found["findings"] += await failing(connection)
        found["findings"] += await audit_archive(source.log, source.segments, source.fetch)
        return {**found, "archived_files": sum(map(len, source.segments.values()))}


def _named(name: str) -> "Projection":
    """Return the projection of that name. Raises NotFound."""
    from processors.registry import FOLDS

    if name not in FOLDS:
        raise NotFound(f"there is no projection {name}; there are: {', '.join(FOLDS)}")
    return FOLDS[name]


async def _rebuild(projection: "Projection", workers: int, *, keep: bool, accept: bool) -> "Rebuilt":
    import os

    from infra.commands.support.services import settings_of_services
    from infra.history.shares import fold_in_shares
    from infra.settings.live import settings_now
    from infra.viewing import under_settings
    from projections.folding import rebuild as rebuilding

    os.nice(NICENESS)
    if projection.under:
        projection = under_settings(projection, await settings_now(settings_of_services()))
    async with _opened() as (connection, source):
        with progress(projection.name) as show:

            async def on_progress(done: int, total: int) -> None:
                show(projection.name, done, total)

            async def shares(runner: "Runner", until: "Mapping[Partition, int]") -> None:
                async def watch() -> None:
                    await on_progress(sum((await runner.positions(connection)).values()), sum(until.values()))

                await fold_in_shares(settings_of_services(), runner, until, workers, watch)

            shared = shares if workers > 1 else None
            return await rebuilding.rebuild(
                projection, connection, source, on_progress=on_progress, shares=shared, keep=keep, accept=accept
            )


async def _flip_back(projection: "Projection") -> int:
    from projections.folding import rebuild as rebuilding

    async with _opened() as (connection, source):
        with progress(projection.name) as show:

            async def on_progress(done: int, total: int) -> None:
                show(projection.name, done, total)

            return await rebuilding.flip_back(projection, connection, source, on_progress=on_progress)


async def _diff(projection: "Projection", since: str, to: str) -> list["Difference"]:
    from infra.commands.support.services import settings_of_services
    from infra.history.past import past_of
    from projections.history.past import differences

    past = past_of(settings_of_services())
    async with past.at(since) as before, past.at(to) as after:
        return [difference async for difference in differences(projection, before, after)]


async def _projections() -> tuple[list[dict[str, Any]], list[str]]:
    """Return all versions, and the projections whose rules in force are others than those of the version that serves."""
    from dataclasses import asdict

    from infra.commands.support.services import settings_of_services
    from infra.settings.live import settings_now
    from infra.viewing import under_settings
    from processors.registry import FOLDS
    from projections.history.versions import list_versions

    async with _opened() as (connection, history):
        found = await list_versions(FOLDS.values(), connection, history)
    settings = await settings_now(settings_of_services())
    wanted = {name: dict(under_settings(fold, settings).rules) for name, fold in FOLDS.items()}
    outdated = [one.projection for one in found if one.serves and one.rules != wanted[one.projection]]
    return [asdict(version) for version in found], outdated


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple["AsyncConnection[Any]", "History"]]:
    """Yield a connection, and the stream of archive and log."""
    from infra.commands.support.services import settings_of_services
    from infra.runtime.history import open_history
    from infra.runtime.postgres import connected

    settings = settings_of_services()
    async with connected(settings) as found, open_history(settings) as source:
        yield found, source
