"""This machine's processor, memory, load and disk."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from events.media import SystemContext, ToolVersion

CPU_INFO = Path("/proc/cpuinfo")


def processor_name(cpu_info: Path = CPU_INFO) -> str:
    """Return the maker's name of the processor, as Linux reports it; otherwise `CPU`."""
    try:
        found = re.search(r"^model name\s*:\s*(.+?)\s*$", cpu_info.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return "CPU"
    return found[1][:128] if found else "CPU"


def system_context(worker: str, directory: Path, tools: Sequence[ToolVersion]) -> SystemContext:
    """Return present memory, load and disk of `directory`, which may be missing, for the record of a failure."""
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
