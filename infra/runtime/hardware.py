"""What this machine is."""

import re
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def processor_name(cpu_info: Path = CPU_INFO) -> str:
    """Return the maker's name of the processor, as Linux tells it; `CPU` where it does not."""
    try:
        found = re.search(r"^model name\s*:\s*(.+?)\s*$", cpu_info.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return "CPU"
    return found[1][:128] if found else "CPU"
