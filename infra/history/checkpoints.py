"""A file with the state of a replay whose fold failed, from which the next one continues."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from projections.history.replay import InMemory, View

_POSITIONS = TypeAdapter(list[tuple[str, int, int]])


@dataclass(frozen=True)
class Checkpoint:
    """Rows and positions of one replay."""

    path: Path

    def load(self, view: View) -> InMemory | None:
        """Return the saved state, if there is one."""
        if not self.path.exists():
            return None
        kept = orjson.loads(self.path.read_bytes())
        positions = {(topic, number): position for topic, number, position in _POSITIONS.validate_python(kept["positions"])}
        state = InMemory(view, positions)
        rows: list[Any] = TypeAdapter(list[view.table.row]).validate_python(kept["rows"])  # type: ignore[name-defined]
        state.rows = {tuple(getattr(row, name) for name in view.table.key): row for row in rows}
        state.events = kept["events"]
        return state

    def save(self, state: InMemory) -> None:
        """Save the state."""
        positions = [(topic, number, position) for (topic, number), position in state.positions.items()]
        document = {"positions": positions, "events": state.events, "rows": list(state.rows.values())}
        self.path.write_bytes(orjson.dumps(document))

    def clear(self) -> None:
        """Delete it: the replay is complete."""
        self.path.unlink(missing_ok=True)
