"""The stored settings, folded in memory by every process (`projections.folding.follower`), each with its changes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, assert_never

from pydantic import BaseModel, Field

from events.envelope import Recorded
from events.settings import SettingChanged, SettingEvent, SettingReset

HISTORY_MAX = 50
"""Changes of one setting that are kept in memory; the log has all."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that counted. `value` None: the setting was reset. `offset` orders the changes of all settings."""

    event_id: str
    offset: int
    version: int
    value: str | None
    before: str | None
    sealed: bool
    reason: str
    time: datetime
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The changes of each setting that was ever changed, the latest last."""

    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)

    def latest(self, name: str) -> Change | None:
        """Return the latest change of a setting."""
        changes = self.changes.get(name)
        return changes[-1] if changes else None

    def version(self, name: str) -> int:
        """Return the number of changes of a setting."""
        latest = self.latest(name)
        return latest.version if latest else 0

    def value(self, name: str) -> str | None:
        """Return the stored value, as text, None when there is none."""
        latest = self.latest(name)
        return latest.value if latest else None


def evolve(state: Stored, recorded: Recorded[SettingEvent]) -> Stored:
    """Fold a change; one whose version is not the next was decided without the change before it, and does not count."""
    envelope = recorded.envelope
    event = envelope.data
    if event.version != state.version(event.name) + 1:
        return state
    match event:
        case SettingChanged():
            value: str | None = event.value
        case SettingReset():
            value = None
        case _:
            assert_never(event)
    change = Change(
        event_id=envelope.id,
        offset=recorded.offset,
        version=event.version,
        value=value,
        before=event.before,
        sealed=event.sealed,
        reason=event.reason,
        time=envelope.time,
        actor=getattr(envelope, "actor", None),
    )
    changes = (*state.changes.get(event.name, ()), change)[-HISTORY_MAX:]
    return Stored({**state.changes, event.name: changes})


# --- for people -----------------------------------------------------------------------------------------------------


class Setting(BaseModel):
    """A setting, its limits, and where its value in force comes from. Values of secret settings are redacted.

    `value` is in force in the admin app: the environment's before the stored one before the default. `starts` names the programs at
    whose next start a change takes effect; empty: at once. `version` counts the changes. `fault` says why the admin app does not
    apply the stored value.
    """

    name: str = Field(examples=["lease_s"])
    category: str = Field(examples=["dispatch"])
    description: str
    type: str = Field(examples=["number"])
    unit: str | None = Field(examples=["seconds"])
    limits: dict[str, Any] = Field(examples=[{"above": 0, "at_most": 3600}])
    allowed: list[Any] | None = None
    secret: bool
    starts: str = Field(examples=[""])
    value: Any = Field(examples=[90.0])
    source: Literal["environment", "stored", "default"]
    default: Any = Field(examples=[60.0])
    stored: str | None = Field(examples=["90"])
    fault: str | None = None
    version: int = Field(examples=[1])
    changed_at: datetime | None = None
    changed_by: str | None = None
    reason: str | None = None


class SettingChange(BaseModel):
    """A change of a setting. `value` and `before` are texts, None without a stored value; redacted for secret settings."""

    version: int
    value: str | None
    before: str | None
    reason: str
    time: datetime
    actor: str | None = None


class Desk(Protocol):
    """Reads and changes settings. `infra.settings.desk.SettingsDesk` implements it."""

    def listing(self, category: str | None = None) -> Sequence[Setting]: ...
    def shown(self, name: str) -> Setting: ...
    def history(self, name: str) -> Sequence[SettingChange]: ...
    async def change(self, name: str, value: str, *, expected: int | None, reason: str) -> Setting: ...
    async def reset(self, name: str, *, expected: int | None, reason: str) -> Setting: ...
    async def undo(self, name: str, *, expected: int | None, reason: str) -> Setting: ...
