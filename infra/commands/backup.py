"""`kinolog backup` and `kinolog restore`."""

import asyncio
from typing import Annotated, Any

import typer

from infra.commands.support.output import AsJson, fields, note, progress, size

Where = Annotated[str, typer.Argument(help="A directory, s3://bucket/prefix, or https://host/bucket/prefix.")]


def backup(where: Where, as_json: AsJson = False) -> None:
    """Write everything to a directory or bucket: the log, the objects, and how far each process acted.

    The platform may run meanwhile. A second backup to the same target copies only new data. An interrupted backup resumes
    when it is run again.

    \b
    Examples:
      kinolog backup /mnt/disk/kinolog
      kinolog backup s3://backups/kinolog
    """
    fields(asyncio.run(_backup(where)), as_json=as_json)


def restore(where: Where, as_json: AsJson = False) -> None:
    """Restore a backup into empty services: every record at its old offset, every object, every projection.

    Stop the platform before; its engine must run. Every file is checked before anything is written. An
    interrupted restore resumes when it is run again.

    \b
    Examples:
      kinolog engine start && kinolog restore /mnt/disk/kinolog && kinolog up --detach
      kinolog restore s3://backups/kinolog --json
    """
    fields(asyncio.run(_restore(where)), as_json=as_json)
    note("people came back without names and passwords: after `kinolog up`, kinolog users setup, or kinolog users reset ID")


async def _backup(where: str) -> dict[str, Any]:
    from infra.backup.make import Making
    from infra.backup.shelf import open_shelf
    from infra.commands.support.services import settings_of_services
    from infra.runtime.objects import ObjectStore
    from infra.runtime.scratch import scratch

    settings = settings_of_services()
    shelf = await open_shelf(settings, where)
    with scratch(settings) as folder, progress("backup") as on_progress:
        done = await Making(settings, ObjectStore(settings), shelf, folder, on_progress).run()
    events = sum(segment.records for segment in done.segments)
    return {"events": events, "objects": len(done.objects), "size": size(done.size_bytes), "into": where}


async def _restore(where: str) -> dict[str, Any]:
    from infra.backup.restore import Restoring
    from infra.backup.shelf import open_shelf
    from infra.commands.support.services import settings_of_services
    from infra.runtime.objects import ObjectStore
    from infra.runtime.scratch import scratch

    settings = settings_of_services()
    shelf = await open_shelf(settings, where)
    with scratch(settings) as folder, progress("restore") as on_progress:
        digests = await Restoring(settings, ObjectStore(settings), shelf, folder, on_progress).run()
    return {f"{name}.{table}": digest for name, tables in digests.items() for table, digest in tables.items()}
