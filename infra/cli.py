"""`kinolog`: the platform from a terminal. Commands live in infra/commands, one file per group.

Answers go to standard output, with `--json` as JSON; everything else goes to standard error. Expected faults are one
sentence that says what to do, and an exit code (`infra.commands.support.exits.ExitCode`); anything else is a bug and shows its
traceback. Imports are lazy: `kinolog --help` loads neither clients of services nor the vocabulary.
"""

import logging
import sys

import typer

from infra.commands import (
    backup,
    catalog,
    configuration,
    dead,
    dispatch,
    explain,
    failures,
    history,
    hosts,
    ingest,
    jobs,
    log,
    people,
    platform,
    projections,
    replay,
    settings,
    telemetry,
    viewers,
    webhooks,
    whatif,
    worker,
)
from infra.commands.support.exits import ExitCode
from infra.commands.support.exits import explain as explain_fault
from infra.commands.support.groups import Group
from infra.commands.support.services import refused
from infra.runtime.folders import keep_private

EXITS = "\n".join(f"  {code.value:>3}  {code.meaning}" for code in ExitCode)

app = typer.Typer(
    name="kinolog",
    help=f"""A video platform whose whole memory is an append-only log.

    \b
    Examples:
      kinolog up --detach                 start everything on this machine
      kinolog ingest holiday.mp4          upload, wait, and print where it plays
      kinolog timeline VIDEO              every event of a video, and its cause
      kinolog rebuild catalog             fold a read model again from the log
      kinolog replay my_view.py           ask the past a new question

    \b
    Exit codes:
    {EXITS.replace(chr(10), chr(10) + "    ")}
    """,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command()(ingest.ingest)
app.command()(catalog.videos)
app.command()(catalog.visibility)
app.add_typer(jobs.app, name="jobs", cls=Group)
app.add_typer(explain.app, name="explain", cls=Group)
app.add_typer(failures.app, name="failures", cls=Group)
app.command()(catalog.workers)
app.command()(hosts.hosts)
app.command()(dispatch.pause)
app.command()(dispatch.resume)
app.command()(catalog.timeline)
app.command()(catalog.audit)
log.app.add_typer(dead.app, name="dead", cls=Group)
app.add_typer(log.app, name="events", cls=Group)
app.command()(projections.projections)
app.command()(projections.rebuild)
app.add_typer(projections.app, name="projection", cls=Group)
app.command()(projections.diff)
app.command()(projections.verify)
app.command()(projections.report)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(replay.replay)
app.command()(history.sql)
app.command()(whatif.whatif)
app.add_typer(telemetry.app, name="telemetry", cls=Group)
app.add_typer(platform.engine, name="engine", cls=Group)
app.command()(platform.up)
app.command()(platform.down)
app.command()(platform.status)
app.add_typer(worker.app, name="worker", cls=Group)
app.add_typer(people.users, name="users", cls=Group)
app.add_typer(people.tokens, name="tokens", cls=Group)
app.add_typer(viewers.app, name="viewers", cls=Group)
app.add_typer(configuration.app, name="config", cls=Group)
app.add_typer(settings.app, name="settings", cls=Group)
app.add_typer(webhooks.app, name="webhooks", cls=Group)
app.command()(configuration.docs)


def main() -> None:
    """Run the command line; ends the process with an ExitCode."""
    logging.getLogger().addHandler(logging.NullHandler())  # log lines of libraries mean nothing to a person at a terminal
    keep_private()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        explained = explain_fault(error)
        if explained is None:
            raise
        code, sentence = explained
        if code is ExitCode.AWAY and (refusal := refused(error)):
            code, sentence = ExitCode.REFUSED, refusal
        sys.stderr.write(f"kinolog: {sentence}\n")
        sys.exit(code)


if __name__ == "__main__":
    main()
