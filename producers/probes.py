"""Limits on a file's own description: only as many tracks, and names as long, as fit into every event. Pure."""

from collections.abc import Sequence
from typing import Any, TypeVar

from events.envelope import Value
from events.media import Probe

TRACKS_MAX = 100
TEXT_MAX = 200
"""An analysis reports at most TRACKS_MAX tracks of each kind and TEXT_MAX characters of each text; plans may use fewer."""
WARNINGS_MAX = 50
SENTENCE_MAX = 1000
V = TypeVar("V", bound=Value)
_KINDS = {"audio": "sound tracks", "subtitles": "subtitle tracks", "attachments": "attachments"}


def bounded(probe: Probe, *, tracks_max: int = TRACKS_MAX, text_max: int = TEXT_MAX) -> tuple[Probe, tuple[str, ...]]:
    """Return the probe with the first tracks of each kind and the beginnings of long texts, and a note for each cut."""
    notes: list[str] = []
    changed: dict[str, Any] = {}
    for kind, words in _KINDS.items():
        tracks: Sequence[Value] = getattr(probe, kind)
        if len(tracks) > tracks_max:
            notes.append(f"{len(tracks)} {words}: the first {tracks_max} are used")
        kept = tuple(_clipped(track, text_max) for track in tracks[:tracks_max])
        if kept != tracks[:tracks_max]:
            notes.append(f"long names of {words} are cut to {text_max} characters")
        if kept != tracks:
            changed[kind] = kept
    warnings = tuple(warning[:SENTENCE_MAX] for warning in probe.warnings[:WARNINGS_MAX])
    if warnings != probe.warnings:
        changed["warnings"] = warnings
    return (probe.model_copy(update=changed) if changed else probe), tuple(notes)


def _clipped(value: V, text_max: int) -> V:
    """Return the value with each text cut to at most `text_max` characters."""
    long = {name: text[:text_max] for name, text in value if isinstance(text, str) and len(text) > text_max}
    return value.model_copy(update=long) if long else value
