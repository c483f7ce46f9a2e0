"""Hosts: how a machine fares, every minute; topic `hosts`, key = host.

A host is a machine that the platform or a worker runs on: its name, or the id of a worker elsewhere. Percentages are 0 to 100.
"""

from typing import Annotated, Literal

from pydantic import Field

from events.envelope import Event, Value
from events.text import machine_line

Percent = Annotated[float, Field(ge=0, le=100)]
Bytes = Annotated[int, Field(ge=0, le=2**60)]
Name = Annotated[str, machine_line(255)]
DISKS_MAX, GPUS_MAX = 32, 32


class Disk(Value):
    """A file system, by the folder at which it is mounted."""

    path: Name
    total_bytes: Bytes
    used_bytes: Bytes
    free_bytes: Bytes


class Gpu(Value):
    """A graphics card; None for a figure that its driver does not report. `encoder_percent` is the use of its encoders."""

    model: Name
    vendor: Literal["nvidia", "amd", "intel"]
    busy_percent: Percent | None = None
    encoder_percent: Percent | None = None
    memory_total_bytes: Bytes | None = None
    memory_used_bytes: Bytes | None = None
    temperature_celsius: Annotated[float, Field(ge=-100, le=300)] | None = None


class HostState(Value):
    """Figures of a machine. `cpu_percent` is the use of all cores since the sample before; the first disk has the data."""

    cpu_percent: Percent
    cpu_count: Annotated[int, Field(ge=1, le=100_000)]
    load_1m: Annotated[float, Field(ge=0, le=1e6)]
    memory_total_bytes: Bytes
    memory_used_bytes: Bytes
    disks: Annotated[tuple[Disk, ...], Field(max_length=DISKS_MAX)] = ()
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=GPUS_MAX)] = ()


class HostSampled(Event, type="kinolog.host.sampled.v1"):
    """A sample of a host. `active_streams` and `active_transcodes` are those of the platform, where it sampled its own host."""

    host: Annotated[str, Field(max_length=255)]
    name: Name
    state: HostState
    active_streams: Annotated[int, Field(ge=0, le=10**9)] | None = None
    active_transcodes: Annotated[int, Field(ge=0, le=10**9)] | None = None


HostEvent = HostSampled
