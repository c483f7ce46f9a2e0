"""`kinolog viewers`: viewers who are to be forgotten."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.support.output import AsJson, document, line, note

if TYPE_CHECKING:
    from projections.history.forgotten import Certificate

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="A viewer's id, as kinolog's figures show it, or the id of a person.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the certificate to this file.")]


@app.callback()
def viewers() -> None:
    """Forget viewers.

    \b
    Examples:
      kinolog viewers forget cYl1Hk7pQ2mXv0ZtR9sWBA -o certificate.json
    """


@app.command()
def forget(
    which: Id,
    reason: Annotated[str, typer.Option(help="Why; the log keeps it, so it should name nobody.")] = "",
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Delete the key behind a viewer's id for good, and print a signed certificate.

    All totals stay: the viewer's events count, and nobody can say any more whose they are. The certificate lists them by type and
    position; `kinolog verify FILE` checks it against the log. Run this where the signing key is, var/keys/report. Repeating it is
    harmless, and certifies again.

    \b
    Examples:
      kinolog viewers forget cYl1Hk7pQ2mXv0ZtR9sWBA -o certificate.json
      kinolog viewers forget 019cf0f2-1b38-7d0e-9c11-02c5f4a7e0a1 --reason "asked for by letter" --json
    """
    from infra.commands.support.admin_api import connected, resource

    with connected() as api:
        viewer_id = api.delete(resource("viewers", which), reason=reason or None)["viewer_id"]
    made = asyncio.run(_certified(viewer_id))
    if output is not None:
        output.write_text(made.model_dump_json(indent=1) + "\n")
        note(f"{output}: signed certificate")
    if as_json:
        document(made.model_dump(mode="json"))
        return
    line(f"viewer {viewer_id} is forgotten; nobody can trace these events back any more:")
    for name, count in made.events.items():
        line(f"  {count:>9,}  {name}")
    for partition, runs in made.offsets.items():
        line(f"  {partition}: {sum(last - first + 1 for first, last in runs):,} events before {made.positions[partition]}")


async def _certified(viewer_id: str) -> "Certificate":
    from datetime import UTC, datetime
    from importlib.metadata import version

    from infra.commands.support.services import settings_of_services
    from infra.runtime.history import open_history
    from infra.runtime.keys import ensure_report_key
    from projections.history import forgotten

    settings = settings_of_services()
    async with open_history(settings) as history:
        positions = await history.ends(forgotten.partitions_of(viewer_id))
        made = await forgotten.certify(history, viewer_id, positions, kinolog=version("kinolog"), made_at=datetime.now(UTC))
    return made.signed(ensure_report_key(settings))
