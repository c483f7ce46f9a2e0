"""SQL lives in `.sql` files beside the projection that owns the tables, as named queries.

-- name: page
-- One page of published videos, newest first.
SELECT …;

`{name}` in a query stands for the text before it that has this name.
"""

import re
from pathlib import Path
from typing import LiteralString

_PART = re.compile(r"\{([a-z_]+)\}")
_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


def load(path: Path) -> dict[str, LiteralString]:
    """Return {name: SQL} of the file; raises ValueError when it has none or repeats one."""
    parts = _NAME.split(path.read_text())
    names, bodies = parts[1::2], parts[2::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{path}: wants `-- name: …` sections, each name once")
    found: dict[str, LiteralString] = {}
    for name, body in zip(names, bodies, strict=True):
        found[name] = _PART.sub(lambda part: found[part[1]], body.strip())
    return found
