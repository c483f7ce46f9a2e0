"""`kinolog hosts`: how machines fare, through the admin API."""

from typing import Annotated

import typer

from infra.commands.support.admin_api import connected, resource
from infra.commands.support.output import AsJson, AsOf, Row, moment, size, table


def hosts(
    host: Annotated[str | None, typer.Argument(metavar="[HOST]", help="List the means of this host.")] = None,
    step: Annotated[str, typer.Option(help="minutes (of a week), hours or days (of a year).")] = "hours",
    days: Annotated[int, typer.Option(min=1, max=366, help="Days up to now.")] = 1,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List the machines of the platform and its workers: processor, memory, disks, cards. Each is sampled every minute.

    With HOST, list its means. --json has all figures, with the least and the most of each.

    \b
    Examples:
      kinolog hosts
      kinolog hosts kinolog-1 --step days --days 30
    """
    with connected() as api:
        if host is not None:
            rows = api.get(resource("hosts", host, "history"), step=step, days=days, as_of=as_of)["items"]
        else:
            rows = api.get("/api/hosts", as_of=as_of)["items"]
    if host is not None:
        table(
            rows,
            {
                "from": lambda row: moment(row["starts_at"]),
                "cpu": lambda row: _mean(row, "cpu_percent", " %"),
                "memory": lambda row: _mean(row, "memory_percent", " %"),
                "encoder": lambda row: _mean(row, "gpu_encoder_percent", " %"),
                "hottest": lambda row: _mean(row, "gpu_temp_celsius", " °C"),
                "streams": lambda row: _mean(row, "active_streams"),
                "transcodes": lambda row: _mean(row, "active_transcodes"),
            },
            as_json=as_json,
            empty=f"{host} has sent no sample in that time",
        )
        return
    table(
        rows,
        {
            "host": lambda row: row["host"],
            "name": lambda row: row["name"],
            "cpu": lambda row: f"{row['state']['cpu_percent']:.0f} % of {row['state']['cpu_count']}",
            "memory": lambda row: f"{size(row['state']['memory_used_bytes'])} of {size(row['state']['memory_total_bytes'])}",
            "free disk": lambda row: ", ".join(f"{disk['path']} {size(disk['free_bytes'])}" for disk in row["state"]["disks"][:3]),
            "cards": lambda row: ", ".join(map(_card, row["state"]["gpus"])),
            "streams": lambda row: row["active_streams"],
            "transcodes": lambda row: row["active_transcodes"],
            "sampled": lambda row: moment(row["sampled_at"]) + (" SILENT" if row["silent"] else ""),
        },
        as_json=as_json,
        empty="no machine has sent a sample yet",
    )


def _card(gpu: Row) -> str:
    parts = [gpu["model"]]
    parts += [f"encoder {gpu['encoder_percent']:.0f} %"] if gpu.get("encoder_percent") is not None else []
    parts += [f"{gpu['temperature_celsius']:.0f} °C"] if gpu.get("temperature_celsius") is not None else []
    return " ".join(parts)


def _mean(row: Row, name: str, unit: str = "") -> str:
    figure = row["figures"].get(name)
    return f"{figure['mean']:.1f}{unit}" if figure else ""
