"""Changes of settings while the platform runs: topic `settings`, key = name.

A value is the text that an environment variable would have. A secret one is `sealed`: encrypted with a key that is not on the log.
`version` counts the changes of a setting. Of two changes with the same version the first on the log counts, so that nobody
overwrites a change that they have not seen.
"""

from pydantic import Field

from events.envelope import Event

VALUE_MAX = 4000
"""Characters of a value."""


class SettingChanged(Event, type="kinolog.setting.changed.v1"):
    """A setting has a new value, and why. `before` is the stored value that it replaces, None when there was none."""

    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1)
    value: str = Field(max_length=VALUE_MAX)
    before: str | None = Field(None, max_length=VALUE_MAX)
    sealed: bool = False
    reason: str = Field("", max_length=500)


class SettingReset(Event, type="kinolog.setting.reset.v1"):
    """A setting has no stored value any more: the environment's or the default is in force. `before` is the value removed."""

    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1)
    before: str | None = Field(None, max_length=VALUE_MAX)
    sealed: bool = False
    reason: str = Field("", max_length=500)


SettingEvent = SettingChanged | SettingReset
