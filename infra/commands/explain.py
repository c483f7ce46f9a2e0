"""`kinolog explain`: the reasons behind a state, read from the log."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.support.admin_api import connected, resource
from infra.commands.support.output import AsJson, document, line, moment, note, printable

if TYPE_CHECKING:
    from events.envelope import Recorded
    from projections.history.story import StoryEvent

app = typer.Typer(rich_markup_mode=None, help="Explain decisions, from the log.", no_args_is_help=True)


@app.callback()
def explain() -> None:
    """Explain decisions, from the log."""


@app.command()
def job(
    which: Annotated[str, typer.Argument(metavar="ID", help="The job's id, or eight characters of it.")], as_json: AsJson = False
) -> None:
    """Show the whole story of a job: requests, decisions, attempts, fences, failures, each with its position on the log.

    Requests stay on the log for a week, and in the archive for ever.

    \b
    Examples:
      kinolog explain job f6c1070f
      kinolog explain job f6c1070f --json | jq '.[].reason'
    """
    from projections.history.story import steps_of

    story = steps_of(asyncio.run(story_of(which)))
    if as_json:
        document([step._asdict() for step in story])
        return
    for step in story:
        reason = f" [{step.reason}]" if step.reason and step.reason not in step.sentence else ""
        line(printable(f"{moment(step.time, milliseconds=True)}  {step.at:<22}  {step.sentence}{reason}"))
    if not story:
        note("the log has no events of this job any more")


async def story_of(job_id: str) -> "list[Recorded[StoryEvent]]":
    """Return the events of a job, in causal order, from the archive and the log. Raises NotFound for an unknown job."""
    from infra.commands.support.services import settings_of_services
    from infra.runtime.history import open_history
    from projections.history.story import events_of_job

    with connected() as api:
        found = api.get(resource("jobs", job_id))["job"]
    async with open_history(settings_of_services()) as history:
        return await events_of_job(history, found["job_id"], found["pool"], datetime.fromisoformat(found["queued_at"]))
