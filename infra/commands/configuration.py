"""`kinolog config`: check and show the settings; `kinolog docs`."""

import os
from typing import Any

import typer

from infra.commands.support.output import AsJson, document, line, note, table

app = typer.Typer(rich_markup_mode=None, help="Check or show the settings.", no_args_is_help=True)


@app.command()
def check(as_json: AsJson = False) -> None:
    """Read the settings from environment and file; name each wrong one and end with 2, or report that all are right.

    \b
    Examples:
      kinolog config check
      KINOLOG_CONFIG=kinolog.toml kinolog config check
    """
    from infra.runtime.settings import PREFIX, Settings

    Settings.from_env(os.environ)
    changed = sorted(name for name in os.environ if name.startswith(PREFIX))
    if as_json:
        document({"ok": True, "from_environment": changed})
    else:
        line("settings are right" + (f"; from the environment: {', '.join(changed)}" if changed else ""))


@app.command()
def show(as_json: AsJson = False) -> None:
    """Print every setting with its value; secrets are redacted.

    \b
    Examples:
      kinolog config show
      kinolog config show --json | jq .lease_s
    """
    from infra.runtime.settings import PREFIX, Settings

    settings = Settings.from_env(os.environ)
    values: dict[str, Any] = settings.model_dump(mode="json")
    if as_json:
        document(values)
        return
    fields = type(settings).model_fields
    rows = [{"name": PREFIX + name.upper(), "value": values[name], "what": fields[name].description} for name in fields]
    table(
        rows,
        {"setting": lambda r: r["name"], "value": lambda r: r["value"], "what": lambda r: r["what"]},
        as_json=False,
    )


def docs(
    context: typer.Context,
    check_only: bool = typer.Option(False, "--check", help="Write nothing; end with 1 when something is out of date."),
    force: bool = typer.Option(
        False, "--force", help="Overwrite schemas even if old events become unreadable: only for events that no log has."
    ),
    as_json: AsJson = False,
) -> None:
    """Write the generated files: JSON Schemas, docs/asyncapi.json and docs/reference/.

    \b
    Examples:
      kinolog docs
      kinolog docs --check
    """
    from infra.reference import files
    from infra.reference.schemas import ROOT

    if not (ROOT / "docs").is_dir():
        note("there is no docs folder here: this command is for a checkout of the repository")
        raise typer.Exit(2)
    root = context.find_root().command
    changed = files.stale(root) if check_only else files.write(root, force=force)
    if as_json:
        document({"stale" if check_only else "written": [str(path) for path in changed]})
    else:
        for path in changed:
            line(str(path))
        note(f"{len(changed)} file(s) {'out of date' if check_only else 'written'}")
    if check_only and changed:
        raise typer.Exit(1)
