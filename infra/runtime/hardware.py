"""What this machine is, and how it fares."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from events.media import SystemContext, ToolVersion

CPU_INFO = Path("/proc/cpuinfo")


def processor_name(cpu_info: Path = CPU_INFO) -> str:
    """Return the maker's name of the processor, as Linux tells it; `CPU` where it does not."""
    try:
        found = re.search(r"^model name\s*:\s*(.+?)\s*$", cpu_info.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return "CPU"
    return found[1][:128] if found else "CPU"


def system_context(worker: str, directory: Path, tools: Sequence[ToolVersion]) -> SystemContext:
    """Return memory, load and the disk of `directory`, which may not be there, at this moment, for the record of a failure."""
    there = next(path for path in (directory, *directory.resolve().parents) if path.exists())
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(there)
    return SystemContext(
        worker=worker,
        cpu_count=os.cpu_count(),
        load_1m=round(os.getloadavg()[0], 2),
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        disk_total_bytes=disk.total,
        disk_free_bytes=disk.free,
        tools=tuple(tools),
    )
