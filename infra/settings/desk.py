"""The admin app's desk for settings: shows them with their limits, and changes them on the log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from pydantic import SecretStr

from events.clock import Context
from events.envelope import INT_MAX, Envelope, Event, Recorded
from events.errors import Conflict, InvalidRequest, NotFound, Retryable
from events.settings import VALUE_MAX, SettingChanged, SettingEvent, SettingReset
from events.topics import SETTINGS
from infra.runtime.sealing import Seal
from infra.runtime.settings import PREFIX, InvalidSettings, Settings
from infra.settings.live import KINDS, Live, in_force, parsed
from projections.settings import Change, Setting, SettingChange, Stored, evolve

SEEN_S = 5.0
"""Longest wait until this process has read its own change."""
REDACTED = "***"
UNITS = {"_s": "seconds", "_ms": "milliseconds", "_bytes": "bytes", "_days": "days", "_per_minute": "a minute"}
LIMITS = {
    "minimum": "at_least",
    "exclusiveMinimum": "above",
    "maximum": "at_most",
    "exclusiveMaximum": "below",
    "maxLength": "length_max",
    "pattern": "pattern",
}
PROPERTIES: dict[str, Any] = Settings.model_json_schema()["properties"]


class SettingsDesk:
    """Implements `projections.settings.Desk`. `append` writes to the log; `seal` encrypts secrets."""

    def __init__(
        self,
        live: Live,
        append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]],
        context: Callable[[], Context],
        seal: Callable[[], Seal],
    ) -> None:
        self._live = live
        self._append = append
        self._context = context
        self._seal = seal

    def listing(self, category: str | None = None) -> Sequence[Setting]:
        """Return the settings of a category, or all. Raises NotFound for a category that no setting has."""
        found = [self.shown(name) for name, kind in KINDS.items() if category in (None, kind.category)]
        if not found:
            categories = ", ".join(sorted({kind.category for kind in KINDS.values()}))
            raise NotFound(f"there is no category {category}; there are: {categories}")
        return found

    def shown(self, name: str) -> Setting:
        """Return a setting. Raises NotFound."""
        kind, schema, latest = KINDS[known(name)], PROPERTIES[name], self._live.stored.latest(name)
        stored = latest.value if latest else None
        source: Literal["environment", "stored", "default"] = "default"
        if name in self._live.base.model_fields_set:
            source = "environment"
        elif stored is not None and name in self._live.settings.model_fields_set:
            source = "stored"
        return Setting(
            name=name,
            category=kind.category,
            description=str(schema.get("description", "")),
            type=str(schema.get("type", "text")),
            unit=next((unit for ending, unit in UNITS.items() if name.endswith(ending)), None),
            limits={words: schema[key] for key, words in LIMITS.items() if key in schema},
            allowed=schema.get("enum"),
            secret=kind.secret,
            starts=kind.starts,
            value=plain(getattr(self._live.settings, name)),
            source=source,
            default=plain(Settings.model_fields[name].default),
            stored=REDACTED if kind.secret and stored is not None else stored,
            fault=self._live.faults.get(name),
            version=self._live.stored.version(name),
            changed_at=latest.time if latest else None,
            changed_by=latest.actor if latest else None,
            reason=latest.reason if latest else None,
        )

    def history(self, name: str) -> Sequence[SettingChange]:
        """Return the latest changes, the last first. Raises NotFound."""
        return [_shown(change) for change in reversed(self._live.stored.changes.get(known(name), ()))]

    async def change(self, name: str, value: str, *, expected: int | None, reason: str) -> Setting:
        """Store a value. Raises NotFound, InvalidRequest with the limit in the sentence, Conflict."""
        secret = KINDS[known(name)].secret
        try:
            parsed(name, value)
        except InvalidSettings as error:
            raise InvalidRequest(str(error).replace(PREFIX + name.upper(), name)) from error
        text = self._seal().close(name, value) if secret else value
        if len(text) > VALUE_MAX:
            raise InvalidRequest(f"{name} has at most {VALUE_MAX} characters")
        return await self._store(name, text, expected, reason)

    async def reset(self, name: str, *, expected: int | None, reason: str) -> Setting:
        """Remove the stored value. Raises NotFound, InvalidRequest, Conflict."""
        return await self._store(known(name), None, expected, reason)

    async def undo(self, name: str, *, expected: int | None, reason: str) -> Setting:
        """Store the value before the latest change. Raises NotFound, InvalidRequest, Conflict."""
        version = self._live.stored.version(known(name))
        reason = reason or f"undoes version {version}"
        return await self._store(name, undone(self._live.stored, name), version if expected is None else expected, reason)

    async def _store(self, name: str, text: str | None, expected: int | None, reason: str) -> Setting:
        sealed = KINDS[name].secret
        envelope = decide(self._live.stored, self._context(), name, text, expected=expected, sealed=sealed, reason=reason)
        self._refuse_contradictions(envelope)
        await self._append([envelope])
        await self._seen(name, envelope.data.version)
        if not any(change.event_id == envelope.id for change in self._live.stored.changes[name]):
            raise Conflict(f"{name} was changed by somebody else at the same time; look at it again")
        return self.shown(name)

    def _refuse_contradictions(self, envelope: Envelope[SettingEvent]) -> None:
        """Raise InvalidRequest when the settings in force would contradict each other."""
        changed = evolve(self._live.stored, Recorded(SETTINGS.name, 0, INT_MAX, envelope))
        for name, fault in in_force(self._live.base, changed, self._live.unseal).faults.items():
            if name not in self._live.faults:
                raise InvalidRequest(fault)

    async def _seen(self, name: str, version: int) -> None:
        """Wait until the follower has read this version. Raises Retryable."""
        try:
            async with asyncio.timeout(SEEN_S):
                await self._live.reached(name, version)
        except TimeoutError as error:
            raise Retryable(f"{name}: the change is on the log, and was not read back within {SEEN_S:.0f} s") from error


def decide(
    state: Stored, context: Context, name: str, value: str | None, *, expected: int | None, sealed: bool = False, reason: str = ""
) -> Envelope[SettingEvent]:
    """Return the event that stores a value, or removes the stored one (None). Raises Conflict when another change came before."""
    version, before = state.version(name), state.value(name)
    if expected is not None and expected != version:
        raise Conflict(f"{name} was changed meanwhile: its version is {version}, not {expected}; look at it again")
    event: SettingEvent
    if value is None:
        if before is None:
            raise Conflict(f"{name} has no stored value")
        event = SettingReset(name=name, version=version + 1, before=before, sealed=sealed, reason=reason)
    else:
        event = SettingChanged(name=name, version=version + 1, value=value, before=before, sealed=sealed, reason=reason)
    id_ = context.new_id()
    return Envelope(id_, context.source, name, context.now, event, id_)


def undone(state: Stored, name: str) -> str | None:
    """Return the value before the latest change, None when none was stored. Raises Conflict without a change."""
    latest = state.latest(name)
    if latest is None:
        raise Conflict(f"{name} was never changed")
    return latest.before


def known(name: str) -> str:
    """Return the name of a setting that may be stored. Raises NotFound, or InvalidRequest for one of the environment's."""
    if name in KINDS:
        return name
    if name in Settings.model_fields:
        raise InvalidRequest(f"{name} is needed before the log can be read: set {PREFIX}{name.upper()} and start again")
    raise NotFound(f"there is no setting {name}; `kinolog settings list` shows all")


def plain(value: Any) -> Any:
    """Return a value as JSON; a secret one redacted."""
    if isinstance(value, SecretStr):
        return REDACTED if value.get_secret_value() else ""
    return value


def _shown(change: Change) -> SettingChange:
    value, before = (REDACTED if change.sealed and text is not None else text for text in (change.value, change.before))
    return SettingChange(
        version=change.version, value=value, before=before, reason=change.reason, time=change.time, actor=change.actor
    )
