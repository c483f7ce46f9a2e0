"""`kinolog settings`: settings that are changed while the platform runs, through the admin API."""

import os
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.support.admin_api import connected, resource
from infra.commands.support.output import AsJson, Row, document, fields, line, note, table

app = typer.Typer(rich_markup_mode=None, help="List and change settings while the platform runs.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The setting's name, as lease_s.")]
Reason = Annotated[str, typer.Option(help="Why; the log keeps it.")]
Version = Annotated[int | None, typer.Option(min=0, help="Refuse unless the setting has this version.")]


def effect(setting: Row) -> str:
    """Return when a change takes effect."""
    return f"at the next start of {setting['starts']}" if setting["starts"] else "at once"


@app.command("list")
def list_settings(
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the settings that may be changed here, where each value comes from, and when a change takes effect.

    \b
    Examples:
      kinolog settings list
      kinolog settings list --category dispatch
    """
    with connected() as api:
        found = api.get("/api/settings", category=category)["items"]
    table(
        found,
        {
            "setting": lambda r: r["name"],
            "value": lambda r: r["value"],
            "from": lambda r: f"{r['source']} (not {r['stored']}: {r['fault']})" if r["fault"] else r["source"],
            "takes effect": effect,
            "category": lambda r: r["category"],
            "limits": lambda r: ", ".join(f"{words.replace('_', ' ')} {limit}" for words, limit in r["limits"].items()),
        },
        as_json=as_json,
    )


@app.command()
def get(name: Name, as_json: AsJson = False) -> None:
    """Show a setting: its value, where it comes from, its limits and its version.

    \b
    Examples:
      kinolog settings get lease_s
    """
    with connected() as api:
        fields(api.get(resource("settings", name)), as_json=as_json)


@app.command("set")
def set_setting(
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As the environment variable would have it.")],
    reason: Reason = "",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Store a value. Every process applies it within two seconds, or at its next start where the list says so.

    \b
    Examples:
      kinolog settings set lease_s 90 --reason "uploads over a slow line"
      kinolog settings set chunk_s 30 --version 2
    """
    with connected() as api:
        _print(api.put(resource("settings", name), {"value": value, "reason": reason}, version=version), as_json=as_json)


@app.command()
def reset(name: Name, reason: Reason = "", version: Version = None, as_json: AsJson = False) -> None:
    """Remove the stored value: the default is in force again.

    \b
    Examples:
      kinolog settings reset lease_s
    """
    with connected() as api:
        _print(api.delete(resource("settings", name), reason=reason, version=version), as_json=as_json)


@app.command()
def undo(name: Name, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take the latest change back.

    \b
    Examples:
      kinolog settings undo lease_s --reason "no better"
    """
    with connected() as api:
        _print(api.post(resource("settings", name, "undo"), {"reason": reason}), as_json=as_json)


@app.command()
def history(name: Name, as_json: AsJson = False) -> None:
    """List the changes of a setting, the last first.

    \b
    Examples:
      kinolog settings history lease_s
    """
    with connected() as api:
        found = api.get(resource("settings", name, "history"))["items"]
    table(
        found,
        {
            "version": lambda r: r["version"],
            "value": lambda r: "(reset)" if r["value"] is None else r["value"],
            "before": lambda r: "-" if r["before"] is None else r["before"],
            "time": lambda r: r["time"],
            "by": lambda r: r["actor"] or "-",
            "reason": lambda r: r["reason"],
        },
        as_json=as_json,
        empty=f"{name} was never changed",
    )


@app.command()
def import_env(
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="File of variables.")] = None,
    reason: Reason = "imported from environment variables",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be stored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store the settings that KINOLOG_* and VLOG_* variables name; ends with 1 when a value was refused.

    VLog's names and units are translated; variables without a counterpart are listed with the reason.

    \b
    Examples:
      kinolog settings import-env --dry-run
      kinolog settings import-env --file vlog.env
    """
    from infra.commands.support.imports import Import, imports, store_all, variables

    with connected() as api:
        storable = {setting["name"]: setting for setting in api.get("/api/settings")["items"]}
        found = list(imports(variables(file.read_text()) if file else os.environ, storable))
        outcomes = {each: each.why_not or "would be stored" for each in found}
        if not dry_run:

            def store(each: Import) -> object:
                return api.put(resource("settings", each.name), {"value": each.value, "reason": reason})

            outcomes |= store_all([each for each in found if each.name], store)
    rows = [
        {
            "variable": each.variable,
            "setting": each.name,
            "value": "***" if each.name and storable[each.name]["secret"] else each.value,
            "outcome": outcome,
        }
        for each, outcome in outcomes.items()
    ]
    columns = ("variable", "setting", "value", "outcome")
    table(rows, {column: itemgetter(column) for column in columns}, as_json=as_json)
    if any(row["outcome"].startswith("refused") for row in rows):
        raise typer.Exit(1)


def _print(setting: Row, *, as_json: bool) -> None:
    """Report a change."""
    if as_json:
        document(setting)
        return
    line(f"{setting['name']} = {setting['value']} ({setting['source']}, version {setting['version']})")
    if setting["source"] == "environment":
        note(f"the environment of the admin app sets {setting['name']}: the stored value waits until it does not")
    elif setting["starts"]:
        note(f"takes effect {effect(setting)}")
